"""QuickGELU, x sigmoid(1.702 x), the activation of OpenAI's CLIP, in less memory than transformers' module takes."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.activations import QuickGELUActivation

SLOPE = 1.702


class QuickGelu(nn.Module):
    """Computes transformers' QuickGELUActivation and its gradient, bit by bit.

    Autograd keeps the input only, and the backward pass computes the sigmoid again. transformers' module keeps the sigmoid too;
    in a training step both together are more than half of what a frozen layer keeps. It also holds one more tensor of that size
    during the forward pass.
    """

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Computes x sigmoid(1.702 x)."""
        return _QuickGelu.apply(x)


def replace_quick_gelu(model: nn.Module) -> None:
    """Puts a `QuickGelu` in the place of every QuickGELUActivation in `model`; neither has parameters."""
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, QuickGELUActivation):
                setattr(module, name, QuickGelu())


class _QuickGelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (SLOPE * x).sigmoid_().mul_(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        # The operations are those of autograd: any other order changes the last bits.
        (x,), (gradient,) = ctx.saved_tensors, gradients
        sigmoid = (SLOPE * x).sigmoid_()
        through = torch.ops.aten.sigmoid_backward(gradient * x, sigmoid).mul_(SLOPE)
        return through.add_(sigmoid.mul_(gradient))
