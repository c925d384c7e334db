"""Synthetic tasks of shapes, strokes and stripes; each task's function draws one picture of class `label` from `rng`."""

import math

import numpy as np
from jaxtyping import UInt8
from numpy.random import Generator

from dpl.data.sources.synthetic import paint
from dpl.data.sources.synthetic.outlines import CIRCLE, CORNERED, SHAPES, UNSEEN, Figure
from dpl.data.sources.synthetic.paint import COLOURS, between, pick, whole
from dpl.data.sources.synthetic.raster import FULL, SIZE, coverage, resampled, stroke, transform, turning

Picture = UInt8[np.ndarray, "SIZE SIZE 3"]

CASTABLE = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown", "black", "gray")
COUNTS = ("one shape", "two shapes", "three shapes", "four shapes", "five shapes", "six shapes")
STRIPES = (
    "vertical stripes", "stripes at 75 degrees", "stripes at 60 degrees", "diagonal stripes rising to the right",
    "stripes at 30 degrees", "stripes at 15 degrees", "horizontal stripes", "stripes at 165 degrees", "stripes at 150 degrees",
    "diagonal stripes falling to the right", "stripes at 120 degrees", "stripes at 105 degrees",
)  # fmt: skip
"""Each turned clockwise by 15 degrees from the one before; degrees count counter-clockwise from horizontal."""


def placed(rng: Generator, figure: Figure, radius: tuple[float, float], turn: float, stretch: float = 0.12) -> Figure:
    """Places a figure at random.

    Args:
        rng: random generator.
        figure: contours in [-1, 1].
        radius: range of half the height, in pixels.
        turn: largest rotation in either direction, in radians.
        stretch: largest relative difference between width and height.

    Returns:
        The contours in pixels.
    """
    height = between(rng, *radius)
    width = height * (1 + between(rng, -stretch, stretch))
    free = SIZE / 2 - max(width, height)
    centre = (SIZE / 2 + between(rng, -free, free), SIZE / 2 + between(rng, -free, free))
    matrix = turning(between(rng, -turn, turn), width, height)
    return [transform(contour, matrix, centre) for contour in figure]


def outline(label: int, rng: Generator) -> Picture:
    """Draws the shape as a thin line on plain paper."""
    figure = placed(rng, list(SHAPES.values())[label], (13, 21), 0.2)
    width = between(rng, 0.9, 1.7)
    ink, paper = paint.ink_and_paper(rng)
    line = coverage([stroke(contour, width) for contour in figure])
    return paint.finish(paint.over(paint.plain(paper), ink, line) + paint.grain(rng, 4))


