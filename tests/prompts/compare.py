"""How results and gradients are compared in this room."""

from collections.abc import Sequence

import torch
from torch import Tensor


def pull(tensors: Sequence[Tensor]) -> Tensor:
    """A random but fixed linear function of all entries, so that every entry counts in a gradient."""
    generator = torch.Generator().manual_seed(99)
    sums = [(t.double() * torch.randn(t.shape, generator=generator, dtype=torch.float64)).sum() for t in tensors]
    return torch.stack(sums).sum()


def gradients(outputs: Sequence[Tensor], leaves: Sequence[Tensor]) -> list[Tensor]:
    """The gradients of `pull(outputs)`, zeros for what the outputs do not depend on."""
    return list(torch.autograd.grad(pull(outputs), leaves, allow_unused=True, materialize_grads=True))


def largest_difference(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """Largest absolute difference, relative to the largest value of its tensor where that is above 1."""
    assert [tensor.shape for tensor in ours] == [tensor.shape for tensor in theirs]
    return max(
        ((a.double() - b.double()).abs().max() / b.double().abs().max().clamp(min=1)).item() if b.numel() else 0.0
        for a, b in zip(ours, theirs, strict=True)
    )
