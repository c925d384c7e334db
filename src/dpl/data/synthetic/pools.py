"""A task of `TASKS` as its train, val and test pools, each picture drawn when it is first looked at."""

import zlib
from functools import cached_property

import numpy as np
from jaxtyping import UInt8

from dpl.data.synthetic import TASKS
from dpl.data.task import Augmentation, Item, Task

SEED = 2026
TRAIN, VAL = 100, 20  # pictures per class
TEST = 600  # at least, in all: the same number for every class


class Drawn(Item):
    """An item of a drawn task. Its `image` is drawn when first read, and kept."""

    def __init__(self, task: str, split: str, index: int) -> None:
        self.__dict__.update(label=index % len(TASKS[task].class_names), name=f"{task}/{split}/{index}")  # frozen otherwise

    @cached_property
    def image(self) -> UInt8[np.ndarray, "48 48 3"]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The pixels, the same bits wherever and whenever they are drawn: the item's name is their seed."""
        task, split, index = self.name.split("/")
        seed = np.random.SeedSequence([SEED, zlib.crc32(f"{task}/{split}".encode()), int(index)])
        return TASKS[task].draw(self.label, np.random.Generator(np.random.PCG64(seed)))


def load(name: str) -> Task:
    """The task called `name`, a key of `TASKS`: `TRAIN` and `VAL` pictures per class and `TEST` in all.

    Classes take turns, so that a longer pool would begin with the shorter one's pictures.
    """
    row = TASKS[name]
    classes = len(row.class_names)
    sizes = {"train": TRAIN * classes, "val": VAL * classes, "test": -(-TEST // classes) * classes}
    train, val, test = (tuple(Drawn(name, split, index) for index in range(size)) for split, size in sizes.items())
    return Task(name, row.class_names, row.templates, train, val, test, Augmentation(row.scale, row.flip))
