"""The fixed split of one class's items where nobody gave one."""

import hashlib
from collections.abc import Iterable

from dpl.data.task import Item

VAL, TEST = 0.2, 0.3  # as in the CoOp family for data sets without an official split; the rest is train


def _rank(item: Item) -> bytes:
    # A hash of the name: as good as chance, the same on every machine and Python version, and when images are added
    # later, the others mostly stay where they were.
    return hashlib.sha256(f"dpl split/{item.name}".encode()).digest()


def take(items: Iterable[Item], part: float) -> tuple[list[Item], list[Item]]:
    """(taken, rest) in their order: `part` (0-1) of the items, one at least, as if by chance but always the same."""
    items = list(items)
    count = max(1, round(len(items) * part))
    chosen = set(sorted(items, key=_rank)[:count])
    return [item for item in items if item in chosen], [item for item in items if item not in chosen]


def three_ways(items: Iterable[Item]) -> tuple[list[Item], list[Item], list[Item]]:
    """Train, val and test (50/20/30 %, one at least each) of one class of 3 items or more."""
    items = list(items)
    test, rest = take(items, TEST)
    val, train = take(rest, VAL * len(items) / len(rest))
    return train, val, test
