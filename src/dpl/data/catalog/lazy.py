"""Items of class folders, made when they are asked for: a training set of a million files costs their names, and no more."""

import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import overload

from dpl.data.paths import ENDINGS, shown
from dpl.data.task import Item
from dpl.errors import DplError


def image_names(folder: Path) -> list[str]:
    """The names of the image files in `folder`, sorted, without the hidden. `DplError` where it cannot be listed."""
    return [name for name in _listed(folder) if name.lower().endswith(ENDINGS)]


def folder_names(folder: Path) -> list[str]:
    """The names of the folders in `folder`, sorted, without the hidden. `DplError` where it cannot be listed."""
    return [name for name in _listed(folder) if (folder / name).is_dir()]


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith(".") and name != "__MACOSX")  # noqa: PTH208
    except OSError as error:
        raise DplError(f"cannot list the folder {shown(folder)}: {error.strerror}; check where it lies") from None


class _Items(Sequence[Item]):
    """What both sequences here do with slices."""

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
    """The images of one class, sorted by name. The folder `root`/`name` is listed when first needed.

    Raises `DplError` then where it cannot be listed or has no images.
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
    """The images of the folders `names` of `root`, the first with label 0, class by class; see `ClassFolder`."""

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self.groups = tuple(ClassFolder(root, name, label) for label, name in enumerate(names))

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(map(len, self.groups)))

    def __len__(self) -> int:
        """The number of images of all classes; lists their folders."""
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[Item]:
        for group in self.groups:
            yield from group

    def _at(self, index: int) -> Item:
        place = bisect_right(self._ends, index)
        return self.groups[place][index - (self._ends[place - 1] if place else 0)]


def by_class(items: Iterable[Item]) -> dict[int, Sequence[Item]]:
    """The items of every label, in their order; labels in order of first appearance."""
    if isinstance(items, ClassFolders):
        return {group.label: group for group in items.groups}
    groups: dict[int, list[Item]] = {}
    for item in items:
        groups.setdefault(item.label, []).append(item)
    return dict(groups)
