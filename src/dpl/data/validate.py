"""Finds unreadable images of a task; they are skipped with a note, or are an error.

Loading a task decodes no image unless it is strict. The few-shot images are decoded when they are drawn, and the test images
when they are evaluated.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dpl.data.paths import listed, shown
from dpl.data.pixels.decode import absent, unreadable
from dpl.data.task import Encoded, Item, Task
from dpl.utils.errors import DplError


def unreadable_items(items: Iterable[Item], *, strict: bool, place: Callable[[Item], str] = lambda item: "") -> dict[Item, str]:
    """Returns the items that cannot be read: those without a file or with an empty one. If `strict`, decodes all files.

    Args:
        items: Items to check; those without a file are skipped.
        strict: Every file is decoded completely, and an unreadable image is an error.
        place: Gives the prefix of the error message, such as the table and the line that list the item.

    Returns:
        The unreadable items, each with the reason.

    Raises:
        DplError: `strict` is set and an image is unreadable; the message names the first one.
    """
    files = {item.image: item for item in items if isinstance(item.image, Path | Encoded)}
    if not strict:
        found = ((item, absent(source)) for source, item in files.items() if isinstance(source, Path))
        return {item: reason for item, reason in found if reason}
    bad = {files[source]: reason for source, reason in unreadable(list(files)).items()}
    if bad:
        item, reason = next(iter(bad.items()))
        more = f" ({len(bad) - 1} more such files)" if len(bad) > 1 else ""
        raise DplError(f"{place(item)}cannot read {shown(str(item.image))}: {reason}{more}; replace or remove it")
    return {}


def skipped(bad: Mapping[Item, str], kind: str = "image") -> tuple[str, ...]:
    """Returns the note on skipped images, or nothing if there are none.

    Args:
        bad: Unreadable items, each with the reason.
        kind: Name of one such image.
    """
    if not bad:
        return ()
    names = listed((f"{shown(item.name)} ({reason})" for item, reason in bad.items()), most=3)
    return (f"skipped {len(bad)} unreadable {kind}{'s' if len(bad) > 1 else ''}: {names}",)


def without(task: Task, bad: Mapping[Item, str]) -> Task:
    """Removes unreadable items from the train and val pools.

    Args:
        task: The task.
        bad: Unreadable items, each with the reason. Only their names matter, not their labels.

    Returns:
        A copy with smaller pools. If val was train itself, it is the new train.

    Raises:
        DplError: A pool loses the last image of a class.
    """
    reasons = {item.name: reason for item, reason in bad.items()}
    train = _readable(task, "train", reasons)
    return replace(task, train=train, val=train if task.val is task.train else _readable(task, "val", reasons))


def _readable(task: Task, part: str, reasons: Mapping[str, str]) -> tuple[Item, ...]:
    pool: Sequence[Item] = getattr(task, part)
    kept = tuple(item for item in pool if item.name not in reasons)
    there = {item.label for item in kept}
    if lost := next((item for item in pool if item.label not in there), None):
        name, problem = task.class_names[lost.label], f"{shown(lost.name)}: {reasons[lost.name]}"
        raise DplError(f"{task.name}: {part} has no readable image of the class {shown(name)}: {problem}; add some")
    return kept


def check_classes(data: str, pools: Mapping[str, Sequence[Item]], names: Sequence[str], bad: Mapping[Item, str]) -> None:
    """Checks that there are two or more classes and that every part has images of all of them.

    Args:
        data: Name of the data, with which messages begin.
        pools: Readable items by part.
        names: Class names, in the order of labels.
        bad: Unreadable items; if there are some, the message mentions --strict.

    Raises:
        DplError: There are fewer than two classes, or a part lacks a class.
    """
    if len(names) < 2:
        raise DplError(f"{data} has {f'one class only, {names[0]}' if names else 'no images'}; a task needs two or more classes")
    for part, items in pools.items():
        there = {item.label for item in items}
        if missing := [name for label, name in enumerate(names) if label not in there]:
            cause = "; some could not be read, see --strict" if bad else ""
            whose = "" if part == "all" else f"{part} "
            raise DplError(f"{data}: {whose}has no images of {len(missing)} of the classes: {listed(missing)}{cause}")
