"""Grad-CAM for the image branch: which patches of an image speak for a class.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from dpl.classifier import ClipClassifier

IMAGES_AT_ONCE = 16
"""So that many images need no more memory than these."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What a model makes of some images, and where it looks."""

    probabilities: Float[Tensor, "images classes"]
    """Of the classes, 0-1, without gradient."""
    labels: Int[Tensor, "images"]
    """The class that each map is of."""
    maps: Float[Tensor, "images rows columns"]
    """As `class_maps` has them."""


def class_maps(
    model: ClipClassifier,
    pixels: UInt8[Tensor, "images 3 size size"],
    labels: Int[Tensor, "images"],
    text_features: Float[Tensor, "classes dim"] | None = None,
) -> Float[Tensor, "images rows columns"]:
    """Where each image, uint8 pixels of the backbone's image size, has what speaks for the class `labels` names: 0-1, fp32.

    With A_k the channel k of the patches behind LN1 of the last layer and y the logit of the class,

        weight_k = mean over patches of dy / dA_k,    map = relu(sum_k weight_k A_k),

    divided by its largest value; a map is all 0 where nothing is positive. It is there that A is taken since the last place
    where a patch reaches the logits is as a key and a value of the last layer: behind it only the class token is read.
    The class token and prompts are not patches, and not in the map. `text_features` are the class embeddings, where they are
    known; computed otherwise. Nothing of the model is changed.
    """
    return see(model, pixels, labels, text_features).maps


def see(
    model: ClipClassifier,
    pixels: UInt8[Tensor, "images 3 size size"],
    labels: Int[Tensor, "images"] | None = None,
    text_features: Float[Tensor, "classes dim"] | None = None,
) -> Seen:
    """The probabilities, and `class_maps` of each image's class: the one in `labels`, without them the most probable one."""
    with torch.inference_mode(False), torch.no_grad():
        # A copy, so that one made in inference mode may take part in a gradient.
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
    """An image's probabilities, the class asked about, and the derivative of its logit by the image's embedding.

    One image at a time, as the texts of a method may depend on the image, and would all be kept for the gradient.
    """
    with torch.enable_grad():
        image = image.detach().requires_grad_(True)
        logits = model.logits(image[None], texts)[0]
        label = int(logits.argmax()) if label is None else label
        (gradient,) = torch.autograd.grad(logits[label], image)
    return logits.detach().softmax(dim=-1), label, gradient


@contextmanager
def _followed(model: ClipClassifier) -> Iterator[list[Tensor]]:
    """Inside, which is under no_grad, gradients are followed from the last layer's LN1 on; its output goes into the list.

    What comes before it keeps nothing for the gradient, and no parameter gets one.
    """
    kept: list[Tensor] = []

    def follow(_module: Any, _inputs: Any, output: Tensor) -> Tensor:
        if output.dim() < 3:  # the layer's prompts, which pass through the same norm
            return output
        torch.set_grad_enabled(True)  # until the no_grad around this call ends
        kept.append(output.detach().requires_grad_(True))
        return kept[-1]

    hook = model.backbone.image.layers[-1].norm.register_forward_hook(follow)
    try:
        with torch.no_grad():
            yield kept
    finally:
        hook.remove()


def _side(model: ClipClassifier) -> int:
    vision: Any = model.backbone.clip.vision_model.config
    return vision.image_size // vision.patch_size
