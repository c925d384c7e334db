"""Synthetic tasks of digits and letters; each task's function draws one picture of class `label` from `rng`."""

import math

import numpy as np
from jaxtyping import Int, UInt8
from numpy.random import Generator

from dpl.data.sources.synthetic import paint
from dpl.data.sources.synthetic.figures import bubbles
from dpl.data.sources.synthetic.glyphs import glyph, place
from dpl.data.sources.synthetic.outlines import BARS, LIT
from dpl.data.sources.synthetic.paint import COLOURS, between, pick, whole
from dpl.data.sources.synthetic.raster import FULL, SIZE, coverage, stroke, transform, turning

Picture = UInt8[np.ndarray, "SIZE SIZE 3"]

DIGITS = "0123456789"
TURNABLE = "ABEFGJKPQRTY"  # none of these equals another after rotation or mirroring
FENCED = "ADHKMNOSTVXZ"
LOWERCASE = "befghkmnpqrstyz"  # a and d are hard to read in some of the faces
ALIKE = "2Z4A5S6G7T8B0D"
LOOKALIKES = tuple(f"the {'digit' if character.isdigit() else 'letter'} {character}" for character in ALIKE)
PAIRS = (("red", "green"), ("orange", "blue"), ("blue", "yellow"), ("purple", "green"), ("red", "cyan"), ("purple", "yellow"))
"""Colours of the dots that make a digit, and of those around it, or the other way round."""


def symbol(
    rng: Generator, style: str, character: str, size: tuple[float, float], turn: float = 0.15, slant: float = 0.0
) -> Int[np.ndarray, "SIZE SIZE"]:
    """Draws a character in a random face, at a random place, height, rotation, slant and width.

    Args:
        rng: random generator.
        style: "print" or "script".
        character: digit or letter.
        size: range of the height of the glyph's cell, in pixels.
        turn: largest rotation in either direction, in radians.
        slant: largest horizontal shear in either direction, in coordinates of the glyph's cell.

    Returns:
        Coverage of each pixel, 0 to `FULL`.
    """
    height = between(rng, *size) / 2
    matrix = turning(between(rng, -turn, turn), height * between(rng, 0.8, 1.15), height)
    lean = between(rng, -slant, slant)
    matrix = np.stack([matrix[:, 0], matrix[:, 1] - lean * matrix[:, 0]], 1)
    free = max(0.0, SIZE / 2 - height)
    centre = (SIZE / 2 + between(rng, -free, free), SIZE / 2 + between(rng, -free, free))
    return place(glyph(style, whole(rng, 0, 999), character), matrix, centre)


def fog(label: int, rng: Generator) -> Picture:
    """Draws a printed lowercase letter in uneven fog that hides most of its contrast, with camera noise."""
    shape = symbol(rng, "print", LOWERCASE[label], (22, 36))
    ink, paper = paint.ink_and_paper(rng, 360)
    picture = paint.softened(paint.over(paint.plain(paper), ink, shape))
    mist = whole(rng, 130, 210) + (paint.smooth(rng, 6)[..., None] - 128) // 2 + np.array([0, 0, 8])
    thick = whole(rng, 128, 152) + paint.smooth(rng, 6) * 90 // 255
    picture = paint.over(picture, mist, thick, 255)
    return paint.finish(picture + paint.grain(rng, whole(rng, 10, 28)))


def turned(label: int, rng: Generator) -> Picture:
    """Draws a printed capital at a random rotation, mirrored with probability 1/2."""
    size = between(rng, 13, 20)
    matrix = turning(between(rng, 0, 2 * math.pi), size * pick(rng, (-1, 1)), size)
    shape = place(glyph("print", whole(rng, 0, 999), TURNABLE[label]), matrix, (SIZE / 2, SIZE / 2))
    ink, paper = paint.ink_and_paper(rng)
    return paint.finish(paint.over(paint.plain(paper), ink, shape) + paint.grain(rng, 10))


def fenced(label: int, rng: Generator) -> Picture:
    """Draws a printed capital behind a fence that hides about a third of it, and one or two spots."""
    shape = symbol(rng, "print", FENCED[label], (36, 46))
    ink, paper = paint.ink_and_paper(rng)
    period = between(rng, 9, 13)
    width = period * between(rng, 0.2, 0.35)
    shift, angle = between(rng, 0, period), pick(rng, (0.0, math.pi / 2, math.pi / 4, -math.pi / 4)) + between(rng, -0.2, 0.2)
    posts = np.array([[(k * period + shift, -40.0), (k * period + shift, 40.0)] for k in range(-6, 6)])
    posts = transform(posts, turning(angle), (SIZE / 2, SIZE / 2))
    fence = coverage([stroke(posts, width, closed=False), bubbles(rng, whole(rng, 1, 2), (4, 7))])
    wood = paint.jitter(rng, pick(rng, list(COLOURS.values())))
    while abs(wood - ink).sum() < 300 or abs(wood - paper).sum() < 150:
        wood = paint.jitter(rng, pick(rng, list(COLOURS.values())))
    picture = paint.over(paint.over(paint.plain(paper), ink, shape), wood, fence)
    return paint.finish(picture + paint.grain(rng, 10))


