"""Built-in task `digits`: the UCI handwritten digits of scikit-learn, 8 x 8 grey pixels.

The digits are real handwriting (Alpaydin and Kaynak, 1998), a real distribution shift from rendered pictures.
"""

import numpy as np
from sklearn.datasets import load_digits

from dpl.data.split import three_ways
from dpl.data.task import Augmentation, Item, Task

TEMPLATES = (
    "a photo of the digit {}.",
    "a handwritten digit {}.",
    "a photo of the number {}.",
    "the number {} written by hand.",
    "a blurry photo of the digit {}.",
    "a white digit {} on a black background.",
)


def load() -> Task:
    """Loads all 1797 images as uint8 arrays (8, 8, 3), white on black, with a fixed split of 50/20/30 % per class."""
    ink, labels = load_digits(return_X_y=True)  # (1797, 64), from 0 to 16
    grey = np.rint(ink.reshape(-1, 8, 8, 1) * 255 / 16).astype(np.uint8)
    pixels = np.repeat(grey, 3, axis=-1)
    items = [Item(pixels[index], int(label), f"digits/{index}") for index, label in enumerate(labels)]
    train, val, test = [], [], []
    for digit in range(10):
        for pool, part in zip((train, val, test), three_ways(i for i in items if i.label == digit), strict=True):
            pool.extend(part)
    return Task(
        name="digits",
        class_names=tuple(str(digit) for digit in range(10)),
        templates=TEMPLATES,
        train=tuple(train),
        val=tuple(val),
        test=tuple(test),
        augmentation=Augmentation(scale=(0.7, 1.0), flip=False),  # a mirrored digit is not a valid digit
    )