def sketch(label: int, rng: Generator) -> Picture:
    """Draws the shape as a pencil sketch: two or three wavering outlines, and hatching inside."""
    figure = placed(rng, list(SHAPES.values())[label], (13, 20), 0.2)
    lines = []
    for _ in range(whole(rng, 2, 3)):
        for contour in figure:
            points = resampled(contour, 48 if len(contour) < 48 else len(contour))
            count = len(points)
            bend = [sum(between(rng, 0.2, 0.9) * _wave(count, k, rng.random()) for k in (1, 2, 3)) for _ in range(2)]
            start, length = whole(rng, 0, count - 1), whole(rng, count * 3 // 4, count)
            order = (start + np.arange(length)) % count
            lines.append(stroke((points + np.stack(bend, 1))[order], between(rng, 0.5, 0.9), closed=False))
    drawn = coverage(lines)
    angle, gap = between(rng, 0, math.pi), between(rng, 3.0, 5.0)
    hatches = np.array([[(-40.0, k * gap), (40.0, k * gap + between(rng, -1, 1))] for k in range(-10, 11)])
    hatches = transform(hatches, turning(angle), (SIZE / 2, SIZE / 2))
    hatched = coverage([stroke(hatches, 0.6, closed=False)]) * coverage(figure) // FULL
    grey = whole(rng, 30, 90)
    paper = np.array([whole(rng, 225, 250)] * 3) - np.array([0, whole(rng, 0, 8), whole(rng, 5, 30)])
    amount = np.maximum(drawn, hatched * 2 // 3) * (150 + paint.smooth(rng, 8) * 100 // 255) // 250
    return paint.finish(paint.over(paint.plain(paper), np.array([grey, grey, grey + 6]), amount) + paint.grain(rng, 14, 1))


def _wave(count: int, times: int, phase: float) -> np.ndarray:
    """A periodic wave of `times` periods in `count` points, values -1 to 1; parabolic arcs avoid the sine function."""
    place = (np.arange(count) * times / count + phase) % 1 * 4  # 0 to 4
    half = place % 2
    return np.where(place < 2, 1.0, -1.0) * half * (2 - half)


def cast(label: int, rng: Generator) -> Picture:
    """Draws a random shape in the colour of the class on white paper, under a coloured light."""
    shape = coverage(placed(rng, pick(rng, list(SHAPES.values())), (12, 19), 0.3))
    ink = paint.jitter(rng, COLOURS[CASTABLE[label]], 10)
    white = np.array([whole(rng, 225, 250)] * 3)
    picture = paint.over(paint.plain(white), ink, shape)
    strong, weak = whole(rng, 0, 2), between(rng, 0.45, 0.75)
    lamp = [between(rng, weak, 1) for _ in range(3)]
    lamp[strong], lamp[(strong + whole(rng, 1, 2)) % 3] = 1, weak
    light = np.array([int(part * 256) for part in lamp]) * (200 + paint.smooth(rng, 3) * 56 // 255)[..., None] // 256
    return paint.finish(picture * light // 256 + paint.grain(rng, 4))


def stripes(label: int, rng: Generator) -> Picture:
    """Draws slightly bent stripes over the whole picture, within 3 degrees of the direction of the class."""
    angle = math.radians(label * 15 + between(rng, -3, 3))
    cos, sin = round(math.cos(angle) * 4096), round(math.sin(angle) * 4096)
    line = np.arange(SIZE) * 2 - SIZE + 1
    across = cos * line + (sin * line)[:, None] + (paint.smooth(rng, 2) - 128) * whole(rng, 0, 80)  # pixels x 8192
    period, phase = whole(rng, 8192 * 5, 8192 * 13), whole(rng, 0, 8192 * 13)
    place = (across + phase) % period
    share = whole(rng, period * 3 // 10, period * 6 // 10)
    edge = np.minimum(place, share - place)  # the distance to the edge of the stripe
    amount = np.clip(edge * FULL // 8192 + FULL // 2, 0, FULL)
    ink, paper = paint.ink_and_paper(rng, 200)
    picture = paint.over(paint.plain(paper), ink, amount)
    return paint.finish(picture + paint.grain(rng, whole(rng, 10, 60)))


def several(label: int, rng: Generator) -> Picture:
    """Draws `label` + 1 small shapes in different sizes, of one or mixed kinds; the backbone was not pretrained on them."""
    kinds = list(UNSEEN.values())
    ink, paper = paint.ink_and_paper(rng)
    same, mixed = pick(rng, kinds), rng.random() < 0.5
    figures: Figure = []
    for x, y, radius in _apart(rng, label + 1):
        matrix = turning(between(rng, -0.6, 0.6), radius * pick(rng, (-1, 1)), radius)
        figure = [transform(contour, matrix, (x, y)) for contour in (pick(rng, kinds) if mixed else same)]
        figures += figure
    picture = paint.over(paint.plain(paper), ink, coverage(figures))
    return paint.finish(picture + paint.grain(rng, 10))


def _apart(rng: Generator, count: int) -> list[tuple[float, float, float]]:
    """Draws (x, y, radius) of discs; gaps exceed a fifth of two radii, because some shapes extend beyond their disc."""
    while True:
        discs: list[tuple[float, float, float]] = []
        for _ in range(60):
            radius = between(rng, 4.5, 8)
            x, y = (between(rng, 1.15 * radius, SIZE - 1.15 * radius) for _ in range(2))
            if all((x - a) ** 2 + (y - b) ** 2 > (1.2 * (radius + r)) ** 2 for a, b, r in discs):
                discs.append((x, y, radius))
                if len(discs) == count:
                    return discs


def cornered(label: int, rng: Generator) -> Picture:
    """Draws a polygon or star at a random rotation."""
    figure = placed(rng, list(CORNERED.values())[label], (14, 21), math.pi, 0.05)
    ink, paper = paint.ink_and_paper(rng)
    picture = paint.over(paint.plain(paper), ink, coverage(figure))
    return paint.finish(picture + paint.grain(rng, 10))


def bubbles(rng: Generator, count: int, radius: tuple[float, float]) -> np.ndarray:
    """Draws discs at random places of the picture.

    Args:
        rng: random generator.
        count: number of discs.
        radius: range of the radius, in pixels.

    Returns:
        Contours in pixels, (count, corners, 2).
    """
    sizes = [(between(rng, *radius), between(rng, 0, SIZE), between(rng, 0, SIZE)) for _ in range(count)]
    return np.stack([transform(CIRCLE, turning(0, r, r), (x, y)) for r, x, y in sizes])
