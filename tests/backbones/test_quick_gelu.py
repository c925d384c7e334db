"""QuickGELU in less memory: transformers' values and gradients bit by bit, with one tensor kept for the backward pass."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.activations import QuickGELUActivation

from dpl.backbones.loading import load_backbone
from dpl.backbones.quick_gelu import QuickGelu

from .standins import STAND_INS, write


def _kept(activation: torch.nn.Module, x: Tensor) -> set[int]:
    """Returns the storages that autograd keeps for the backward pass of `activation`."""
    kept: set[int] = set()

    def pack(tensor: Tensor) -> Tensor:
        kept.add(tensor.untyped_storage().data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        activation(x)
    return kept


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_values_and_gradients_are_those_of_transformers(dtype):
    drawn = torch.Generator().manual_seed(0)
    x = (4 * torch.randn(3, 7, 33, generator=drawn)).to(dtype)
    x[0, 0, :4] = torch.tensor([0.0, -100.0, 100.0, float("inf")])
    upstream = torch.randn(x.shape, generator=drawn).to(dtype)
    results = []
    for activation in (QuickGelu(), QuickGELUActivation()):
        own = x.clone().requires_grad_(True)
        output = activation(own)
        output.backward(upstream)
        assert torch.equal(own.detach(), x)
        results.append((output.detach(), own.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


def test_only_the_input_is_kept():
    x = torch.randn(5, 8, requires_grad=True)
    assert _kept(QuickGelu(), x) == {x.untyped_storage().data_ptr()}
    assert len(_kept(QuickGELUActivation(), x)) == 2


def test_a_loaded_backbone_computes_with_it(tmp_path):
    write(STAND_INS[0], tmp_path / "clip")
    backbone = load_backbone(str(tmp_path / "clip"), "cpu")
    blocks: list[Any] = [layer.block for branch in (backbone.image, backbone.text) for layer in branch.layers]
    kinds = [type(block.mlp.activation_fn) for block in blocks]
    assert kinds == [QuickGelu] * len(kinds)
