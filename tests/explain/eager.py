"""Attention written out over explicit sequences, in float64, one text or image at a time: what the shares must be."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dpl import Backbone
from tests.prompts.oracle import linear, norm


@dataclass
class Sequenced:
    """One sample: its states in front of the first layer, (tokens, width), which are context tokens, and how many can be seen."""

    states: Tensor
    context: Tensor
    causal: bool
    asked: int
    """The token that the last layer is asked at."""


def shares(blocks: Sequence[Any], sample: Sequenced, prompts: Sequence[Tensor], scale: float, deep: Sequence[Tensor]) -> Tensor:
    """(layers, heads): the mean over the queries of what goes to `prompts`, keys and values only, or to context tokens.

    A prompt counts `scale` times. `deep` replaces the context tokens in front of layers 1, 2, ...
    """
    x, context, rows = sample.states.clone(), sample.context, []
    may_see = torch.ones(len(x), len(x)).bool()
    may_see = may_see.tril() if sample.causal else may_see
    for index, (block, own) in enumerate(zip(blocks, prompts, strict=True)):
        if 0 < index <= len(deep):
            x[context] = deep[index - 1].double()
        x, share = _layer(block, x, own.double(), scale, may_see, context)
        queries = torch.zeros(len(x)).bool().index_fill(0, torch.tensor(sample.asked), True)
        rows.append(share[:, queries if index == len(blocks) - 1 else ~context].mean(dim=1))
    return torch.stack(rows)


def _layer(block: Any, x: Tensor, prompts: Tensor, scale: float, may_see: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
    attention, heads, share = block.self_attn, [], []
    seen = norm(block.layer_norm1, torch.cat([x, prompts]))
    query, key, value = (
        linear(attention.q_proj, seen[: len(x)]),
        linear(attention.k_proj, seen),
        linear(attention.v_proj, seen),
    )
    for head in range(attention.num_heads):
        own = slice(head * attention.head_dim, (head + 1) * attention.head_dim)
        weights = (query[:, own] @ key[:, own].T / attention.head_dim**0.5).exp()
        weights = weights * torch.cat([may_see.double(), torch.full((len(x), len(prompts)), scale).double()], dim=1)
        weights = weights / weights.sum(dim=1, keepdim=True)
        heads.append(weights @ value[:, own])
        share.append(weights[:, torch.cat([context, torch.ones(len(prompts)).bool()])].sum(dim=1))
    x = x + linear(attention.out_proj, torch.cat(heads, dim=1))
    inner = linear(block.mlp.fc1, norm(block.layer_norm2, x))
    return x + linear(block.mlp.fc2, inner * torch.sigmoid(1.702 * inner)), torch.stack(share)


def image(backbone: Backbone, pixels: Tensor, context: Tensor) -> Sequenced:
    """[CLS] [patches] and the context tokens, of uint8 pixels (3, size, size)."""
    model: Any = backbone.clip.vision_model
    kernel = model.embeddings.patch_embedding.weight
    patch, grid = kernel.shape[-1], pixels.shape[-1] // kernel.shape[-1]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (backbone.preprocessing.mean, backbone.preprocessing.std))
    scaled = ((pixels.float() / 255 - mean) / std).double()
    patches = scaled.view(3, grid, patch, grid, patch).permute(1, 3, 0, 2, 4).reshape(grid * grid, -1)
    states = torch.cat([model.embeddings.class_embedding[None], patches @ kernel.reshape(len(kernel), -1).T])
    states = torch.cat([states + model.embeddings.position_embedding.weight, context.double()])
    own = torch.arange(len(states)) >= grid * grid + 1
    return Sequenced(norm(model.pre_layrnorm, states), own, causal=False, asked=0)


def text(backbone: Backbone, ids: Sequence[int], context: Tensor, places: Sequence[int]) -> Sequenced:
    """The ids from SOS to EOS and padding behind them that is never asked; the context tokens stand at `places`."""
    model: Any = backbone.clip.text_model
    states = model.embeddings.token_embedding.weight[torch.tensor(ids)].clone()
    own = torch.zeros(len(ids)).bool().index_fill(0, torch.tensor(places, dtype=torch.long), True)
    states[own] = context.double()
    return Sequenced(states + model.embeddings.position_embedding.weight[: len(ids)], own, causal=True, asked=len(ids) - 1)
