"""Fixed train, val and test splits for data without given splits."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from dpl.data.paths import listed
from dpl.data.task import Item
from dpl.utils.errors import DplError

PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Usual names of the splits in lower case, and their names here."""

VAL, TEST = 0.2, 0.3  # as in the CoOp family for data sets without an official split; the rest is train


def _rank(item: Item) -> bytes:
    # A hash of the name acts as a random order that is the same on every machine and Python version. When images are added
    # later, most others keep their split.
    return hashlib.sha256(f"dpl split/{item.name}".encode()).digest()


def take(items: Iterable[Item], part: float) -> tuple[list[Item], list[Item]]:
    """Divides items in a pseudo-random way that depends only on their names.

    Args:
        items: items to divide.
        part: fraction to take, 0-1; at least one item is taken.

    Returns:
        Taken items and the rest, both in their original order.
    """
    items = list(items)
    count = max(1, round(len(items) * part))
    chosen = set(sorted(items, key=_rank)[:count])
    return [item for item in items if item in chosen], [item for item in items if item not in chosen]


def three_ways(items: Iterable[Item]) -> tuple[list[Item], list[Item], list[Item]]:
    """Splits the items of one class into 50 % train, 20 % val and 30 % test, at least one each.

    Args:
        items: 3 items or more.

    Returns:
        Train, val and test.
    """
    items = list(items)
    test, rest = take(items, TEST)
    val, train = take(rest, VAL * len(items) / len(rest))
    return train, val, test


def filled(data: str, items: Mapping[str, Sequence[Item]], names: Sequence[str]) -> tuple[dict[str, list[Item]], tuple[str, ...]]:
    """Makes the missing splits of a data set.

    "all" is split 50/20/30 % per class into train, val and test. From "train" and "test", val takes 20 % of train per class.
    All three together stay unchanged.

    Args:
        data: name of the data, with which messages begin.
        items: items by part: "all"; "train" and "test"; or "train", "val" and "test".
        names: class names, in the order of labels.

    Returns:
        The pools "train", "val" and "test", and a note if some were made.

    Raises:
        DplError: a class has too few images to split.
    """
    pools: dict[str, list[Item]] = {part: list(items.get(part, ())) for part in ("train", "val", "test")}
    if "all" in items:
        for group in _by_class(data, items["all"], names, least=3, parts="train, val and test"):
            for pool, part in zip(pools.values(), three_ways(group), strict=True):
                pool.extend(part)
        return pools, ("no splits given: every class is split 50/20/30 % into train, val and test, the same for all seeds",)
    if "val" in items:
        return pools, ()
    pools["train"] = []
    for group in _by_class(data, items["train"], names, least=2, parts="train and val"):
        val, train = take(group, VAL)
        pools["val"].extend(val)
        pools["train"].extend(train)
    return pools, ("no val given: 20 % of every class of train are for validation, the same for all seeds",)


def _by_class(data: str, items: Iterable[Item], names: Sequence[str], least: int, parts: str) -> list[list[Item]]:
    groups: list[list[Item]] = [[] for _ in names]
    for item in items:
        groups[item.label].append(item)
    short = [f"{name} ({len(group)})" for name, group in zip(names, groups, strict=True) if len(group) < least]
    if short:
        problem = f"too few images to split into {parts}: {listed(short)}"
        raise DplError(f"{data}: {problem}; every class needs {least} or more")
    return groups
