"""Readers of ImageNet and its shifts: one folder of images per class, named by wnid (n01440764) or by number."""

from collections.abc import Sequence
from pathlib import Path

from dpl.data.lazy_items import ClassFolders, folder_names
from dpl.data.paths import listed, shown
from dpl.data.sources.catalog.annotation_files import lines, words
from dpl.data.sources.catalog.pools import Pools, clean
from dpl.data.task import Item
from dpl.utils.errors import DplError

NAMES = "classnames.txt"
NOTE = (
    "imagenet has no validation images of its own, as val/ is its test set: validation shots are drawn from the training "
    "images that the training shots leave"
)


def imagenet(folder: Path, images: Path) -> Pools:
    """Reads ImageNet: train/ and val/ have a folder per wnid, and labels follow the order of wnids.

    val/ is the test set, as usual in the field. The folders of training images are listed only when they are needed.

    Args:
        folder: folder of the data set, with classnames.txt.
        images: folder of train/ and val/.

    Returns:
        The pools; `val` is `train` itself.

    Raises:
        DplError: classnames.txt is missing or broken, or class folders are missing, unknown or, in val/, without images.
    """
    names = _names(folder / NAMES)
    for part in ("train", "val"):
        _check_all(images / part, folder_names(images / part), names)
    train = ClassFolders(images, [f"train/{wnid}" for wnid in names])
    test = _items(images, [f"val/{wnid}" for wnid in names])
    return Pools(images, tuple(names.values()), train, train, test, notes=(NOTE,))


def numbered(folder: Path, images: Path) -> Pools:
    """Reads ImageNetV2: folders 0 to 999 are indices in the order of wnids.

    Args:
        folder: folder of the data set.
        images: folder of the class folders.

    Returns:
        Pools with test images only.

    Raises:
        DplError: the class names are missing or broken, or class folders are missing, unknown or without images.
    """
    names = _shared_names(folder)
    numbers = [str(label) for label in range(len(names))]
    _check_all(images, folder_names(images), numbers)
    return _test_only(images, numbers, [*names.values()])


def all_wnids(folder: Path, images: Path) -> Pools:
    """Reads ImageNet-Sketch: one folder for every wnid of ImageNet.

    Args:
        folder: folder of the data set.
        images: folder of the class folders.

    Returns:
        Pools with test images only.

    Raises:
        DplError: the class names are missing or broken, or class folders are missing, unknown or without images.
    """
    names = _shared_names(folder)
    _check_all(images, folder_names(images), names)
    return _test_only(images, [*names], [*names.values()])


def some_wnids(folder: Path, images: Path) -> Pools:
    """Reads ImageNet-A or ImageNet-R: folders for some of ImageNet's wnids; only these are classes, in the order of wnids.

    Args:
        folder: folder of the data set.
        images: folder of the class folders.

    Returns:
        Pools with test images only.

    Raises:
        DplError: the class names are missing or broken, or class folders are unknown, without images, or all missing.
    """
    names = _shared_names(folder)
    wnids = folder_names(images)
    _check_known(images, wnids, names)
    if not wnids:
        raise DplError(f"{shown(images)} has no class folders; put them there")
    return _test_only(images, wnids, [names[wnid] for wnid in wnids])


def _test_only(images: Path, folders: Sequence[str], names: Sequence[str]) -> Pools:
    return Pools(images, tuple(names), (), (), _items(images, folders))


def _items(images: Path, folders: Sequence[str]) -> tuple[Item, ...]:
    return tuple(ClassFolders(images, folders))


def _shared_names(folder: Path) -> dict[str, str]:
    own, imagenets = folder / NAMES, folder.parent / "imagenet" / NAMES
    if not own.exists() and not imagenets.exists():
        problem = f"the names of the classes are missing: neither {shown(imagenets)} nor {shown(own)} is there"
        raise DplError(f"{problem}; see dpl datasets where imagenet")
    return _names(imagenets if imagenets.exists() else own)


def _names(path: Path) -> dict[str, str]:
    """Reads names by wnid from lines such as "n01440764 tench"; they must be in the order of wnids, as labels are."""
    names: dict[str, str] = {}
    for at, line in lines(path):
        wnid, *name = words(line, at, 2, 'a wnid and a name, such as "n01440764 tench"')
        if names and wnid <= (last := next(reversed(names))):
            problem = f"{shown(wnid)} stands behind {shown(last)}, but lines are in the order of wnids, each once"
            raise DplError(f"{at}: {problem}; get the file anew")
        names[wnid] = clean(" ".join(name), at)
    return names


def _check_all(folder: Path, found: Sequence[str], known: Sequence[str] | dict[str, str]) -> None:
    """Raises `DplError` if the class folders `found` in `folder` are not exactly the known ones."""
    _check_known(folder, found, known)
    lacking = sorted(set(known) - set(found))
    if lacking:
        raise DplError(f"{shown(folder)} lacks {len(lacking)} of {len(known)} class folders: {listed(lacking)}; add them")


def _check_known(folder: Path, found: Sequence[str], known: Sequence[str] | dict[str, str]) -> None:
    other = sorted(set(found) - set(known))
    if other:
        problem = f"{shown(folder)} has folders that are no classes of {NAMES}: {listed(map(shown, other))}"
        raise DplError(f"{problem}; remove them, or get {NAMES} anew")
