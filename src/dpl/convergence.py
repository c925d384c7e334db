"""How far a search has converged, read off its alphas.

The paper plots both quantities without a formula; these are our reading (method.md, "Search stage").
"""

from collections.abc import Sequence

import torch

Alphas = Sequence[Sequence[float]]


def alpha_difference(before: Alphas, after: Alphas) -> float:
    """Mean absolute change of softmax(alpha) over all layers and options; 0 where nothing moved, below 1 always."""
    change = torch.tensor(after).softmax(dim=-1) - torch.tensor(before).softmax(dim=-1)
    return change.abs().mean().item()


def dominants(alphas: Alphas) -> int:
    """How many rows (layers) are single-dominant: their largest probability exceeds the sum of all others (> 0.5)."""
    return int((torch.tensor(alphas).softmax(dim=-1).amax(dim=-1) > 0.5).sum())
