"""Grad-CAM for the image branch: maps of the patches that support a class.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from dpl.classifier import ClipClassifier

IMAGES_AT_ONCE = 16
"""Images in one pass, so that the memory does not grow with the number of images."""


@dataclass(frozen=True, eq=False)
class Seen:
    """Predictions of a model for some images, with Grad-CAM maps."""

    probabilities: Float[Tensor, "images classes"]
    """Class probabilities, 0-1, without gradient."""
    labels: Int[Tensor, "images"]
    """The class of each map."""
    maps: Float[Tensor, "images rows columns"]
    """The maps as `class_maps` returns them."""


def class_maps(
    model: ClipClassifier,
    pixels: UInt8[Tensor, "images 3 size size"],
    labels: Int[Tensor, "images"],
    text_features: Float[Tensor, "classes dim"] | None = None,
) -> Float[Tensor, "images rows columns"]:
    """Computes the Grad-CAM map of one class for each image. Does not change the model.

    With A_k the channel k of the patches after LN1 of the last layer and y the logit of the class,

        weight_k = mean over patches of dy / dA_k,    map = relu(sum_k weight_k A_k),

    divided by its largest value; a map without positive values is all 0. A is taken there because patches reach the logits
    last as keys and values of the last layer: after it, only the class token is read. The map leaves out the class token and
    prompts, which are not patches.

    Args:
        model: the model.
        pixels: images of the backbone's image size.
        labels: the class of each map, an index into the model's classes.
        text_features: the class embeddings; computed if None.

    Returns:
        The maps, 0-1, fp32.
    """
    return see(model, pixels, labels, text_features).maps


def see(
    model: ClipClassifier,
    pixels: UInt8[Tensor, "images 3 size size"],
    labels: Int[Tensor, "images"] | None = None,
    text_features: Float[Tensor, "classes dim"] | None = None,
) -> Seen:
    """Computes class probabilities, and the `class_maps` of one class per image.

    Args:
        model: the model.
        pixels: images of the backbone's image size.
        labels: the class of each map; by default the most probable class of each image.
        text_features: the class embeddings; computed if None.

    Returns:
        Probabilities, classes and maps.
    """
    with torch.inference_mode(False), torch.no_grad():
        # A tensor made in inference mode cannot take part in a gradient; its copy can.
        texts = (model.text_features() if text_features is None else text_features).clone()
        chunks = pixels.split(IMAGES_AT_ONCE)
        given = [None] * len(chunks) if labels is None else labels.to(texts.device).split(IMAGES_AT_ONCE)
        seen = [_see(model, chunk, own, texts) for chunk, own in zip(chunks, given, strict=True)]
    return Seen(
        torch.cat([part.probabilities for part in seen]),
        torch.cat([part.labels for part in seen]),
        torch.cat([part.maps for part in seen]),
    )


def _see(model: ClipClassifier, pixels: Tensor, labels: Tensor | None, texts: Tensor) -> Seen:
    with _followed(model) as kept:
        images = model.image_features(pixels)
    parts = [_classified(model, image, None if labels is None else int(labels[i]), texts) for i, image in enumerate(images)]
    (tokens,) = kept
    (gradient,) = torch.autograd.grad(images, tokens, torch.stack([part[2] for part in parts]))
    side = _side(model)
    patches = slice(1, 1 + side * side)  # behind the class token; context tokens stand behind the patches
    values, weights = tokens.detach()[:, patches].float(), gradient[:, patches].float().mean(dim=1, keepdim=True)
    heat = (values * weights).sum(dim=-1).relu()
    largest = heat.amax(dim=-1, keepdim=True)
    maps = torch.where(largest > 0, heat / largest, torch.zeros_like(heat)).unflatten(-1, (side, side))
    labels = torch.tensor([part[1] for part in parts], device=maps.device)
    return Seen(torch.stack([part[0] for part in parts]), labels, maps)


def _classified(model: ClipClassifier, image: Tensor, label: int | None, texts: Tensor) -> tuple[Tensor, int, Tensor]:
    """Returns an image's probabilities, the class of its map, and the gradient of that logit in the image's embedding.

    Takes one image at a time: a method's texts may depend on the image, and autograd would keep those of all images.
    """
    with torch.enable_grad():
        image = image.detach().requires_grad_(True)
        logits = model.logits(image[None], texts)[0]
        label = int(logits.argmax()) if label is None else label
        (gradient,) = torch.autograd.grad(logits[label], image)
    return logits.detach().softmax(dim=-1), label, gradient


_kept: ContextVar[list[Tensor] | None] = ContextVar("kept", default=None)
_install_lock = Lock()


@contextmanager
def _followed(model: ClipClassifier) -> Iterator[list[Tensor]]:
    """Runs its block under no_grad, but records gradients from the last layer's LN1 on, and yields a list for LN1's output.

    Earlier layers keep nothing for the gradient, and no parameter receives one. The LN1 gets its hook once; the hook does nothing
    in other threads.
    """
    norm = model.backbone.image.layers[-1].norm
    with _install_lock:
        if _follow not in norm._forward_hooks.values():
            norm.register_forward_hook(_follow)
    kept: list[Tensor] = []
    token = _kept.set(kept)
    try:
        with torch.no_grad():
            yield kept
    finally:
        _kept.reset(token)


def _follow(_module: Any, _inputs: Any, output: Tensor) -> Tensor:
    kept = _kept.get()
    if kept is None or output.dim() < 3:  # the layer's prompts pass through the same norm
        return output
    torch.set_grad_enabled(True)  # until the no_grad around this call ends
    kept.append(output.detach().requires_grad_(True))
    return kept[-1]


def _side(model: ClipClassifier) -> int:
    vision: Any = model.backbone.clip.vision_model.config
    return vision.image_size // vision.patch_size
