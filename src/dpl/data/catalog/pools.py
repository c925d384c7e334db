"""From the rows of a data set's annotations to its items: checked names, labels and files, and the splits that it lacks."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from dpl.data.paths import listed, shown
from dpl.data.split import filled
from dpl.data.task import Item
from dpl.errors import DplError

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Row:
    """One line of an annotation: an image, its class, and where it is said."""

    name: str
    """Path relative to the folder of images, with forward slashes."""
    label: int
    class_name: str
    at: str
    """The file and the row, for errors."""


@dataclass(frozen=True)
class Pools:
    """What a reader finds of a data set."""

    images: Path
    """The folder that the items' names are relative to."""
    class_names: tuple[str, ...]
    train: Sequence[Item]
    val: Sequence[Item]
    """`train` itself where the data set has no validation images: they are drawn from what the training shots leave."""
    test: tuple[Item, ...]
    missing: frozenset[str] = frozenset()
    """Names of items whose files are not there."""
    made: str = ""
    """Which split was made here, where the annotations have another."""
    notes: tuple[str, ...] = ()


def from_rows(images: Path, parts: Mapping[str, Sequence[Row]]) -> Pools:
    """The pools of rows in "train", "val" and "test"; in "train" and "test" alone, or in "all", see `dpl.data.split.filled`.

    Labels must be 0 to n - 1, of one name each; spaces stand for a name's underscores. Names must stay within `images`. Raises
    `DplError` naming the row, and where a part is empty. A missing file is no error here, see `Pools.missing`.
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
    """A class's name as it goes into a template: spaces for underscores. `DplError` where none is left or it is no text."""
    cleaned = " ".join(name.replace("_", " ").split())
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
    """The names without a file: every folder is listed once, no file is opened."""
    there: dict[str, set[str]] = {}
    missing: set[str] = set()
    for row in rows:
        folder, _, file = row.name.rpartition("/")
        if folder not in there:
            there[folder] = _files(images / folder)
        # A listing may spell a name in another way than the file system accepts (accents, upper case).
        if file not in there[folder] and not _is_file(images / row.name):
            missing.add(row.name)
    return frozenset(missing)


def _files(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))  # noqa: PTH208
    except OSError:  # not there, or too long a name
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
