"""Checks a downloaded data set: missing files, counts against the published ones, and images that cannot be decoded."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dpl.data.lazy_items import by_class
from dpl.data.paths import listed, shown
from dpl.data.pixels.decode import unreadable
from dpl.data.sources.catalog import place, read_pools
from dpl.data.sources.catalog.dataset import Dataset
from dpl.data.sources.catalog.pools import PARTS, Pools
from dpl.data.task import Item
from dpl.utils.errors import DplError

SAMPLE = 200  # number of images to decode, unless all are requested
CHUNK = 1000


@dataclass(frozen=True)
class PartCheck:
    """Counts of one part of a data set, and the published number of images."""

    name: str
    images: int
    """Number of images in the annotations or, without annotations, in the folders."""
    published: int | None
    missing: int
    classes: int
    """Number of classes with images in this part."""
    smallest: int
    largest: int
    """Number of images of the smallest and of the largest of these classes."""


@dataclass(frozen=True)
class Checked:
    """Result of a check."""

    row: Dataset
    folder: Path
    classes: int | None
    """None if the data set could not be read."""
    parts: tuple[PartCheck, ...]
    decoded: int
    """Number of decoded images."""
    images: int
    """Number of image files."""
    problems: tuple[str, ...]
    """Problems, one sentence each."""
    notes: tuple[str, ...]
    """Remarks that are not problems, one sentence each."""


def check(
    row: Dataset, root: Path | None, *, everything: bool = False, on_step: Callable[[int, int], None] | None = None
) -> Checked:
    """Compares a data set with its row of the catalogue, and decodes `SAMPLE` evenly spaced images or all of them.

    Args:
        row: row of the catalogue.
        root: folder that has the folders of the data sets.
        everything: decodes all images.
        on_step: called with the number of images decoded so far and the number to decode.

    Returns:
        Counts, problems and notes; problems of the data set are not raised.

    Raises:
        DplError: `root` is None or is not a folder.
    """
    folder = place(row, root)
    problems = _missing_files(row, folder)
    try:
        pools = read_pools(row, root)
        parts = _parts(row, pools)
    except DplError as error:
        # If the whole folder of images is missing, `_missing_files` has reported it.
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
    """Returns a sentence for each missing file of the data set."""
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
    """Returns the parts that have images of their own."""
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
    """Decodes at most `most` evenly spaced images, or all; returns their number and a sentence on the unreadable ones."""
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
