"""Seeded draws, colours and the layers that a drawn picture is made of, all in whole numbers.

Every draw comes from `Generator.random`, 53 bits of PCG64's stream, which no NumPy version changes. Images are
int64[SIZE, SIZE, 3] with values 0-255 until `finish`.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Int, UInt8
from numpy.random import Generator

from dpl.data.synthetic.raster import FULL, SIZE

T = TypeVar("T")

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 30), "orange": (250, 140, 20), "yellow": (245, 225, 40), "green": (30, 155, 50), "cyan": (50, 210, 225),
    "blue": (35, 60, 220), "purple": (130, 40, 175), "pink": (250, 140, 190), "brown": (115, 68, 28), "black": (10, 10, 10),
    "white": (246, 246, 246), "gray": (128, 128, 128),
}  # fmt: skip


def between(rng: Generator, low: float, high: float) -> float:
    """A uniform draw from [low, high)."""
    return low + (high - low) * rng.random()


def whole(rng: Generator, low: int, high: int) -> int:
    """A whole number from low to high, both included."""
    return low + int(rng.random() * (high - low + 1))


def pick(rng: Generator, values: Sequence[T]) -> T:
    """One of the values."""
    return values[whole(rng, 0, len(values) - 1)]


def jitter(rng: Generator, colour: Sequence[int], by: int = 14) -> Int[np.ndarray, "3"]:
    """The colour with every channel moved by up to `by`, within 0-255."""
    return np.clip(np.array(colour) + np.array([whole(rng, -by, by) for _ in range(3)]), 0, 255)


def ink_and_paper(rng: Generator, apart: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Two jittered colours whose channels differ by at least `apart` (up to 400) in all before the jitter."""
    colours = list(COLOURS.values())
    while True:
        ink, paper = pick(rng, colours), pick(rng, colours)
        if sum(abs(one - other) for one, other in zip(ink, paper, strict=True)) >= apart:
            return jitter(rng, ink), jitter(rng, paper)


def plain(colour: Int[np.ndarray, "3"]) -> Int[np.ndarray, "SIZE SIZE 3"]:
    """A sheet of one colour."""
    return np.broadcast_to(colour.astype(np.int64), (SIZE, SIZE, 3))


def over(below: np.ndarray, ink: np.ndarray, amount: Int[np.ndarray, "SIZE SIZE"], full: int = FULL) -> np.ndarray:
    """`ink` (a colour or an image) laid over an image, where `amount` of `full` covers it."""
    amount = amount[..., None]
    return (below * (full - amount) + ink * amount + full // 2) // full


def smooth(rng: Generator, nodes: int) -> Int[np.ndarray, "SIZE SIZE"]:
    """Values 0-255 that change smoothly: nodes x nodes uniform draws, enlarged linearly."""
    coarse = (rng.random((nodes + 1, nodes + 1)) * 256).astype(np.int64)
    place = np.arange(SIZE) * nodes * 64 // SIZE
    index, part = place // 64, place % 64
    rows = coarse[index] * (64 - part)[:, None] + coarse[index + 1] * part[:, None]
    return (rows[:, index] * (64 - part) + rows[:, index + 1] * part) // 4096


def grain(rng: Generator, strength: int, channels: int = 3) -> Int[np.ndarray, "SIZE SIZE channels"]:
    """Noise of every pixel, nearly normal, of standard deviation `strength` / 1.73, at most 2 `strength`."""
    draws = (rng.random((4, SIZE, SIZE, channels)) * 1024).astype(np.int64).sum(0)  # 0 to 4092
    return (draws - 2046) * strength // 1023


def softened(image: np.ndarray) -> np.ndarray:
    """Each pixel the mean of itself and its neighbours, weights 1 2 1 along both axes."""
    for axis in (0, 1):
        wide = np.concatenate([image.take([0], axis), image, image.take([-1], axis)], axis)
        middle = np.arange(1, SIZE + 1)
        image = (wide.take(middle - 1, axis) + 2 * wide.take(middle, axis) + wide.take(middle + 1, axis) + 2) // 4
    return image


def finish(image: np.ndarray) -> UInt8[np.ndarray, "SIZE SIZE 3"]:
    """The picture, cut to 0-255."""
    return np.clip(image, 0, 255).astype(np.uint8)
