"""Seeded draws, coordinates and the patterns made of them: fills of shapes and textures of whole images.

Coordinates are (x, y) in [-1, 1]; a pattern is float[batch, SIZE, SIZE], how much of the second colour shows, in [0, 1].
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor

SIZE = 48


def generator(*key: int) -> Generator:
    """A generator that depends on the key alone (seed, stream, step), so that any step can be drawn afresh."""
    return Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1)))


def uniform(g: Generator, low: float, high: float, *shape: int) -> Tensor:
    """Uniform draws in [low, high)."""
    return torch.rand(shape, generator=g) * (high - low) + low


def chance(g: Generator, probability: float, count: int) -> Tensor:
    """Independent yes/no draws."""
    return torch.rand(count, generator=g) < probability


def pixels() -> Float[Tensor, "SIZE SIZE 2"]:
    """(x, y) of the pixel centres."""
    line = (torch.arange(SIZE) + 0.5) * (2 / SIZE) - 1
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)


def smooth_noise(g: Generator, count: int, channels: int, nodes: int) -> Float[Tensor, "count channels SIZE SIZE"]:
    """Standard normal draws on nodes x nodes points, bicubically enlarged."""
    coarse = torch.randn(count, channels, nodes, nodes, generator=g)
    return F.interpolate(coarse, (SIZE, SIZE), mode="bicubic", align_corners=True)


def fill(pattern: Tensor, q: Tensor, g: Generator) -> Float[Tensor, "batch SIZE SIZE"]:
    """How much of the second colour shows: 0 for solid, else stripes, dots or checks in the shape's own coordinates."""
    count = len(pattern)
    period = uniform(g, 0.38, 0.6, count)[:, None, None]
    angle = uniform(g, 0, math.pi, count)[:, None, None]
    x, y = q[..., 0] * angle.cos() + q[..., 1] * angle.sin(), q[..., 1] * angle.cos() - q[..., 0] * angle.sin()
    wave_x, wave_y = torch.sin(2 * math.pi * x / period), torch.sin(2 * math.pi * y / period)
    striped = torch.sigmoid(6 * wave_x)
    dotted = torch.sigmoid(8 * (wave_x + wave_y - 0.75))
    checkered = torch.sigmoid(8 * wave_x * wave_y)
    kinds = torch.stack([torch.zeros_like(striped), striped, dotted, checkered])
    return kinds[pattern.clamp(min=0), torch.arange(count)]


def texture_masks(texture: Tensor, g: Generator) -> Float[Tensor, "batch SIZE SIZE"]:
    """How much of the second colour shows in a whole-image texture."""
    count = len(texture)
    p = pixels()[None] + smooth_noise(g, count, 2, 4).permute(0, 2, 3, 1) * 0.02
    k = (2 * math.pi / uniform(g, 0.22, 0.55, count))[:, None, None]
    tilt = uniform(g, -0.12, 0.12, count)[:, None, None]
    phase = uniform(g, 0, 2 * math.pi, count)[:, None, None]
    x, y = p[..., 0] + tilt * p[..., 1], p[..., 1] - tilt * p[..., 0]
    sign = torch.where(chance(g, 0.5, count), 1.0, -1.0)[:, None, None]
    wx, wy = torch.sin(k * x + phase), torch.sin(k * y + phase)
    triangle = (2 / math.pi) * torch.asin(torch.sin(k * x))
    centre = uniform(g, -0.3, 0.3, count, 2)[:, None, None]
    noise = torch.randn(count, 1, SIZE // 2, SIZE // 2, generator=g)
    kinds = torch.stack(
        [
            wy,
            wx,
            torch.sin(k * (x + sign * y) * 0.7 + phase),
            2 * wx * wy,
            1.5 * (wx + wy - 0.9),
            torch.sin(k * y + 1.6 * torch.sin(k * 0.6 * x)),
            torch.maximum(wx, wy) * 3 - 2.4,
            torch.sin(k * y + 2.4 * triangle),
            torch.sin(k * (p - centre).norm(dim=-1) + phase),
            F.interpolate(noise, scale_factor=2, mode="nearest")[:, 0] * 0.8,
        ]
    )
    return torch.sigmoid(kinds[texture.clamp(min=0), torch.arange(count)] * 5)
