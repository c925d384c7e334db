"""Which images of a task can be read: the others are left out with a note, or refused."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from dpl.data.images import unreadable
from dpl.data.paths import listed, shown
from dpl.data.task import Item
from dpl.errors import DplError


def unreadable_items(items: Iterable[Item], *, strict: bool, place: Callable[[Item], str] = lambda item: "") -> dict[Item, str]:
    """The items whose images cannot be read, each with the reason; every image is decoded to its end.

    If `strict`, they are a `DplError`, which names the first and `place`, where it is listed.
    """
    files = {item.image: item for item in items if not isinstance(item.image, np.ndarray)}
    bad = {files[source]: reason for source, reason in unreadable(list(files)).items()}
    if bad and strict:
        item, reason = next(iter(bad.items()))
        more = f" ({len(bad) - 1} more such files)" if len(bad) > 1 else ""
        raise DplError(f"{place(item)}cannot read {shown(str(item.image))}: {reason}{more}; replace or remove it")
    return bad


def skipped(bad: Mapping[Item, str]) -> tuple[str, ...]:
    """The note on images that were left out."""
    if not bad:
        return ()
    names = listed((f"{shown(item.name)} ({reason})" for item, reason in bad.items()), most=3)
    return (f"skipped {len(bad)} unreadable image{'s' if len(bad) > 1 else ''}: {names}",)


def check_classes(data: str, pools: Mapping[str, Sequence[Item]], names: Sequence[str], bad: Mapping[Item, str]) -> None:
    """`DplError` where there are fewer than two classes, or a part lacks a class; it begins with `data`."""
    if len(names) < 2:
        raise DplError(f"{data} has {f'one class only, {names[0]}' if names else 'no images'}; a task needs two or more classes")
    for part, items in pools.items():
        there = {item.label for item in items}
        if missing := [name for label, name in enumerate(names) if label not in there]:
            cause = "; some could not be read, see --strict" if bad else ""
            whose = "" if part == "all" else f"{part} "
            raise DplError(f"{data}: {whose}has no images of {len(missing)} of the classes: {listed(missing)}{cause}")
