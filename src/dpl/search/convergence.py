"""Measures the convergence of a search from its alphas.

The paper plots both quantities without a formula; these are our interpretation (docs/method.md, "The search stage").
"""

from collections.abc import Sequence

import torch

Alphas = Sequence[Sequence[float]]


def alpha_difference(before: Alphas, after: Alphas) -> float:
    """Computes the mean absolute change of softmax(alpha) over all layers and options.

    Args:
        before: raw alphas, (layers, options).
        after: raw alphas, (layers, options).

    Returns:
        A number from 0 (no change) to below 1.

    Example:

        >>> alpha_difference([[0.0, 0.0]], [[0.0, 0.0]])
        0.0
    """
    change = torch.tensor(after).softmax(dim=-1) - torch.tensor(before).softmax(dim=-1)
    return change.abs().mean().item()


def dominants(alphas: Alphas) -> int:
    """Counts the single-dominant rows (layers): their largest probability exceeds the sum of all others (> 0.5).

    Args:
        alphas: raw alphas, (layers, options).

    Example:

        >>> dominants([[3.0, 0.0, 0.0], [0.1, 0.0, 0.0]])
        1
    """
    return int((torch.tensor(alphas).softmax(dim=-1).amax(dim=-1) > 0.5).sum())
