"""A way back towards the frozen model: how often each prompt counts, chosen on the validation shots."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from torch import Tensor

from dpl.classifier import Classifier
from dpl.data.task import Item
from dpl.data.transforms import decode
from dpl.evaluate import BATCH_SIZE


@torch.no_grad()
def best_gate(model: Classifier, items: Sequence[Item], gates: Sequence[float]) -> float:
    """The gate (0-1) out of `gates` with the lowest calibrated loss on `items`, the first of equals; leaves the model's alone.

    With few shots trained prompts can do worse than the frozen model; a gate between is a way back that costs nothing, as
    the mean of both models' weights is for fine-tuning (Wortsman et al., "Robust Fine-Tuning of Zero-Shot Models", 2022).
    """
    if len(gates) == 1 or not items:
        return gates[0]
    before, labels = model.gate, torch.tensor([item.label for item in items])
    logits: dict[float, list[Tensor]] = {gate: [] for gate in gates}
    try:
        for start in range(0, len(items), BATCH_SIZE):
            pixels = decode(items[start : start + BATCH_SIZE], model.backbone.image_size)
            for model.gate in logits:
                logits[model.gate].append(model(pixels).cpu())
    finally:
        model.gate = before
    losses = {gate: calibrated_loss(torch.cat(parts), labels) for gate, parts in logits.items()}
    return min(losses, key=lambda gate: losses[gate])


def calibrated_loss(logits: Float[Tensor, "images classes"], labels: Int[Tensor, "images"]) -> float:
    """The lowest cross entropy that the logits have at any temperature from 1/e to e^3.

    Trained prompts are far too sure of themselves; that is no reason to prefer others, as it does not change what is predicted.
    """

    def loss(log_scale: float) -> float:
        return F.cross_entropy(logits.double() * math.exp(log_scale), labels).item()

    found: Any = minimize_scalar(loss, bounds=(-3, 1), method="bounded")
    return float(found.fun)
