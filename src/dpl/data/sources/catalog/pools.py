"""Converts annotation rows of a data set to items: checks names, labels and files, and makes missing splits."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from dpl.data.class_names import spaced
from dpl.data.paths import listed, shown
from dpl.data.split import filled
from dpl.data.task import Item
from dpl.utils.errors import DplError

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Row:
    """One annotation: an image, its class, and its place in the annotation file."""

    name: str
    """Path relative to the folder of images, with forward slashes."""
    label: int
    class_name: str
    at: str
    """The file and the row, for errors."""


@dataclass(frozen=True)
class Pools:
    """Result of a reader: class names and the items of each part of a data set."""

    images: Path
    """The folder that the items' names are relative to."""
    class_names: tuple[str, ...]
    train: Sequence[Item]
    val: Sequence[Item]
    """`train` itself if the data set has no validation images: they are drawn from the images that the training shots leave."""
    test: tuple[Item, ...]
    missing: frozenset[str] = frozenset()
    """Names of items whose files do not exist."""
    made: str = ""
    """Description of the split if it was made here and is not the published one."""
    notes: tuple[str, ...] = ()


def from_rows(images: Path, parts: Mapping[str, Sequence[Row]]) -> Pools:
    """Checks annotation rows and converts them to pools; `dpl.data.split.filled` makes missing splits.

    Underscores of class names become spaces. A missing image file is not an error; its name is in `Pools.missing`.

    Args:
        images: folder of images.
        parts: rows by part: "train", "val" and "test"; "train" and "test"; or "all".

    Returns:
        The pools.

    Raises:
        DplError: a part is empty or too small to split, labels are not 0 to n - 1 with one name each, or an image name leads
            out of `images`. Messages on a row name it.
    """
    if empty := [part for part, own in parts.items() if not own]:
        raise DplError(f"{shown(images)}: the annotations name no images for {listed(empty)}; get them anew")
    rows = [row for part in parts.values() for row in part]
    for row in rows:
        _check_name(row)
    class_names = _class_names(rows)
    items = {part: [Item(images / row.name, row.label, row.name) for row in rows] for part, rows in parts.items()}
    pools, made = filled(shown(images), items, class_names)
    train, val, test = (tuple(pools[part]) for part in PARTS)
    return Pools(images, class_names, train, val, test, _missing(images, rows), "".join(made), _repeated(rows))


def _class_names(rows: Sequence[Row]) -> tuple[str, ...]:
    first: dict[int, Row] = {}
    for row in rows:
        other = first.setdefault(row.label, row)
        if other.class_name != row.class_name:
            both = f"{shown(other.class_name)!r} ({other.at}) and {shown(row.class_name)!r}"
            raise DplError(f"{row.at}: label {row.label} has two names, {both}; get the file anew")
    names: list[str] = []
    for label in range(len(first)):
        if label not in first:
            row = first[max(first)]
            raise DplError(f"{row.at}: has label {row.label}, but no row has label {label}; get the file anew")
        names.append(clean(first[label].class_name, first[label].at))
    return tuple(names)


def clean(name: str, at: str) -> str:
    """Converts a class name for use in templates: underscores become spaces.

    Args:
        name: class name as annotated.
        at: place of the name, for the message.

    Returns:
        The name on one line.

    Raises:
        DplError: the name is empty or not printable text.
    """
    cleaned = spaced(name)
    if not cleaned or shown(cleaned) != cleaned:
        raise DplError(f"{at}: the class name {shown(name)!r} is no text; get the file anew")
    return cleaned


def _check_name(row: Row) -> None:
    name = row.name
    steps = name.replace("\\", "/").split("/")
    if name.startswith("/") or ".." in steps or PureWindowsPath(name).anchor:
        raise DplError(f"{row.at}: {shown(name)} leads out of the folder of images; give paths within it")
    if not steps[-1] or shown(name) != name:
        raise DplError(f"{row.at}: {shown(name)!r} is no path of a file; get the file anew")


def _missing(images: Path, rows: Sequence[Row]) -> frozenset[str]:
    """Returns the names without a file; lists every folder once and opens no file."""
    there: dict[str, set[str]] = {}
    missing: set[str] = set()
    for row in rows:
        folder, _, file = row.name.rpartition("/")
        if folder not in there:
            there[folder] = _files(images / folder)
        # The file system may accept a name that the listing spells differently (accents, upper case).
        if file not in there[folder] and not _is_file(images / row.name):
            missing.add(row.name)
    return frozenset(missing)


def _files(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))  # noqa: PTH208
    except OSError:  # the folder is missing, or the name is too long
        return set()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _repeated(rows: Sequence[Row]) -> tuple[str, ...]:
    seen: dict[str, str] = {}
    again = [f"{row.name} ({row.at})" for row in rows if seen.setdefault(row.name, row.at) != row.at]
    return (f"listed more than once, and kept as it stands: {listed(again, most=3)}",) if again else ()
