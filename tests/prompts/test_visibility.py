"""The kernel for other devices than the CPU is plain PyTorch, so it is held against the CPU's here."""

import pytest
import torch

from dpl.prompts import visibility as t
from dpl.prompts.attention import mixture_attention

from .compare import gradients, largest_difference


def inputs(seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    heads = [torch.randn(2, 3, 5, 4, generator=generator, dtype=torch.float64) for _ in range(3)]
    prompts = [torch.randn(3, 6, 4, generator=generator, dtype=torch.float64) for _ in range(2)]
    weights = torch.randn(4, generator=generator, dtype=torch.float64).softmax(dim=0)
    return [tensor.requires_grad_() for tensor in (*heads, *prompts, weights)]


@pytest.mark.parametrize("mask", ["none", "causal", "a query sees nothing"])
def test_the_mixture_is_the_same_with_either_kernel(monkeypatch: pytest.MonkeyPatch, mask: str):
    seen = torch.ones(5, 5).tril(-1 if mask == "a query sees nothing" else 0).bool()[None, None]
    tokens = t.MaskedTokens(None if mask == "none" else seen)
    results = []
    for kernel in (t._FlashOnCpu, t._Plain):
        monkeypatch.setattr(t, "_kernels", lambda query, kernel=kernel: kernel)
        leaves = inputs()
        query, key, value, prompt_key, prompt_value, weights = leaves
        output = mixture_attention(query, key, value, prompt_key, prompt_value, weights, (0, 1, 2, 3), tokens)
        results.append([output, *gradients([output], leaves)])
    assert all(tensor.isfinite().all() for tensor in results[1])
    assert largest_difference(results[1], results[0]) < 1e-10


def test_packed_texts_are_the_same_with_either_kernel(monkeypatch: pytest.MonkeyPatch):
    packed = t.Packed(2, (t.Group(2, 2, 1), t.Group(4, 1, 3)))
    generator = torch.Generator().manual_seed(1)
    results = []
    row = [torch.randn(1, 3, 7, 4, generator=generator, dtype=torch.float64) for _ in range(3)]
    for kernel in (t._FlashOnCpu, t._Plain):
        monkeypatch.setattr(t, "_kernels", lambda query, kernel=kernel: kernel)
        leaves = [tensor.clone().requires_grad_() for tensor in (*row, *inputs()[3:])]
        query, key, value, prompt_key, prompt_value, weights = leaves
        output = mixture_attention(query, key, value, prompt_key, prompt_value, weights, (0, 1, 2, 3), packed)
        results.append([output, *gradients([output], leaves)])
    assert largest_difference(results[1], results[0]) < 1e-10
