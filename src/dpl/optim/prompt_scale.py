"""Chooses the prompt scale of a trained model on the validation shots: 0 is the frozen model, 1 the trained one."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dpl.classifier import Classifier
from dpl.data.pixels.store import ImageStore
from dpl.data.task import Item
from dpl.evaluate import images_at_once
from dpl.head_selection import calibrated_loss


@torch.no_grad()
def best_prompt_scale(
    model: Classifier, items: Sequence[Item], candidates: Sequence[float], images: ImageStore | None = None
) -> float:
    """Chooses the prompt scale with the lowest calibrated loss on `items`; restores the model's own scale.

    With few shots, trained prompts can be worse than the frozen model. A scale between 0 and 1 interpolates between the two at
    no cost, as the mean of both models' weights does for fine-tuning (Wortsman et al., "Robust Fine-Tuning of Zero-Shot
    Models", 2022).

    Args:
        model: the trained classifier.
        items: the validation shots.
        candidates: prompt scales, 0-1, at least one.
        images: decoded images of the run; by default the items are decoded.

    Returns:
        The best of `candidates`, the first of equals; the first of all without `items`.

    Raises:
        DplError: an image cannot be read.
    """
    if len(candidates) == 1 or not items:
        return candidates[0]
    reader, size = (images or ImageStore()).evaluation(model.backbone.preprocessing), images_at_once(model.backbone)
    before, labels = model.prompt_scale, torch.tensor([item.label for item in items])
    logits: dict[float, list[Tensor]] = {scale: [] for scale in candidates}
    try:
        for start in range(0, len(items), size):
            pixels = reader.stack(items[start : start + size])
            for model.prompt_scale in logits:
                logits[model.prompt_scale].append(model(pixels).cpu())
    finally:
        model.prompt_scale = before
    losses = {scale: calibrated_loss(torch.cat(parts), labels) for scale, parts in logits.items()}
    return min(losses, key=lambda scale: losses[scale])
