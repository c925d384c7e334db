"""Chooses the test images that a report shows. The same run gives the same images."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from dpl.evaluate import Evaluation
from dpl.schemas.explanation import KINDS, Kind
from dpl.utils.rng import generator

MOST, MOST_OF_A_KIND = 8, 3
PICTURES_OF_A_PAIR = 3
SMALL = 96
"""Largest width of the pictures of confused images, in pixels."""


@dataclass(frozen=True)
class Pair:
    """`count` test images of class `true` classified as `predicted`; `images` are the indices of some of them."""

    true: int
    predicted: int
    count: int
    images: tuple[int, ...]


def shuffled(images: int) -> list[int]:
    """Returns the indices of all test images in a random order with a fixed seed, so that the examples are not hand-picked.

    Args:
        images: number of test images.
    """
    return torch.randperm(images, generator=generator(0, "examples")).tolist()


def kinds(tuned: Evaluation, plain: Evaluation) -> np.ndarray:
    """Classifies every image by which of the two models is right.

    Args:
        tuned: the evaluation of the tuned model.
        plain: the evaluation of the zero-shot model.

    Returns:
        Indices into `KINDS`, (images,).
    """
    right, was_right = (own.predictions == own.labels for own in (tuned, plain))
    return np.select([right & ~was_right, right & was_right, ~right & ~was_right], [0, 1, 2], 3)


def choose(tuned: Evaluation, plain: Evaluation) -> list[tuple[int, Kind]]:
    """Chooses up to 8 test images: two of each kind, and a third of a kind if other kinds have fewer.

    Within a kind, takes the first image in the order of `shuffled` among the classes chosen least often so far.

    Args:
        tuned: the evaluation of the tuned model.
        plain: the evaluation of the zero-shot model.

    Returns:
        Index and kind of each image, sorted by kind in the order of `KINDS`.
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
    """Chooses pictures for the most frequent mistakes.

    Args:
        tuned: the evaluation of the tuned model.

    Returns:
        The pairs of `Evaluation.confused_pairs`, each with its first images, up to 3, in the order of `shuffled`.
    """
    order = np.array(shuffled(len(tuned.labels)))
    labels, predictions = tuned.labels[order], tuned.predictions[order]
    return [
        Pair(true, predicted, count, tuple(order[(labels == true) & (predictions == predicted)][:PICTURES_OF_A_PAIR].tolist()))
        for true, predicted, count in tuned.confused_pairs()
    ]


def small(pictures: Sequence[UInt8[Tensor, "3 size size"]], size: int) -> UInt8[np.ndarray, "images 3 small small"]:
    """Resizes pictures to at most 96 pixels per side; keeps smaller ones as they are.

    Args:
        pictures: uint8, (3, size, size) each.
        size: pixels per side.

    Returns:
        uint8, (images, 3, small, small).
    """
    width = min(size, SMALL)
    shrunk = np.empty((len(pictures), 3, width, width), np.uint8)
    for row, picture in zip(shrunk, pictures, strict=True):
        image = Image.fromarray(picture.permute(1, 2, 0).numpy())
        row[:] = np.asarray(image.resize((width, width), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    return shrunk
