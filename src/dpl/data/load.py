"""Loads a task by its name: a built-in task, a data set of the catalogue or the hub, a table, or a folder of images."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dpl.data.class_names import advised, renamed
from dpl.data.paths import shown
from dpl.data.sources import folder, hub, tables
from dpl.data.sources.catalog import CATALOG, load_from_catalog
from dpl.data.sources.synthetic import TASKS, pools
from dpl.data.task import Task
from dpl.utils.errors import DplError


@dataclass(frozen=True)
class Builtin:
    """A task that comes with dpl."""

    description: str
    load: Callable[[], Task]


def _digits() -> Task:
    from dpl.data.sources import digits  # late: scikit-learn takes a second to import

    return digits.load()


BUILTIN: dict[str, Builtin] = {
    "digits": Builtin("UCI handwritten digits of scikit-learn: 1797 grey images, 8 x 8 pixels", _digits),
    **{name: Builtin(row.description, partial(pools.load, name)) for name, row in TASKS.items()},
}


def load_task(data: str, *, root: Path | None = None, names: Path | None = None, strict: bool = False) -> Task:
    """Loads a task.

    Splits do not depend on the seed of a run, so the test set is the same for all runs.

    Args:
        data: Name of a built-in task or of a data set of the catalogue; a folder of images; a table of paths and labels; or a
            Hugging Face data set. See the modules of `dpl.data.sources`.
        root: Folder that has the data sets of the catalogue.
        names: File of new class names (`dpl.data.class_names`).
        strict: All images are decoded, and an unreadable one is an error. By default no image is decoded here: an unreadable
            one is left out with a note when it is used. A data set of the catalogue is always strict when it is used, and its
            images are not decoded here.

    Returns:
        The task, with notes for the user.

    Raises:
        DplError: `data` is not a valid task.

    Example:
        >>> import dpl
        >>> task = dpl.load_task("digits")
        >>> len(task.class_names), len(task.train), len(task.test)
        (10, 899, 539)
    """
    task = _found(data, root, strict)
    if names is not None:
        return renamed(task, names)
    return task if data in BUILTIN else advised(task)


def _found(data: str, root: Path | None, strict: bool) -> Task:
    if data in BUILTIN:
        return BUILTIN[data].load()
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
