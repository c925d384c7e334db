"""Low-rank additions to frozen linear layers (LoRA, arXiv:2106.09685), for the calls of the running thread.

A linear layer gets one hook, when it first has an addition. The hook looks up the addition of the running context, so that any
number of threads can use one backbone with different additions.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from threading import Lock
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import skip_init

T = TypeVar("T")
_install_lock = Lock()


class LowRank(nn.Module):
    """Computes scale B A dropout(x).

    Args:
        down: the initial A, (rank, inputs).
        outputs: number of rows of B, which starts at 0.
        scale: factor of the addition, such as alpha / sqrt(rank).
        dropout: probability that an input is left out, 0 to below 1.
    """

    def __init__(self, down: Float[Tensor, "rank inputs"], outputs: int, scale: float, dropout: float) -> None:
        super().__init__()
        rank, inputs = down.shape
        # Without the initialisation of nn.Linear, which would draw from the process's generator.
        self.A, self.B = (skip_init(nn.Linear, *shape, bias=False) for shape in ((inputs, rank), (rank, outputs)))
        self.A.weight, self.B.weight = nn.Parameter(down), nn.Parameter(torch.zeros(outputs, rank, device=down.device))
        self.scale, self.dropout = scale, dropout

    def forward(self, inputs: Float[Tensor, "*batch inputs"], draws: torch.Generator | None = None) -> Tensor:
        """Computes the addition.

        Args:
            inputs: (..., inputs), the inputs of the frozen layer.
            draws: the generator of dropout, on the device of `inputs`; None: nothing is left out.

        Returns:
            (..., outputs).
        """
        inputs = inputs.to(next(self.A.parameters()).dtype)
        if draws is not None and self.dropout:
            kept = torch.empty_like(inputs).bernoulli_(1 - self.dropout, generator=draws)
            inputs = inputs * kept / (1 - self.dropout)
        return self.B(self.A(inputs)) * self.scale


_additions: ContextVar[Mapping[nn.Module, LowRank]] = ContextVar("additions", default=MappingProxyType({}))
_draws: ContextVar[torch.Generator | None] = ContextVar("draws", default=None)


@contextmanager
def with_low_rank(additions: Mapping[nn.Module, LowRank]) -> Iterator[None]:
    """Context manager: the layers compute W x + b plus their addition inside, in the running thread; other additions end.

    Args:
        additions: the addition of each frozen linear layer.
    """
    with _install_lock:
        for layer in additions:
            if _add not in layer._forward_hooks.values():
                layer.register_forward_hook(_add)
    with _set(_additions, additions):
        yield


def with_dropout(draws: torch.Generator) -> AbstractContextManager[None]:
    """Context manager: additions leave out inputs inside, in the running thread, by the draws of the generator."""
    return _set(_draws, draws)


@contextmanager
def _set(variable: ContextVar[T], value: T) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def _add(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    addition = _additions.get().get(layer)
    return output if addition is None else (output + addition(inputs[0], _draws.get())).to(output.dtype)
