"""Classification tasks: labelled images, class names and templates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Encoded:
    """An image file stored within a larger file, such as a row of a data set; its bytes are fetched when it is read."""

    name: str
    """Its name in messages."""
    fetch: Callable[[], bytes]
    """Returns the bytes of the image file; threads may call it at the same time."""

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Item:
    """One labelled image. Equality compares name and label, not the pixels."""

    image: Path | Encoded | np.ndarray | Image.Image = field(compare=False)
    """A file, one within a data set, pixels (uint8, (height, width, 3), 0-255), or an image of PIL."""
    label: int
    """Index into the task's class names."""
    name: str
    """Path relative to the task's root with forward slashes, or e.g. "digits/123"; unique within the task."""


@dataclass(frozen=True)
class Augmentation:
    """The changes of training images that keep their class."""

    scale: tuple[float, float]
    """Range of the random crop's area as a part of the image's, 0-1; (1, 1) for no random crop."""
    flip: bool
    """Whether an image may be mirrored left to right."""


@dataclass(frozen=True)
class Task:
    """A classification task: train and val pools, from which few-shot samples are drawn, and the test set."""

    name: str
    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    """Sentences with one {} for the class name: the first is trained with, all of them make the ensemble."""
    train: Sequence[Item]
    val: Sequence[Item]
    """`train` itself if validation shots are drawn from the images that the training shots leave."""
    test: Sequence[Item]
    augmentation: Augmentation
    notes: tuple[str, ...] = ()
    """Notes for the user on decisions and skipped files, one sentence each."""
    root: Path | None = None
    """The folder that the items' names are relative to; None where there are no files."""
    strict: bool = False
    """Whether an unreadable image is an error; otherwise it is left out with a note."""
    trained_on: str | None = None
    """The data to train on if the task has test images only."""
