"""Lazy items of class folders: a training set of a million files takes only the memory of the file names."""

import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import overload

from dpl.data.paths import ENDINGS, shown
from dpl.data.task import Item
from dpl.utils.errors import DplError


def image_names(folder: Path) -> list[str]:
    """Lists the image files in `folder`, sorted by name, without hidden ones; `DplError` if it cannot be listed."""
    return [name for name in _listed(folder) if name.lower().endswith(ENDINGS)]


def folder_names(folder: Path) -> list[str]:
    """Lists the folders in `folder`, sorted by name, without hidden ones; `DplError` if it cannot be listed."""
    return [name for name in _listed(folder) if (folder / name).is_dir()]


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith(".") and name != "__MACOSX")  # noqa: PTH208
    except OSError as error:
        raise DplError(f"cannot list the folder {shown(folder)}: {error.strerror}; check where it lies") from None


class _Items(Sequence[Item]):
    """Sequence of items; subclasses define `_at`, which creates the item at an index."""

    def _at(self, index: int) -> Item:
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Item, ...]: ...
    def __getitem__(self, index: int | slice) -> Item | tuple[Item, ...]:
        if isinstance(index, slice):
            return tuple(self._at(place) for place in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self._at(index % len(self))


class ClassFolder(_Items):
    """Items of one class, sorted by name; the first access lists the folder.

    The first access raises `DplError` if the folder cannot be listed or has no images.

    Args:
        root: Folder of images; item names are relative to it.
        name: Path of the class folder, relative to `root`.
        label: Label of the class.
    """

    def __init__(self, root: Path, name: str, label: int) -> None:
        self._root, self._name, self.label = root, name, label

    @cached_property
    def _files(self) -> list[str]:
        files = image_names(self._root / self._name)
        if not files:
            raise DplError(f"{shown(self._root / self._name)} has no images; add those of this class")
        return files

    def __len__(self) -> int:
        """The number of images."""
        return len(self._files)

    def _at(self, index: int) -> Item:
        name = f"{self._name}/{self._files[index]}"
        return Item(self._root / name, self.label, name.encode(errors="backslashreplace").decode())


class ClassFolders(_Items):
    """Items of several class folders, class by class; see `ClassFolder`.

    Args:
        root: Folder of images; item names are relative to it.
        names: Paths of the class folders, relative to `root`, in the order of labels from 0.
    """

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self.groups = tuple(ClassFolder(root, name, label) for label, name in enumerate(names))

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(map(len, self.groups)))

    def __len__(self) -> int:
        """The number of images of all classes; the first call lists their folders."""
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[Item]:
        for group in self.groups:
            yield from group

    def _at(self, index: int) -> Item:
        place = bisect_right(self._ends, index)
        return self.groups[place][index - (self._ends[place - 1] if place else 0)]


def by_class(items: Iterable[Item]) -> dict[int, Sequence[Item]]:
    """Groups items by label.

    Args:
        items: Items; for `ClassFolders`, no folder is listed.

    Returns:
        Items of each label in their order; labels in order of first appearance.
    """
    if isinstance(items, ClassFolders):
        return {group.label: group for group in items.groups}
    groups: dict[int, list[Item]] = {}
    for item in items:
        groups.setdefault(item.label, []).append(item)
    return dict(groups)
