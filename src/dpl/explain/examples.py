"""Which test images are shown of a run, and their pixels: the same ones whenever the same run is looked at."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from dpl.evaluate import Evaluation
from dpl.explain.stored import KINDS, Kind
from dpl.rng import generator

MOST, MOST_OF_A_KIND = 8, 3
PICTURES_OF_A_PAIR = 3
SMALL = 96
"""Pictures of confused images are at most so many pixels wide."""


@dataclass(frozen=True)
class Pair:
    """`count` images of class `true` that were taken for `predicted`; some of them are the test images `images`."""

    true: int
    predicted: int
    count: int
    images: tuple[int, ...]


def shuffled(images: int) -> list[int]:
    """The numbers of all test images in the order in which they are looked at: drawn once, so nothing is picked for its looks."""
    return torch.randperm(images, generator=generator(0, "examples")).tolist()


def kinds(tuned: Evaluation, plain: Evaluation) -> np.ndarray:
    """Of which of `KINDS` every image is: its number there, (images,)."""
    right, was_right = (own.predictions == own.labels for own in (tuned, plain))
    return np.select([right & ~was_right, right & was_right, ~right & ~was_right], [0, 1, 2], 3)


def choose(tuned: Evaluation, plain: Evaluation) -> list[tuple[int, Kind]]:
    """Up to 8 test images, each with its kind, kind by kind: two of each, and a third where other kinds have fewer.

    They are the first in the order of `shuffled` of a class that has been shown least.
    """
    order, kind_of = np.array(shuffled(len(tuned.labels))), kinds(tuned, plain)
    waiting = {number: order[kind_of[order] == number].tolist() for number in range(len(KINDS))}
    chosen: list[tuple[int, int]] = []
    shown: Counter[int] = Counter()
    for _ in range(MOST_OF_A_KIND):
        for number, images in waiting.items():
            if images and len(chosen) < MOST:
                image = min(images, key=lambda image: shown[int(tuned.labels[image])])
                images.remove(image)
                shown[int(tuned.labels[image])] += 1
                chosen.append((number, image))
    return [(image, KINDS[number]) for number, image in sorted(chosen, key=lambda pair: pair[0])]


def confused(tuned: Evaluation) -> list[Pair]:
    """The pairs of `Evaluation.confused_pairs`, each with up to 3 of its images, the first in the order of `shuffled`."""
    order = np.array(shuffled(len(tuned.labels)))
    labels, predictions = tuned.labels[order], tuned.predictions[order]
    return [
        Pair(true, predicted, count, tuple(order[(labels == true) & (predictions == predicted)][:PICTURES_OF_A_PAIR].tolist()))
        for true, predicted, count in tuned.confused_pairs()
    ]


def small(pictures: Sequence[UInt8[Tensor, "3 size size"]], size: int) -> UInt8[np.ndarray, "images 3 small small"]:
    """Pictures of `size` pixels, made smaller where they are larger than 96, as they are otherwise."""
    width = min(size, SMALL)
    shrunk = np.empty((len(pictures), 3, width, width), np.uint8)
    for row, picture in zip(shrunk, pictures, strict=True):
        image = Image.fromarray(picture.permute(1, 2, 0).numpy())
        row[:] = np.asarray(image.resize((width, width), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    return shrunk
