"""Prompts on the tiny CLIP, and its inputs."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import CLIPModel


@pytest.fixture(scope="session")
def draw_pixels() -> Callable[..., Tensor]:
    """`draw_pixels(batch, seed)`: pixels (batch, 3, 16, 16), float64."""

    def draw(batch: int, seed: int = 0) -> Tensor:
        return torch.randn(batch, 3, 16, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    return draw


@pytest.fixture(scope="session")
def draw_ids() -> Callable[..., Tensor]:
    """`draw_ids(batch, tokens, seed)`: token ids with an EOS somewhere in every row, and padding behind it."""

    def draw(batch: int, tokens: int = 8, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(1, 38, (batch, tokens), generator=generator)
        for row, end in zip(ids, torch.randint(0, tokens, (batch,), generator=generator), strict=True):
            row[end:] = 0
            row[end] = 39
        return ids

    return draw


@pytest.fixture
def clip(make_clip: Callable[..., CLIPModel]) -> CLIPModel:
    """A fresh tiny CLIP, float64, that a test may change."""
    return make_clip()


@pytest.fixture(scope="session")
def shared_clip(make_clip: Callable[..., CLIPModel]) -> CLIPModel:
    """A tiny CLIP, float64, that a test leaves as it was."""
    return make_clip()
