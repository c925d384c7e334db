"""What a classification task is, and how one is found by its name: `digits`, or any folder of images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dpl.data.paths import shown
from dpl.data.synthetic import TASKS
from dpl.errors import DplError

if TYPE_CHECKING:
    from dpl.data.images import Encoded  # with PIL, which takes its time to import


@dataclass(frozen=True)
class Item:
    """One labelled image. Two items are equal when name and label are: the pixels are not compared."""

    image: "Path | Encoded | np.ndarray" = field(compare=False)
    """A file, one within a data set, or pixels: uint8, (height, width, 3), 0-255."""
    label: int
    """Index into the task's class names."""
    name: str
    """Path relative to the task's root with forward slashes, or e.g. "digits/123"; unique within the task."""


@dataclass(frozen=True)
class Augmentation:
    """How training images may be varied without changing their class."""

    scale: tuple[float, float]
    """Range of the random crop's area as a part of the image's, 0-1; (1, 1) for no random crop."""
    flip: bool
    """Whether an image may be mirrored left to right."""


@dataclass(frozen=True)
class Task:
    """Images to classify, split into train and val pools (few-shot samples are drawn from them) and the test set."""

    name: str
    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    """Sentences with one {} for the class name: the first is trained with, all of them make the ensemble."""
    train: Sequence[Item]
    val: Sequence[Item]
    """`train` itself where validation shots come from what the training shots leave."""
    test: Sequence[Item]
    augmentation: Augmentation
    notes: tuple[str, ...] = ()
    """What was decided or skipped while reading, one sentence each, to be printed for the person."""
    root: Path | None = None
    """The folder that the items' names are relative to; None where there are no files."""


@dataclass(frozen=True)
class Builtin:
    """A task that comes with dpl."""

    description: str
    load: Callable[[], Task]


def _digits() -> Task:
    # Imported when asked for: scikit-learn takes a second to import. Also, digits.py needs this module's classes.
    from dpl.data import digits

    return digits.load()


def _drawn(name: str) -> Task:
    from dpl.data.synthetic import pools  # which needs this module's classes

    return pools.load(name)


BUILTIN: dict[str, Builtin] = {
    "digits": Builtin("UCI handwritten digits of scikit-learn: 1797 grey images, 8 x 8 pixels", _digits),
    **{name: Builtin(row.description, partial(_drawn, name)) for name, row in TASKS.items()},
}


def load_task(data: str, *, root: Path | None = None, names: Path | None = None, strict: bool = False) -> Task:
    """The task that `data` names: a built-in one; a data set of the catalogue, in its folder under `root`; a folder of images
    (see `dpl.data.folder`); a table of paths and labels (`dpl.data.tables`); a data set of Hugging Face (`dpl.data.hub`).

    `names` is a file that gives classes other names (`dpl.data.names`). Splits depend on no run's seed, so that the test set
    is the same for every run. An unreadable image is skipped with a note, or is an error if `strict`. Raises `DplError` for
    anything that is no task.
    """
    task = _found(data, root, strict)
    from dpl.data.names import advised, renamed

    if names is not None:
        return renamed(task, names)
    return task if data in BUILTIN else advised(task)


def _found(data: str, root: Path | None, strict: bool) -> Task:
    if data in BUILTIN:
        return BUILTIN[data].load()
    # Imported when asked for: they need this module's classes.
    from dpl.data import folder, hub, tables
    from dpl.data.catalog import CATALOG, load_from_catalog

    if data in CATALOG:
        return load_from_catalog(data, root, strict=strict)
    try:
        if hub.is_hub(data):
            return hub.load(data, strict=strict)
        if not data or not Path(data).exists():
            known = ", ".join([*BUILTIN, *CATALOG])
            raise DplError(f"no data {data!r}: give a built-in task or data set ({known}), a table, or a folder of class folders")
        if tables.is_table(Path(data)):
            return tables.load(Path(data), strict=strict)
        return folder.load(Path(data), strict=strict)
    except OSError as error:  # a path that is too long, or folders that may not be entered
        raise DplError(f"cannot read {shown(error.filename or data)}: {error.strerror}; give another folder") from None
