"""Masks of glyphs and shapes as signed distances to their outline.

A signed distance makes stroke width a shift and blur a softer step. Distances are in units of half a cell, positive inside.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from pretraining.captions import SHAPES
from pretraining.fonts import CELL, CHARACTERS, read_atlas

Points = list[tuple[float, float]]


def regular(corners: int, *radii: float) -> Points:
    """Corners around the centre, the first on top, each at every one of the radii in turn."""
    turn = 2 * math.pi / (corners * len(radii))
    spokes = [(turn * k, radii[k % len(radii)]) for k in range(corners * len(radii))]
    return [(radius * math.sin(angle), -radius * math.cos(angle)) for angle, radius in spokes]


QUARTER: Points = [(0.3, 1), (0.3, 0.3), (1, 0.3)]  # of a cross
POLYGONS: dict[str, Points] = {
    "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    "diamond": [(0, -1), (0.72, 0), (0, 1), (-0.72, 0)],
    "triangle": [(0, -0.9), (1, 0.8), (-1, 0.8)],
    "arrow": [(-1, -0.25), (0.15, -0.25), (0.15, -0.75), (1, 0), (0.15, 0.75), (0.15, 0.25), (-1, 0.25)],
    "star": regular(5, 1.0, 0.42),
    "pentagon": regular(5, 1.0),
    "hexagon": regular(6, 1.0),
    "cross": [
        *((x, -y) for x, y in QUARTER),
        *((x, y) for x, y in reversed(QUARTER)),
        *((-x, y) for x, y in QUARTER),
        *((-x, -y) for x, y in reversed(QUARTER)),
    ],
    "heart": [(-0.94, -0.12), (0.94, -0.12), (0, 0.98)],
}
# Discs (x, y, radius) added to a shape, and discs taken away from it.
DISCS = {
    "circle": [(0, 0, 1)],
    "ring": [(0, 0, 1)],
    "crescent": [(0, 0, 1)],
    "heart": [(-0.46, -0.35, 0.52), (0.46, -0.35, 0.52)],
}
HOLES = {"ring": [(0, 0, 0.58)], "crescent": [(0.45, -0.1, 0.85)]}


def shape_mask(name: str) -> np.ndarray:
    """A shape as bool[CELL, CELL], drawn large and reduced."""
    side = CELL * 8
    centre, scale = side / 2, side * 0.43
    image = Image.new("L", (side, side))
    draw = ImageDraw.Draw(image)
    for discs, ink in ((DISCS, 255), (HOLES, 0)):
        for x, y, radius in discs.get(name, []):
            low, high = ([centre + (v + sign * radius) * scale for v in (x, y)] for sign in (-1, 1))
            draw.ellipse([*low, *high], fill=ink)
    if name in POLYGONS:
        draw.polygon([(centre + x * scale, centre + y * scale) for x, y in POLYGONS[name]], fill=255)
    return np.asarray(image.resize((CELL, CELL), Image.Resampling.BOX)) >= 128


@dataclass(frozen=True)
class Atlas:
    """Signed distances of masks, their stroke half-widths, and which row shows what."""

    distance: Float[Tensor, "masks cell cell"]  # half precision
    halfwidth: Float[Tensor, "masks"]
    members: list[list[int]]  # per character (62), then per shape (12): the masks that show it


def signed_distance(masks: np.ndarray) -> Tensor:
    """bool[masks, CELL, CELL] -> float16 distances to the outline, in units of half a cell, positive inside."""
    out = np.empty(masks.shape, np.float16)
    for row, mask in enumerate(masks):
        inside, outside = distance_transform_edt(mask), distance_transform_edt(~mask)
        out[row] = (np.asarray(inside) - np.asarray(outside)) * (2 / CELL)
    return torch.from_numpy(out)


@cache
def load_atlas(split: str) -> Atlas:
    """The glyphs of `train` or `held_out` fonts and the shapes, as signed distances (some seconds)."""
    fonts = read_atlas(split)
    glyphs = fonts.reshape(-1, CELL, CELL)
    character = np.tile(np.arange(len(CHARACTERS)), len(fonts))
    drawn = glyphs.any((1, 2))
    masks = np.concatenate([glyphs[drawn], np.stack([shape_mask(name) for name in SHAPES])])
    shows = torch.from_numpy(np.concatenate([character[drawn], len(CHARACTERS) + np.arange(len(SHAPES))]))
    distance = signed_distance(masks)
    inside = distance.clamp(min=0).float()
    halfwidth = 2 * inside.sum((1, 2)) / (inside > 0).sum((1, 2))  # the mean depth of a stroke is half its half-width
    members = [torch.nonzero(shows == index).flatten().tolist() for index in range(len(CHARACTERS) + len(SHAPES))]
    return Atlas(distance, halfwidth, members)
