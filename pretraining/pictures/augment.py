"""Turn stored pictures into training images: place, style, background, light. All draws come from one generator.

Images are float[batch, 3, SIZE, SIZE] in [0, 1].
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from pretraining.patterns import chance, uniform
from pretraining.render import RGB

SIZE = 64
PLAIN = 0.45  # the share of pictures in their own colours, not degraded: easy examples, as `tiny` has them
LUMA = torch.tensor([0.299, 0.587, 0.114])


def column(values: Tensor) -> Tensor:
    """[batch] -> [batch, 1, 1, 1]."""
    return values[:, None, None, None]


def smooth(g: Generator, count: int, channels: int, nodes: int) -> Float[Tensor, "count channels SIZE SIZE"]:
    """Standard normal draws on nodes x nodes points, enlarged."""
    coarse = torch.randn(count, channels, nodes, nodes, generator=g)
    return F.interpolate(coarse, size=(SIZE, SIZE), mode="bilinear", align_corners=True)


def place(
    layers: Float[Tensor, "batch 4 side side"], flip: Bool[Tensor, "batch"], g: Generator
) -> Float[Tensor, "batch 4 SIZE SIZE"]:
    """Random size, aspect, turn, shift and, where `flip`, mirror; premultiplied colours in, transparent outside."""
    count = len(layers)
    height = torch.exp(uniform(g, math.log(0.6), math.log(1.15), count))
    width = height * torch.exp(torch.randn(count, generator=g) * 0.08)
    angle = torch.randn(count, generator=g).clamp(-2, 2) * 0.13 * chance(g, 0.6, count)
    mirror = torch.where(flip & chance(g, 0.4, count), -1.0, 1.0)
    shift = uniform(g, -1, 1, count, 2) * (1.08 - height).clamp(min=0.06)[:, None]
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = torch.stack(
        [torch.stack([cos * mirror / width, sin / width], 1), torch.stack([-sin * mirror / height, cos / height], 1)], 1
    )
    theta = torch.cat([rows, -(rows @ shift[:, :, None])], 2)
    grid = F.affine_grid(theta, [count, 4, SIZE, SIZE], align_corners=False)
    return F.grid_sample(layers, grid, align_corners=False)


def recolour(rgb: Float[Tensor, "batch 3 SIZE SIZE"], g: Generator) -> Float[Tensor, "batch 3 SIZE SIZE"]:
    """Random saturation (at times none), brightness, contrast and a small turn of the hue."""
    count = len(rgb)
    grey = torch.einsum("bchw,c->bhw", rgb, LUMA)[:, None]
    saturation = torch.where(chance(g, 0.12, count), 0.0, uniform(g, 0.4, 1.4, count))
    rgb = grey + (rgb - grey) * column(saturation)
    swap = torch.randn(count, 3, 3, generator=g) * 0.05 + torch.eye(3)
    rgb = torch.einsum("bchw,bdc->bdhw", rgb, swap)
    return ((rgb - 0.5) * column(uniform(g, 0.7, 1.2, count)) + 0.5 + column(uniform(g, -0.12, 0.12, count))).clamp(0, 1)


def outline(rgb: Tensor, alpha: Tensor, g: Generator) -> tuple[Tensor, Tensor]:
    """Draw some pictures in other hands: dark inner edges, a border of ink or paper, fills washed out."""
    count = len(rgb)
    grey = torch.einsum("bchw,c->bhw", rgb, LUMA)[:, None] * alpha
    edges = F.max_pool2d(grey, 3, 1, 1) + F.max_pool2d(-grey, 3, 1, 1)
    edges = (edges * uniform(g, 1.5, 4.0, 1)).clamp(0, 1)
    wash = column(torch.where(chance(g, 0.12, count), uniform(g, 0.3, 1.0, count), 0.0))
    rgb = rgb + (1 - rgb) * wash
    rgb = rgb * (1 - edges * column(chance(g, 0.2, count).float()))
    grown = F.max_pool2d(alpha, 3, 1, 1)
    border = column(chance(g, 0.25, count).float())
    ink = column((torch.rand(count, generator=g) < 0.3).float())
    ring = (grown - alpha).clamp(min=0) * border
    total = alpha + ring
    return (rgb * alpha + ink * ring) / total.clamp(min=1e-3), total


def grounds(ground: Int[Tensor, "batch"], g: Generator) -> Float[Tensor, "batch 3 SIZE SIZE"]:
    """Backgrounds about the named colours: plain, a gradient, clouds, or coarse texture."""
    count = len(ground)
    base = (RGB[ground] + uniform(g, -0.08, 0.08, count, 3)).clamp(0, 1)[:, :, None, None]
    base = torch.where(column((ground == 10) & chance(g, 0.7, count)), torch.ones(()), base)
    line = torch.linspace(-1, 1, SIZE)
    angle = uniform(g, 0, 2 * math.pi, count)
    slope = line[None, None, :] * torch.cos(angle)[:, None, None] + line[None, :, None] * torch.sin(angle)[:, None, None]
    tilt = slope[:, None] * (torch.randn(count, 3, generator=g) * 0.12)[:, :, None, None]
    clouds = smooth(g, count, 3, 5) * 0.12
    texture = smooth(g, count, 1, 22) * 0.1
    kind = column(torch.multinomial(torch.tensor([0.55, 0.2, 0.15, 0.1]), count, replacement=True, generator=g))
    return (base + tilt * (kind == 1) + clouds * (kind == 2) + texture * (kind == 3)).clamp(0, 1)


def degrade(images: Tensor, g: Generator) -> Float[Tensor, "batch 3 SIZE SIZE"]:
    """Low resolution, noise, uneven light, a hole."""
    count = len(images)
    coarse = F.interpolate(F.avg_pool2d(images, 2), size=(SIZE, SIZE), mode="bilinear", align_corners=False)
    images = torch.where(column(chance(g, 0.15, count)), coarse, images)
    light = smooth(g, count, 1, 3) * column(0.08 * chance(g, 0.3, count))
    noise = torch.randn(count, 1, SIZE, SIZE, generator=g) * column(uniform(g, 0, 0.06, count) * chance(g, 0.4, count))
    images = (images + light + noise).clamp(0, 1)
    corner, side = torch.randint(0, SIZE - 20, (count, 2), generator=g), torch.randint(8, 21, (count,), generator=g)
    line = torch.arange(SIZE)
    inside = (line >= corner[..., None]) & (line < (corner + side[:, None])[..., None])
    hole = inside[:, 0, :, None] & inside[:, 1, None, :] & chance(g, 0.15, count)[:, None, None]
    return torch.where(hole[:, None], images.mean((2, 3), keepdim=True), images)


def augment(
    layers: Float[Tensor, "batch 4 side side"],
    ink: Int[Tensor, "batch"],
    ground: Int[Tensor, "batch"],
    flip: Bool[Tensor, "batch"],
    g: Generator,
) -> Float[Tensor, "batch 3 SIZE SIZE"]:
    """Training images of stored pictures.

    Args:
        layers: RGBA in [0, 1], not premultiplied; the colours of pictures with an ink are ignored.
        ink: Index of the colour to draw a picture's coverage in, or -1 for its own colours.
        ground: Index of the background's colour.
        flip: Whether a picture may be mirrored.
        g: The generator of all draws.
    """
    own = column(ink < 0)
    single = (RGB[ink.clamp(min=0)] + uniform(g, -0.06, 0.06, len(ink), 3)).clamp(0, 1)[:, :, None, None]
    rgb = torch.where(own, layers[:, :3], single)
    alpha = layers[:, 3:]
    placed = place(torch.cat([rgb * alpha, alpha], 1), flip, g)
    alpha = placed[:, 3:]
    rgb = placed[:, :3] / alpha.clamp(min=1e-3)
    plain = column(chance(g, PLAIN, len(ink)))
    styled, covered = outline(recolour(rgb, g), alpha, g)
    rgb, alpha = torch.where(own & ~plain, styled, rgb), torch.where(own & ~plain, covered, alpha)
    back = grounds(ground, g)
    images = back + alpha * (rgb - back)
    return torch.where(plain, images.clamp(0, 1), degrade(images, g))
