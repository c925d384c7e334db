"""Loads a synthetic task of `TASKS`: train, val and test pools of pictures that are drawn at the first access."""

import zlib
from functools import cached_property

import numpy as np
from jaxtyping import UInt8

from dpl.data.sources.synthetic import TASKS
from dpl.data.task import Augmentation, Item, Task

SEED = 2026
TRAIN, VAL = 100, 20  # pictures per class
TEST = 600  # pictures of all classes together, rounded up so that every class has the same number


class Drawn(Item):
    """An item of a synthetic task; the first access of `image` draws the picture and keeps it.

    Args:
        task: key of `TASKS`.
        split: "train", "val" or "test".
        index: index in the split, from 0.
    """

    def __init__(self, task: str, split: str, index: int) -> None:
        self.__dict__.update(label=index % len(TASKS[task].class_names), name=f"{task}/{split}/{index}")  # `Item` is frozen

    @cached_property
    def image(self) -> UInt8[np.ndarray, "48 48 3"]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The pixels, 0-255, bit-identical on all machines; the seed depends only on the item's name."""
        task, split, index = self.name.split("/")
        seed = np.random.SeedSequence([SEED, zlib.crc32(f"{task}/{split}".encode()), int(index)])
        return TASKS[task].draw(self.label, np.random.Generator(np.random.PCG64(seed)))


def load(name: str) -> Task:
    """Loads a synthetic task.

    Train and val have `TRAIN` and `VAL` pictures per class; test has `TEST` pictures of all classes together, rounded up to
    the same number per class. The class changes with every picture, so a longer pool would begin with the same pictures.

    Args:
        name: key of `TASKS`.

    Returns:
        The task; no picture is drawn yet.
    """
    row = TASKS[name]
    classes = len(row.class_names)
    sizes = {"train": TRAIN * classes, "val": VAL * classes, "test": -(-TEST // classes) * classes}
    train, val, test = (tuple(Drawn(name, split, index) for index in range(size)) for split, size in sizes.items())
    return Task(name, row.class_names, row.templates, train, val, test, Augmentation(row.scale, row.flip))
