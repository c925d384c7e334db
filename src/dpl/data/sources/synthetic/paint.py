"""Random draws, colours and layers of synthetic pictures, in integer arithmetic.

Every draw uses `Generator.random`, 53 bits of PCG64's stream, which is the same in all NumPy versions. Images are
int64[SIZE, SIZE, 3], in which 0 is black and 255 is white; `finish` clips and converts them.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Int, UInt8
from numpy.random import Generator

from dpl.data.sources.synthetic.raster import FULL, SIZE

T = TypeVar("T")

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 30), "orange": (250, 140, 20), "yellow": (245, 225, 40), "green": (30, 155, 50), "cyan": (50, 210, 225),
    "blue": (35, 60, 220), "purple": (130, 40, 175), "pink": (250, 140, 190), "brown": (115, 68, 28), "black": (10, 10, 10),
    "white": (246, 246, 246), "gray": (128, 128, 128),
}  # fmt: skip


def between(rng: Generator, low: float, high: float) -> float:
    """Draws uniformly from [low, high)."""
    return low + (high - low) * rng.random()


def whole(rng: Generator, low: int, high: int) -> int:
    """Draws an integer from low to high, both included."""
    return low + int(rng.random() * (high - low + 1))


def pick(rng: Generator, values: Sequence[T]) -> T:
    """Draws one of the values."""
    return values[whole(rng, 0, len(values) - 1)]


def jitter(rng: Generator, colour: Sequence[int], by: int = 14) -> Int[np.ndarray, "3"]:
    """Changes every channel of a colour at random by up to `by`, within 0-255."""
    return np.clip(np.array(colour) + np.array([whole(rng, -by, by) for _ in range(3)]), 0, 255)


def ink_and_paper(rng: Generator, apart: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Draws two jittered colours; before the jitter, the sum of their channel differences is at least `apart` (up to 400)."""
    colours = list(COLOURS.values())
    while True:
        ink, paper = pick(rng, colours), pick(rng, colours)
        if sum(abs(one - other) for one, other in zip(ink, paper, strict=True)) >= apart:
            return jitter(rng, ink), jitter(rng, paper)


def plain(colour: Int[np.ndarray, "3"]) -> Int[np.ndarray, "SIZE SIZE 3"]:
    """Returns an image of one colour."""
    return np.broadcast_to(colour.astype(np.int64), (SIZE, SIZE, 3))


def over(below: np.ndarray, ink: np.ndarray, amount: Int[np.ndarray, "SIZE SIZE"], full: int = FULL) -> np.ndarray:
    """Composites `ink` over an image.

    Args:
        below: image.
        ink: colour or image.
        amount: opacity of each pixel, 0 to `full`.
        full: value of `amount` for an opaque pixel.

    Returns:
        The image, rounded to integers.
    """
    amount = amount[..., None]
    return (below * (full - amount) + ink * amount + full // 2) // full


def smooth(rng: Generator, nodes: int) -> Int[np.ndarray, "SIZE SIZE"]:
    """Draws smooth noise, 0-255: a grid of (nodes + 1) x (nodes + 1) uniform values, interpolated linearly."""
    coarse = (rng.random((nodes + 1, nodes + 1)) * 256).astype(np.int64)
    place = np.arange(SIZE) * nodes * 64 // SIZE
    index, part = place // 64, place % 64
    rows = coarse[index] * (64 - part)[:, None] + coarse[index + 1] * part[:, None]
    return (rows[:, index] * (64 - part) + rows[:, index + 1] * part) // 4096


def grain(rng: Generator, strength: int, channels: int = 3) -> Int[np.ndarray, "SIZE SIZE channels"]:
    """Draws approximately normal noise per pixel: standard deviation `strength` / 1.73, magnitude at most 2 `strength`."""
    draws = (rng.random((4, SIZE, SIZE, channels)) * 1024).astype(np.int64).sum(0)  # 0 to 4092
    return (draws - 2046) * strength // 1023


def softened(image: np.ndarray) -> np.ndarray:
    """Blurs an image with weights 1 2 1 along both axes."""
    for axis in (0, 1):
        wide = np.concatenate([image.take([0], axis), image, image.take([-1], axis)], axis)
        middle = np.arange(1, SIZE + 1)
        image = (wide.take(middle - 1, axis) + 2 * wide.take(middle, axis) + wide.take(middle + 1, axis) + 2) // 4
    return image


def finish(image: np.ndarray) -> UInt8[np.ndarray, "SIZE SIZE 3"]:
    """Clips an image to 0-255 and converts it to uint8."""
    return np.clip(image, 0, 255).astype(np.uint8)
