"""Loads a task from a table of image paths and labels, one row per image, with an optional column for the split.

The table is CSV, TSV, JSON (a list of objects, or one per line) or Parquet. Paths are relative to the table's folder and
must stay in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from dpl.data import split
from dpl.data.class_names import class_name
from dpl.data.paths import relative_name, shown
from dpl.data.sources import hub
from dpl.data.sources.folder import AUGMENTATION
from dpl.data.sources.table_rows import COLUMNS, READERS, Row, open_parquet, read_rows
from dpl.data.task import Item, Task
from dpl.data.templates import PHOTOS
from dpl.data.validate import check_classes, skipped, unreadable_items
from dpl.utils.errors import DplError


def is_table(path: Path) -> bool:
    """Returns whether `path` is a file with the ending of a table."""
    return path.suffix.lower() in READERS and path.is_file()


def load(path: Path, *, strict: bool = False) -> Task:
    """Loads a table as a task; `dpl.data.sources.hub` loads a Parquet file that contains the images themselves.

    Missing splits are made, always in the same way; the task's notes describe them. Duplicate rows count once.

    Args:
        path: the table.
        strict: all images are decoded, and a missing or unreadable one is an error. By default missing and empty files are
            skipped with a note, and nothing is decoded.

    Returns:
        The task; item names are paths relative to the table's folder.

    Raises:
        DplError: the table is not a valid task: a path leaves the folder, an image has two labels or splits, a cell is empty.
            The message names the row.
    """
    if path.suffix.lower() == ".parquet" and _holds_images(path):
        return hub.load_parquet(path, [path], strict=strict)
    entries, notes = _entries(path, read_rows(path))
    names = tuple(sorted({entry.name for entry in entries}))
    labels = {name: label for label, name in enumerate(names)}
    listing = {entry: Item(entry.path, labels[entry.name], relative_name(entry.path, path.parent)) for entry in entries}
    places = {item: f"{shown(path)}: {entry.row.place}: " for entry, item in listing.items()}
    bad = unreadable_items(places, strict=strict, place=places.__getitem__)
    parts: dict[str, list[Item]] = {part: [] for part in _parts(path, entries)}
    for entry, item in listing.items():
        if item not in bad:
            parts[entry.part].append(item)
    check_classes(shown(path), parts, names, bad)
    for items in parts.values():
        items.sort(key=lambda item: (item.label, item.name))
    pools, made = split.filled(shown(path), parts, names)
    return Task(
        name=shown(path.stem),
        class_names=names,
        templates=PHOTOS,
        train=tuple(pools["train"]),
        val=tuple(pools["val"]),
        test=tuple(pools["test"]),
        augmentation=AUGMENTATION,
        notes=(*notes, *skipped(bad), *made),
        root=path.parent,
        strict=strict,
    )


@dataclass(frozen=True)
class _Entry:
    """A checked row."""

    row: Row
    path: Path
    name: str
    part: str
    """ "train", "val", "test", or "all" in a table without splits."""


def _holds_images(path: Path) -> bool:
    """Returns whether an image or path column has bytes, or structs as Hugging Face writes them."""
    schema = open_parquet(path).schema_arrow
    kinds = [str(field.type) for field in schema if field.name.strip().casefold() in (*COLUMNS["path"], "img")]
    return any(kind.startswith(("struct", "binary", "large_binary")) for kind in kinds)


def _entries(path: Path, rows: Sequence[Row]) -> tuple[list[_Entry], tuple[str, ...]]:
    """Checks the rows; returns one entry per image, and a note on duplicate rows."""
    found: dict[Path, _Entry] = {}
    spelled: dict[str, tuple[str, str]] = {}  # a class's name in lower case -> as it is written first, and where
    twice = 0
    for row in rows:
        name = class_name(row.label)
        first, place = spelled.setdefault(name.casefold(), (row.label, row.place))
        if not name:
            raise DplError(f"{shown(path)}: {row.place}: a class's name cannot be underscores only; rename it")
        if class_name(first) != name:
            both = f"{shown(first)!r} ({place}) and {shown(row.label)!r} are one class by name"
            raise DplError(f"{shown(path)}: {row.place}: {both}; write them alike")
        entry = _Entry(row, _inside(path, row), name, _part(path, row))
        other = found.setdefault(entry.path, entry)
        for what, mine, others in (("label", name, other.name), ("split", entry.part, other.part)):
            if mine != others:
                both = f"{shown(row.path)} is {mine!r}, but {others!r} in {other.row.place}"
                raise DplError(f"{shown(path)}: {row.place}: {both}: an image has one {what}; remove one of the rows")
        twice += other is not entry
    if not found:
        raise DplError(f"{shown(path)}: has no rows; give one per image")
    note = f"{twice} row{'s' * (twice > 1)} of {shown(path.name)} {'are' if twice > 1 else 'is'} there twice, and counted once"
    return list(found.values()), (note,) if twice else ()


def _inside(path: Path, row: Row) -> Path:
    """Returns the image's path; `DplError` if the written path leads out of the table's folder."""
    ways = PurePosixPath(row.path), PureWindowsPath(row.path)  # the table may come from another system
    problem = None
    if any(way.is_absolute() or way.anchor for way in ways):
        problem = "is absolute"
    elif any(".." in way.parts for way in ways):
        problem = "leads out of a folder (..)"
    elif "\0" in row.path:
        problem = "has a zero byte"
    if problem:
        raise DplError(
            f"{shown(path)}: {row.place}: {shown(row.path)} {problem}; paths are relative to the table's folder and stay in it"
        )
    there = path.parent / row.path
    return path.parent / row.path.replace("\\", "/") if "\\" in row.path and not _exists(there) else there


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _part(path: Path, row: Row) -> str:
    if row.split is None:
        return "all"
    if row.split.casefold() not in split.PARTS:
        raise DplError(f"{shown(path)}: {row.place}: no split {shown(row.split)!r}: there are train, val and test")
    return split.PARTS[row.split.casefold()]


def _parts(path: Path, entries: Sequence[_Entry]) -> list[str]:
    """Returns the parts of the table in order; `DplError` if it has splits but no train or no test."""
    there = {entry.part for entry in entries}
    if "all" not in there and (missing := [part for part in ("train", "test") if part not in there]):
        problem = f"the column split has {' and '.join(sorted(there))} but no {' and no '.join(missing)}"
        raise DplError(f"{shown(path)}: {problem}; add such rows, or remove the column to have splits made")
    return [part for part in ("all", "train", "val", "test") if part in there]
