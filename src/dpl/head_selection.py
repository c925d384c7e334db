"""The choice of a head by cross-validation on the shots (docs/heads.md)."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from dpl.config import HeadName
from dpl.heads import TEXT, Head, HeadSettings, Shots, class_weights, fit_residual
from dpl.utils.rng import generator

RATIOS = (1.0, 0.25)
DECAYS = (5e-4, 2e-4, 5e-5, 2e-5, 5e-6, 2e-6)
RESIDUALS = tuple(HeadSettings(ratio, decay) for ratio in RATIOS for decay in DECAYS)
UNTESTED = HeadSettings(1.0, 5e-5)
"""The settings for shots without a class of two images, where nothing can be held out."""
FOLDS = 5
SEARCH_STEPS = 30
"""Largest number of iterations of L-BFGS in the cross-validation."""


def folds(labels: Int64[Tensor, "images"], seed: int) -> Int64[Tensor, "images"]:
    """Assigns images to `FOLDS` folds, class by class, so that the images of a class lie in as many folds as they can.

    Args:
        labels: the classes of the images.
        seed: seed of the assignment.

    Returns:
        The fold of every image; -1 for the only image of a class, which always stays among the images that are learned from.
    """
    assigned, start = torch.full_like(labels, -1), 0
    for label in labels.unique():
        own = (labels == label).nonzero()[:, 0]
        if len(own) < 2:
            continue
        order = torch.randperm(len(own), generator=generator(seed, "head", "folds", int(label)))
        assigned[own[order.to(own.device)]] = (start + torch.arange(len(own), device=own.device)) % FOLDS
        start += len(own)
    return assigned


def held_out_logits(
    shots: Shots, assigned: Int64[Tensor, "images"], scored: Bool[Tensor, "images"], candidates: Sequence[HeadSettings]
) -> dict[HeadSettings, Float64[Tensor, "scored classes"]]:
    """Computes the logits of the scored images by heads that are fitted without the fold of the image.

    Args:
        shots: the images.
        assigned: the fold of every image, as from `folds`.
        scored: the images to compute logits of; each is in a fold.
        candidates: the settings of the heads.

    Returns:
        Logits by settings, in the order of the images.
    """
    places = scored.cumsum(0) - 1
    found = {settings: shots.text_logits[scored].clone() for settings in candidates}
    for fold in assigned[scored].unique():
        out = scored & (assigned == fold)
        rest, new = shots.select(assigned != fold), shots.select(out)
        for settings, residual in _path(rest, candidates):
            found[settings][places[out]] = Head(residual, settings).logits(new.text_logits, new.image_features, new.scale)
    return found


def _path(shots: Shots, candidates: Sequence[HeadSettings]) -> Iterator[tuple[HeadSettings, Float64[Tensor, "classes dim"]]]:
    """Fits the candidates that have a residual; each starts at the solution of the one before of the same ratio."""
    residuals = (settings for settings in candidates if settings.weight_decay is not None)
    for _, group in groupby(residuals, key=lambda settings: settings.ratio):
        residual = None
        for settings in group:
            residual = fit_residual(shots, settings, residual, SEARCH_STEPS)
            yield settings, residual


def calibrated_losses(logits: Float[Tensor, "images classes"], labels: Int64[Tensor, "images"]) -> Float64[Tensor, "images"]:
    """Computes the parts of the images in the lowest class-balanced cross entropy over temperatures from 1/e to e^3.

    Trained prompts are overconfident. The temperature does not change the predictions, so overconfidence should not decide.

    Args:
        logits: (images, classes).
        labels: (images,).

    Returns:
        The parts, whose sum is the cross entropy.
    """
    from scipy.optimize import minimize_scalar

    weights, logits = class_weights(labels), logits.double()

    def parts(log_scale: float) -> Tensor:
        return weights * F.cross_entropy(logits * math.exp(log_scale), labels, reduction="none")

    found: Any = minimize_scalar(lambda log_scale: parts(log_scale).sum().item(), bounds=(-3, 1), method="bounded")
    return parts(float(found.x))


def calibrated_loss(logits: Float[Tensor, "images classes"], labels: Int64[Tensor, "images"]) -> float:
    """Computes the sum of `calibrated_losses`."""
    return calibrated_losses(logits, labels).sum().item()


@dataclass(frozen=True)
class HeadChoice:
    """A choice of a head by cross-validation; the losses are those of `calibrated_loss` on the images held out."""

    settings: HeadSettings = TEXT
    held_out: int = 0
    """Number of images that the losses were measured on; 0: nothing was measured."""
    loss: float = 0.0
    text_loss: float = 0.0
    """The loss of the text head on the same images."""

    def record(self) -> dict[str, Any]:
        """Returns the choice as metrics.json has it; the losses only if they were measured."""
        settings = self.settings
        kind = "text" if settings.weight_decay is None else "residual"
        losses = {"loss": self.loss, "text_loss": self.text_loss} if self.held_out else {}
        return {"kind": kind, "weight_decay": settings.weight_decay, "ratio": settings.ratio, "held_out": self.held_out, **losses}


def choose(shots: Shots, unseen: Bool[Tensor, "images"], kind: HeadName, seed: int) -> HeadChoice:
    """Chooses the settings of a head by `FOLDS`-fold cross-validation over all shots.

    Heads are fitted to the images of the other folds, training and validation together. The loss is measured on the validation
    images alone, if there are any in a fold: the prompts were trained on the other images, whose text logits are better than
    those of new images, and would speak for the text head.

    Args:
        shots: training and validation images.
        unseen: which of them the training has not seen.
        kind: "text", "residual", or "auto", which takes the text head only if its loss is lower than that of the best residual
            head by more than the standard error of the difference.
        seed: seed of the folds.

    Returns:
        The choice, of the first of equals. Where no class has two images, residual heads have the settings `UNTESTED`.
    """
    assigned = folds(shots.labels, seed)
    scored = assigned >= 0
    if kind == "text" or not scored.any():
        return HeadChoice(TEXT if kind == "text" else UNTESTED)
    scored = scored & unseen if (scored & unseen).any() else scored
    labels, logits = shots.labels[scored], held_out_logits(shots, assigned, scored, RESIDUALS)
    losses = {settings: calibrated_losses(logits[settings], labels) for settings in RESIDUALS}
    best, text = min(RESIDUALS, key=lambda settings: losses[settings].sum()), calibrated_losses(shots.text_logits[scored], labels)
    if kind == "auto" and len(labels) > 1:
        gain = losses[best] - text
        best = TEXT if gain.sum() > gain.std() * math.sqrt(len(labels)) else best
    return HeadChoice(best, len(labels), losses.get(best, text).sum().item(), text.sum().item())


def choose_among(
    variants: Sequence[Shots], unseen: Bool[Tensor, "images"], kind: HeadName, seed: int
) -> tuple[int, HeadChoice, Head | None]:
    """Chooses a head, and one of several models of the same shots, by the lowest loss, and fits it to all shots.

    Args:
        variants: the shots as each of the models sees them.
        unseen: which of them the training has not seen.
        kind: the kind of head, as for `choose`.
        seed: seed of the folds.

    Returns:
        Index of the model; the choice, with the `text_loss` of the first model; and the head, none for the text head.
    """
    choices = [choose(shots, unseen, kind, seed) for shots in variants]
    index = min(range(len(variants)), key=lambda place: choices[place].loss)
    choice = replace(choices[index], text_loss=choices[0].text_loss)
    if choice.settings == TEXT:
        return index, choice, None
    return index, choice, Head(fit_residual(variants[index], choice.settings).float(), choice.settings)