def cursive(label: int, rng: Generator) -> Picture:
    """Draws a slanted lowercase letter in a handwritten or script face, with uneven ink."""
    shape = symbol(rng, "script", LOWERCASE[label], (24, 42), 0.35, 0.4)
    ink, paper = paint.ink_and_paper(rng)
    worn = shape * (105 + paint.smooth(rng, 9) * 150 // 255) // 255
    picture = paint.over(paint.plain(paper), ink, worn)
    return paint.finish(picture + (paint.smooth(rng, 3)[..., None] - 128) // 8 + paint.grain(rng, 12))


def coarse(label: int, rng: Generator) -> Picture:
    """Draws a printed digit or a letter similar to a digit, in squares of 4 pixels."""
    shape = symbol(rng, "print", ALIKE[label], (36, 46), 0.15, 0.2)
    ink, paper = paint.ink_and_paper(rng)
    blocks = shape.reshape(SIZE // 4, 4, SIZE // 4, 4).sum((1, 3))
    picture = paint.over(paint.plain(paper), ink, np.kron(blocks, np.ones((4, 4), np.int64)), FULL * 16)
    rough = np.kron(paint.grain(rng, 36)[: SIZE // 4, : SIZE // 4], np.ones((4, 4, 1), np.int64))
    return paint.finish(picture + rough)


def segments(label: int, rng: Generator) -> Picture:
    """Draws a digit on a slanted seven-segment display; unlit bars are faintly visible."""
    height = between(rng, 13, 19)
    wide = height * between(rng, 0.8, 1.1)
    lean = between(rng, -0.3, 0.3)
    matrix = np.array([[wide, -lean * height], [0.0, height]])
    centre = (SIZE / 2 + between(rng, -8, 8), SIZE / 2 + between(rng, -3, 3))
    bars = np.array(BARS).reshape(7, 2, 2)
    middle = bars.mean(1, keepdims=True)
    bars = transform(middle + (bars - middle) * 0.7, matrix, centre)
    thick = between(rng, 1.8, 3.5)
    lit = np.array([str(bar) in LIT[label] for bar in range(7)])
    on, off = (coverage([stroke(bars[chosen], thick, closed=False)]) for chosen in (lit, ~lit))
    glow = paint.jitter(rng, COLOURS[pick(rng, ("red", "green", "cyan", "orange", "yellow", "white"))])
    ground = np.array([whole(rng, 5, 35) for _ in range(3)])
    if rng.random() < 0.3:  # a liquid crystal: dark on pale green
        ground, glow = paint.jitter(rng, (175, 190, 160)), np.array([whole(rng, 10, 50)] * 3)
    picture = paint.over(paint.plain(ground), (glow + 4 * ground) // 5, off)
    return paint.finish(paint.over(picture, glow, on) + paint.grain(rng, 10))


def plate(label: int, rng: Generator) -> Picture:
    """Draws a digit of dots among dots of another colour, as on plates for colour vision tests."""
    shape = symbol(rng, "print", DIGITS[label], (38, 46), 0.1)
    side, count = 10, SIZE * 4 // 10 + 2  # in quarters of a pixel: dots lie 10 apart, every other row shifted by 5
    y = np.arange(2 * SIZE)[:, None] * 2 + 1  # 2 x 2 samples per pixel
    row = y // side
    x = np.arange(2 * SIZE) * 2 + 1 + row % 2 * 5
    column = x // side
    offset = (rng.random((2, count, count)) * 3).astype(np.int64) - 1
    x, y = x % side - 5 - offset[0][row, column], y % side - 5 - offset[1][row, column]
    inside = x * x + y * y < 9 + (rng.random((count, count)) * 10).astype(np.int64)[row, column]
    rows, columns = np.mgrid[0:count, 0:count]
    middles = [np.clip(middle // 4, 0, SIZE - 1) for middle in (rows * side + 5, columns * side + 5 - rows % 2 * 5)]
    chosen = shape[middles[0], middles[1]] > FULL // 2
    figure, ground = pick(rng, PAIRS)
    if rng.random() < 0.5:
        figure, ground = ground, figure
    shades = (rng.random((count, count, 3)) * 81).astype(np.int64) - 40
    colours = np.clip(np.where(chosen[..., None], COLOURS[figure], COLOURS[ground]) + shades, 0, 255)
    sheet = (2 * paint.jitter(rng, (238, 232, 215)) + np.array(COLOURS[ground])) // 3
    fine = np.where(inside[..., None], colours[row, column], sheet)
    picture = (fine[::2, ::2] + fine[1::2, ::2] + fine[::2, 1::2] + fine[1::2, 1::2]) // 4
    return paint.finish(picture + paint.grain(rng, 8))
