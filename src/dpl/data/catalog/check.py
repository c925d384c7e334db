"""Whether a download is whole: what is missing, counts beside the published ones, and images that cannot be decoded."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dpl.data.catalog import place, read_pools
from dpl.data.catalog.dataset import Dataset
from dpl.data.catalog.lazy import by_class
from dpl.data.catalog.pools import PARTS, Pools
from dpl.data.images import unreadable
from dpl.data.paths import listed, shown
from dpl.data.task import Item
from dpl.errors import DplError

SAMPLE = 200  # images that are decoded unless all are
CHUNK = 1000


@dataclass(frozen=True)
class PartCheck:
    """One part of a data set beside what was published."""

    name: str
    images: int
    """Those that the annotations name, or that the folders have."""
    published: int | None
    missing: int
    classes: int
    """Classes that have images here."""
    smallest: int
    largest: int
    """Images of the smallest and of the largest of these classes."""


@dataclass(frozen=True)
class Checked:
    """What was found of a data set."""

    row: Dataset
    folder: Path
    classes: int | None
    """None where the data set could not be read."""
    parts: tuple[PartCheck, ...]
    decoded: int
    """Images that were decoded."""
    images: int
    """All images that are there."""
    problems: tuple[str, ...]
    """All that is not well, a sentence each."""
    notes: tuple[str, ...]
    """What is worth knowing of a data set that is well."""


def check(
    row: Dataset, root: Path | None, *, everything: bool = False, on_step: Callable[[int, int], None] | None = None
) -> Checked:
    """Compares the data set under `root` with its row of the catalogue and decodes `SAMPLE` images spread over it, or all.

    `on_step` is told the images decoded so far and their number. Raises `DplError` only where `root` is no folder.
    """
    folder = place(row, root)
    problems = _missing_files(row, folder)
    try:
        pools = read_pools(row, root)
        parts = _parts(row, pools)
    except DplError as error:
        # Where the images are missing altogether, that has been said.
        problems += [str(error)] if (folder / row.images).is_dir() else []
        return Checked(row, folder, None, (), 0, 0, tuple(problems), ())
    problems += _count_problems(row, pools, parts)
    if pools.missing:
        count = f"{len(pools.missing)} of {sum(part.images for part in parts)}"
        names = listed(sorted(pools.missing), most=3)
        problems.append(f"{count} images that the annotations name are not in {shown(pools.images)}: {names}")
    items = [*_pools(pools).values()]
    total = sum(part.images - part.missing for part in parts)
    decoded, broken = _decode(items, pools.missing, None if everything else SAMPLE, on_step)
    return Checked(row, folder, len(pools.class_names), parts, decoded, total, (*problems, *broken), pools.notes)


def _missing_files(row: Dataset, folder: Path) -> list[str]:
    """A sentence for each of the data set's files that is not there."""
    remarks = dict.fromkeys(row.files, "")
    if row.split and not (folder / row.split).exists():
        remarks[row.split] = ": without it runs have a split of our own, whose results cannot be compared with published ones"
        remarks |= dict.fromkeys(row.stand_in, " (needed only without the split file)")
    return [
        f"{shown(os.path.normpath(folder / name))} is missing{remark}"
        for name, remark in remarks.items()
        if not (folder / name).exists() and not (folder / row.also.get(name, name)).exists()
    ]


def _pools(pools: Pools) -> dict[str, Sequence[Item]]:
    """The parts that have images of their own."""
    found = {part: getattr(pools, part) for part in PARTS}
    return {part: items for part, items in found.items() if len(items) and not (part == "val" and items is pools.train)}


def _parts(row: Dataset, pools: Pools) -> tuple[PartCheck, ...]:
    parts: list[PartCheck] = []
    for name, items in _pools(pools).items():
        sizes = [len(group) for group in by_class(items).values()]
        missing = sum(item.name in pools.missing for item in items) if pools.missing else 0
        parts.append(PartCheck(name, len(items), row.counts.part(name), missing, len(sizes), min(sizes), max(sizes)))
    return tuple(parts)


def _count_problems(row: Dataset, pools: Pools, parts: Sequence[PartCheck]) -> list[str]:
    problems: list[str] = []
    if len(pools.class_names) != row.counts.classes:
        problems.append(f"{len(pools.class_names)} classes, not {row.counts.classes}")
    for part in parts:
        if part.published is not None and part.images != part.published:
            problems.append(f"{part.name}: {part.images} images, not {part.published}")
        if part.classes != len(pools.class_names):
            count = len(pools.class_names)
            problems.append(f"{part.name}: no images of {count - part.classes} of {count} classes")
        if part.name in row.balanced and not pools.made:
            problems += _uneven(row, pools, part)
    return problems


def _uneven(row: Dataset, pools: Pools, part: PartCheck) -> list[str]:
    each = (part.published or 0) // row.counts.classes
    groups = by_class(getattr(pools, part.name))
    odd = [f"{pools.class_names[label]} ({len(group)})" for label, group in groups.items() if len(group) != each]
    return [f"{part.name}: not {each} images each in {len(odd)} classes: {listed(odd)}"] if odd else []


def _decode(
    pools: Sequence[Sequence[Item]], missing: frozenset[str], most: int | None, on_step: Callable[[int, int], None] | None
) -> tuple[int, list[str]]:
    """How many images were decoded, and what is wrong with those that could not be: at most `most`, spread evenly, or all."""
    paths: list[Path] = []
    step = -(-sum(map(len, pools)) // most) if most else 1
    place = 0
    for items in pools:
        chosen = (items[index] for index in range(-place % step, len(items), step))
        paths += [item.image for item in chosen if isinstance(item.image, Path) and item.name not in missing]
        place += len(items)
    bad: dict[Path, str] = {}
    for start in range(0, len(paths), CHUNK):
        bad |= unreadable(paths[start : start + CHUNK])
        if on_step:
            on_step(min(start + CHUNK, len(paths)), len(paths))
    if not bad:
        return len(paths), []
    path, reason = next(iter(bad.items()))
    return len(paths), [f"{len(bad)} of {len(paths)} images that were decoded cannot be read, the first {shown(path)}: {reason}"]
