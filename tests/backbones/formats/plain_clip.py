"""OpenAI's CLIP, written from its paper with the names of its weights: the oracle of the conversions; nothing is fused."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

VOCABULARY = 49408


@dataclass(frozen=True)
class Shape:
    width: int = 64
    layers: int = 2
    heads: int = 1
    patch: int = 4
    grid: int = 3
    text_width: int = 64
    text_layers: int = 1
    text_heads: int = 1
    context: int = 9
    dim: int = 24
    ratio: float = 4
    quick: bool = True
    eps: float = 1e-5


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = x @ self.in_proj_weight.T + self.in_proj_bias
        query, key, value = qkv.view(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        scores = query @ key.transpose(-2, -1) / math.sqrt(width // self.heads) + mask
        return self.out_proj((scores.softmax(-1) @ value).transpose(1, 2).reshape(batch, tokens, width))


class Activation(nn.Module):
    def __init__(self, quick: bool) -> None:
        super().__init__()
        self.quick = quick

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x) if self.quick else x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, shape: Shape) -> None:
        super().__init__()
        self.attn = Attention(width, heads)
        self.ln_1, self.ln_2 = nn.LayerNorm(width, shape.eps), nn.LayerNorm(width, shape.eps)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, int(width * shape.ratio)))
        self.mlp.add_module("gelu", Activation(shape.quick))
        self.mlp.add_module("c_proj", nn.Linear(int(width * shape.ratio), width))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x), mask)
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, width: int, heads: int, layers: int, shape: Shape) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, shape) for _ in range(layers))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        for block in self.resblocks:
            x = block(x, mask)
        return x


class Visual(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, shape.width, shape.patch, shape.patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(shape.width))
        self.positional_embedding = nn.Parameter(torch.empty(shape.grid**2 + 1, shape.width))
        self.ln_pre, self.ln_post = nn.LayerNorm(shape.width, shape.eps), nn.LayerNorm(shape.width, shape.eps)
        self.transformer = Transformer(shape.width, shape.heads, shape.layers, shape)
        self.proj = nn.Parameter(torch.empty(shape.width, shape.dim))

    def forward(self, image: Tensor) -> Tensor:
        patches = self.conv1(image).flatten(2).transpose(1, 2)
        cls = self.class_embedding.expand(len(image), 1, -1)
        x = self.ln_pre(torch.cat([cls, patches], 1) + self.positional_embedding)
        return self.ln_post(self.transformer(x, torch.zeros((), dtype=x.dtype))[:, 0]) @ self.proj


class PlainClip(nn.Module):
    """Returns the logits of images (rows) for texts, which end at their highest token."""

    input_resolution: Tensor

    def __init__(self, shape: Shape, archive: bool = False) -> None:
        super().__init__()
        self.visual = Visual(shape)
        self.transformer = Transformer(shape.text_width, shape.text_heads, shape.text_layers, shape)
        self.token_embedding = nn.Embedding(VOCABULARY, shape.text_width)
        self.positional_embedding = nn.Parameter(torch.empty(shape.context, shape.text_width))
        self.ln_final = nn.LayerNorm(shape.text_width, shape.eps)
        self.text_projection = nn.Parameter(torch.empty(shape.text_width, shape.dim))
        self.logit_scale = nn.Parameter(torch.empty(()))
        mask = torch.full((shape.context, shape.context), float("-inf")).triu(1)
        self.register_buffer("attn_mask", mask, persistent=False)
        if archive:  # as OpenAI's archives
            for name, value in (("input_resolution", 12), ("context_length", shape.context), ("vocab_size", VOCABULARY)):
                self.register_buffer(name, torch.tensor(value))

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        x = self.token_embedding(text) + self.positional_embedding
        x = self.ln_final(self.transformer(x, self.attn_mask))
        texts = x[torch.arange(len(text)), text.argmax(-1)] @ self.text_projection
        images = self.visual(image)
        lengths = images.square().sum(1)[:, None].sqrt() * texts.square().sum(1).sqrt()
        return self.logit_scale.exp() * images @ texts.T / lengths


def plain_clip(shape: Shape, seed: int = 0, archive: bool = False) -> PlainClip:
    """A random CLIP in eval mode whose every weight matters to its logits."""
    generator = torch.Generator().manual_seed(seed)
    clip = PlainClip(shape, archive).eval().requires_grad_(False)
    for name, weight in clip.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        scale = weight[0].numel() ** -0.5 if weight.dim() > 1 and "embedding" not in name and name[-4:] != "proj" else 0.4
        weight.copy_(noise * scale + (1 if ".ln_" in name and name.endswith("weight") else 0))
    clip.logit_scale.fill_(2.0)
    return clip


def halve(clip: PlainClip) -> PlainClip:
    """Half precision where OpenAI's archives have it: all but norms, embeddings and the logit scale."""
    for module in clip.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | Attention):
            module.half()
    clip.visual.proj.data = clip.visual.proj.half()
    clip.text_projection.data = clip.text_projection.half()
    return clip


def draw_inputs(shape: Shape, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Three images, and four texts of all lengths, which end with CLIP's EOS and are filled up with zeros as open_clip does."""
    generator = torch.Generator().manual_seed(seed)
    side = shape.patch * shape.grid
    text = torch.randint(1, VOCABULARY - 2, (4, shape.context), generator=generator)
    for row, length in enumerate(torch.linspace(2, shape.context, 4).long()):
        text[row, length - 1 :] = 0
        text[row, length - 1] = VOCABULARY - 1
    return torch.randn(3, 3, side, side, generator=generator, dtype=torch.float64), text
