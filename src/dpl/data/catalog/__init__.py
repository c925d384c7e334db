"""The data sets of the field: a table of what they are and where they lie under --root, and their reading.

Labels, class names, splits and templates are those of the CoOp family; see docs/datasets.md.
"""

from pathlib import Path

from dpl.data.catalog.dataset import Dataset
from dpl.data.catalog.pools import Pools
from dpl.data.catalog.readers import split_file
from dpl.data.catalog.rows import ROWS
from dpl.data.catalog.shifts import SHIFTS
from dpl.data.paths import shown
from dpl.data.task import Augmentation, Task
from dpl.errors import DplError

CATALOG: dict[str, Dataset] = {row.name: row for row in (*ROWS, *SHIFTS)}
AUGMENTATION = Augmentation((0.08, 1.0), flip=True)  # the protocol's


def load_from_catalog(name: str, root: Path | None, *, strict: bool = False) -> Task:
    """The data set `name`, in its folder under `root`.

    No image is opened, so `strict` changes nothing: an image that is missing is an error here, one that cannot be decoded is
    an error that names it when it is used. Raises `DplError` where the data set is not there, or not whole.
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
    )


def read_pools(row: Dataset, root: Path | None) -> Pools:
    """The items of a data set by its split file, or by the original annotations where there is none; missing ones are told.

    Raises `DplError` where there is no data set, or its annotations are broken.
    """
    folder = place(row, root)
    images = folder / row.images
    try:
        if not images.is_dir():
            raise DplError(f"{row.name}: {shown(images)} is missing; dpl datasets where {row.name} says what belongs there")
        if row.split and (folder / row.split).exists():
            return split_file(folder / row.split, images)
        return row.reader(folder, images)
    except OSError as error:  # folders that may not be entered
        raise DplError(f"cannot read {shown(error.filename or folder)}: {error.strerror}; check its permissions") from None


def place(row: Dataset, root: Path | None) -> Path:
    """The folder of a data set under `root`. `DplError` where root is not given, or is no folder."""
    if root is None:
        problem = f"{row.name} is a data set of the catalogue: say with --root where it lies (dpl datasets where {row.name})"
        raise DplError(f"{problem}, or write ./{row.name} for a folder of yours")
    try:
        is_folder = root.is_dir()
    except OSError:  # too long a name, or one that may not be looked at
        is_folder = False
    if not is_folder:
        raise DplError(f"--root {shown(root)} is no folder; give the one that the folders of the data sets lie in")
    return root / row.folder


def present(row: Dataset, root: Path) -> bool:
    """Whether the data set's images have a folder under `root`."""
    return (root / row.folder / row.images).is_dir()
