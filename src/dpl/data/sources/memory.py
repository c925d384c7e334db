"""Makes a task of images that a program has: PIL images, arrays, paths of files, or any mix of them."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dpl.data import split
from dpl.data.paths import relative_name
from dpl.data.sources.folder import AUGMENTATION
from dpl.data.task import Item, Task
from dpl.data.templates import PHOTOS
from dpl.utils.errors import DplError

ImageLike = Image.Image | np.ndarray | str | Path
"""An image: of PIL, an array of uint8 (height, width, 3), 0-255, or the path of a file."""

NEEDED = "give PIL images, arrays of uint8 (height, width, 3), or paths"


def check_images(images: Any, what: str = "X") -> list[ImageLike]:
    """Checks the kinds of images; files are not opened.

    Args:
        images: A sequence of `ImageLike`, or an array (images, height, width, 3).
        what: Name of the images in messages.

    Returns:
        The images.

    Raises:
        DplError: There are no images, or one is of another kind.
    """
    if isinstance(images, Image.Image | str | bytes | Path) or not isinstance(images, Iterable):
        raise DplError(f"{what}: give a list of images, not one {type(images).__name__}")
    if isinstance(images, np.ndarray) and images.dtype != object and images.dtype.kind != "U" and images.ndim != 4:
        raise DplError(f"{what}: an array of images must be (images, height, width, 3), not {images.shape}")
    found = list(images)
    if not found:
        raise DplError(f"{what}: there are no images")
    for place, image in enumerate(found):
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
                raise DplError(f"{what}[{place}]: {NEEDED}; this array is {image.dtype} {image.shape}")
        elif not isinstance(image, Image.Image | str | Path):
            raise DplError(f"{what}[{place}]: {NEEDED}; this is a {type(image).__name__}")
    return found


def to_items(images: Sequence[ImageLike], labels: Sequence[int], what: str = "X", root: Path | None = None) -> tuple[Item, ...]:
    """Makes an item of every image.

    Args:
        images: Result of `check_images`.
        labels: The index of the class of every image.
        what: Name of the images in messages and in the items' names.
        root: Folder that the names of files are relative to; by default `data_root(images)`.

    Returns:
        Items with different names: a file's path relative to `root`, for others their place, such as X[3].
    """
    root, seen, items = root or data_root(images), Counter(), []
    for place, (image, label) in enumerate(zip(images, labels, strict=True)):
        is_file = isinstance(image, str | Path)
        name = relative_name(_absolute(image), root) if is_file and root else f"{what}[{place}]"
        seen[name] += 1
        name = f"{name} ({seen[name]})" if seen[name] > 1 else name
        items.append(Item(Path(image) if is_file else image, label, name))
    return tuple(items)


def data_root(images: Iterable[ImageLike]) -> Path | None:
    """Finds the folder that contains all files: the deepest common one, or the one above it if that is called train or the like.

    Files of a data folder get the names that they have when the folder itself is loaded, so the same ones are drawn.

    Args:
        images: Images of any kinds.

    Returns:
        The folder; None if no image is a file.
    """
    folders = {_absolute(image).parent for image in images if isinstance(image, str | Path)}
    if not folders:
        return None
    common = Path(os.path.commonpath(folders))
    return common.parent if common.name.lower() in split.PARTS else common


def _absolute(path: str | Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100, because resolve() would follow links


def load(
    train: tuple[Sequence[ImageLike], Sequence[int]],
    val: tuple[Sequence[ImageLike], Sequence[int]] | None,
    class_names: Sequence[str],
    *,
    keep_order: bool = False,
) -> Task:
    """Makes a task without test images.

    Without `val`, 20 % of every class of `train` are for validation, as in a folder with train/ and test/.

    Args:
        train: Images, and the index of the class of each.
        val: The same for validation.
        class_names: Names of the classes.
        keep_order: Keeps the order of the images of a class. By default files come in the order of their names, as those of a
            folder do.

    Returns:
        The task, class by class.

    Raises:
        DplError: Without `val`, a class has one image only.
    """
    root = data_root([*train[0], *(val[0] if val else ())])
    pools = {"train": to_items(*train, "X", root)} | ({"val": to_items(*val, "X_val", root)} if val else {})
    for part, items in pools.items():
        files = {item.name: item.name if isinstance(item.image, Path) and not keep_order else "" for item in items}
        pools[part] = tuple(sorted(items, key=lambda item: (item.label, files[item.name])))
    try:
        found, notes = split.filled("X", {**pools, "test": ()}, class_names)
    except DplError as error:
        raise DplError(f"{error}, or give validation images (X_val, y_val)") from None
    names = tuple(class_names)
    pools = {"train": tuple(found["train"]), "val": tuple(found["val"]), "test": ()}
    return Task("images", names, PHOTOS, **pools, augmentation=AUGMENTATION, notes=notes, root=root, strict=True)
