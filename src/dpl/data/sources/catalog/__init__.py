"""Catalogue of the field's data sets: a table of their properties and folders under --root, and functions to load them.

Labels, class names, splits and templates follow the CoOp family; see docs/datasets.md.
"""

from pathlib import Path

from dpl.data.paths import shown
from dpl.data.sources.catalog.dataset import Dataset
from dpl.data.sources.catalog.pools import Pools
from dpl.data.sources.catalog.readers import split_file
from dpl.data.sources.catalog.rows import ROWS
from dpl.data.sources.catalog.shifts import SHIFTS
from dpl.data.task import Augmentation, Task
from dpl.utils.errors import DplError

CATALOG: dict[str, Dataset] = {row.name: row for row in (*ROWS, *SHIFTS)}
AUGMENTATION = Augmentation((0.08, 1.0), flip=True)  # the protocol's


def load_from_catalog(name: str, root: Path | None, *, strict: bool = False) -> Task:
    """Loads a data set of the catalogue as a task, without opening its images.

    A missing image is an error. An image that cannot be decoded is an error when it is used, because results on other images
    cannot be compared with published ones; that error names the file.

    Args:
        name: key of `CATALOG`.
        root: folder that has the folders of the data sets.
        strict: has no effect: no image is decoded here, and the task is always strict.

    Returns:
        The task. A note says so if the split is not the published one.

    Raises:
        DplError: the data set is missing or incomplete, or its annotations are broken.
    """
    row = CATALOG[name]
    pools = read_pools(row, root)
    if pools.missing:
        total = len(pools.train) + len(pools.val) + len(pools.test)
        problem = f"{len(pools.missing)} of {total} images that the annotations name are missing, such as {min(pools.missing)}"
        raise DplError(f"{shown(pools.images)}: {problem}; see dpl datasets check {name} --root {shown(root or '.')}")
    notes = pools.notes
    if pools.made:
        notes = (f"the split of {name} is not the published one, as {row.split} is missing: {pools.made}", *notes)
    return Task(
        name=name,
        class_names=pools.class_names,
        templates=row.templates,
        train=pools.train,
        val=pools.val,
        test=pools.test,
        augmentation=AUGMENTATION,
        notes=notes,
        root=pools.images,
        strict=True,
        trained_on=row.trained_on,
    )


def read_pools(row: Dataset, root: Path | None) -> Pools:
    """Reads the items of a data set from its split file or, without one, from the original annotations.

    Args:
        row: row of the catalogue.
        root: folder that has the folders of the data sets.

    Returns:
        The pools; `Pools.missing` has the names of images without a file.

    Raises:
        DplError: the data set is missing, or its annotations are broken.
    """
    folder = place(row, root)
    images = folder / row.images
    try:
        if not images.is_dir():
            raise DplError(f"{row.name}: {shown(images)} is missing; dpl datasets where {row.name} says how to get it")
        if row.split and (folder / row.split).exists():
            return split_file(folder / row.split, images)
        return row.reader(folder, images)
    except OSError as error:  # e.g. a folder without permission
        raise DplError(f"cannot read {shown(error.filename or folder)}: {error.strerror}; check its permissions") from None


def place(row: Dataset, root: Path | None) -> Path:
    """Returns the folder of a data set under `root`; the folder itself may be missing.

    Args:
        row: row of the catalogue.
        root: folder that has the folders of the data sets.

    Returns:
        Path of the folder.

    Raises:
        DplError: `root` is None or is not a folder.
    """
    if root is None:
        problem = f"{row.name} is a data set of the catalogue: give its folder with --root (dpl datasets where {row.name})"
        raise DplError(f"{problem}, or write ./{row.name} for a folder of your own")
    try:
        is_folder = root.is_dir()
    except OSError:  # the name is too long, or permission is denied
        is_folder = False
    if not is_folder:
        raise DplError(f"--root {shown(root)} is not a folder; give the one that has the folders of the data sets")
    return root / row.folder


def present(row: Dataset, root: Path) -> bool:
    """Returns whether the data set's folder of images exists under `root`."""
    return (root / row.folder / row.images).is_dir()
