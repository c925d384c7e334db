"""A prompted CLIP branch written from docs/method.md alone: plain, slow, without code of dpl or of transformers' attention.

A layer's prompts are given as its options: (weight, rows) pairs, rows (length, width). Every option has its own LN1([x ; P]),
its own K and V projections and its own softmax attention, and the layer's attention is the weighted sum. A fixed layout is
one option of weight 1 per layer, the plain layer one option of weight 1 without rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPModel

Options = Sequence[tuple[Tensor | float, Tensor]]


@dataclass
class Outcome:
    """`hidden`: (batch, tokens, width), the last states as transformers gives them; `pooled`: (batch, width)."""

    hidden: Tensor
    pooled: Tensor


def mixture(alphas: Tensor, prompts: Sequence[Tensor]) -> Options:
    """The options of a search layer: no prompt, then each of `prompts`, weighted by softmax(alphas)."""
    weights = alphas.exp() / alphas.exp().sum()
    return list(zip(weights, [prompts[0][:0], *prompts], strict=True))


def image_branch(clip: CLIPModel, pixels: Tensor, layers: Sequence[Options]) -> Outcome:
    """Pixels (batch, 3, size, size), one `Options` per layer."""
    model: Any = clip.vision_model
    kernel = model.embeddings.patch_embedding.weight
    patch = kernel.shape[-1]
    batch, _, size, _ = pixels.shape
    grid = size // patch
    patches = pixels.reshape(batch, 3, grid, patch, grid, patch).permute(0, 2, 4, 1, 3, 5).reshape(batch, grid * grid, -1)
    x = torch.cat([model.embeddings.class_embedding.expand(batch, 1, -1), patches @ kernel.reshape(len(kernel), -1).T], dim=1)
    x = norm(model.pre_layrnorm, x + model.embeddings.position_embedding.weight)
    may_see = torch.ones(batch, x.shape[1], x.shape[1], dtype=torch.bool)
    for block, options in zip(model.encoder.layers, layers, strict=True):
        x = layer(block, x, options, may_see)
    return Outcome(x, norm(model.post_layernorm, x[:, 0]))


def text_branch(clip: CLIPModel, ids: Tensor, layers: Sequence[Options], padding: Tensor | None = None) -> Outcome:
    """Token ids (batch, tokens); `padding` is 1 for the tokens that may be seen. Pooled at the first EOS."""
    model: Any = clip.text_model
    batch, tokens = ids.shape
    x = model.embeddings.token_embedding.weight[ids] + model.embeddings.position_embedding.weight[:tokens]
    may_see = torch.ones(tokens, tokens).tril().bool().expand(batch, tokens, tokens)
    if padding is not None:
        may_see = may_see & padding.bool()[:, None, :]
    for block, options in zip(model.encoder.layers, layers, strict=True):
        x = layer(block, x, options, may_see)
    x = norm(model.final_layer_norm, x)
    eos = model.config.eos_token_id
    return Outcome(x, torch.stack([row[own.tolist().index(eos)] for row, own in zip(x, ids, strict=True)]))


def layer(block: Any, x: Tensor, options: Options, may_see: Tensor) -> Tensor:
    """x += Out(sum of weight * Attention(Q(LN1(x)), K and V(LN1([x ; P])))); x += MLP(LN2(x))."""
    attention, mlp = block.self_attn, block.mlp
    query = linear(attention.q_proj, norm(block.layer_norm1, x))
    mixed = torch.zeros_like(x)
    for weight, rows in options:
        seen = norm(block.layer_norm1, torch.cat([x, rows.expand(len(x), -1, -1)], dim=1))
        visible = torch.cat([may_see, torch.ones(*may_see.shape[:2], len(rows), dtype=torch.bool)], dim=2)
        key, value = linear(attention.k_proj, seen), linear(attention.v_proj, seen)
        mixed = mixed + weight * attend(query, key, value, visible, attention.head_dim)
    x = x + linear(attention.out_proj, mixed)
    inner = linear(mlp.fc1, norm(block.layer_norm2, x))
    return x + linear(mlp.fc2, inner * torch.sigmoid(1.702 * inner))


def attend(query: Tensor, key: Tensor, value: Tensor, visible: Tensor, width: int) -> Tensor:
    """Softmax attention, one head of `width` after the other."""
    heads = []
    for start in range(0, query.shape[-1], width):
        q, k, v = (part[..., start : start + width] for part in (query, key, value))
        scores = q @ k.transpose(1, 2) / width**0.5
        heads.append(torch.softmax(scores.masked_fill(~visible, -torch.inf), dim=-1) @ v)
    return torch.cat(heads, dim=-1)


def linear(module: Any, x: Tensor) -> Tensor:
    """x W^T + b."""
    return x @ module.weight.T + module.bias


def norm(module: Any, x: Tensor) -> Tensor:
    """Layer normalisation over the last axis."""
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = centred.pow(2).mean(dim=-1, keepdim=True)
    return centred / (variance + module.eps).sqrt() * module.weight + module.bias
