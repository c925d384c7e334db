"""Base-to-new: the first half of a task's classes, or the second, each a task of its own."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from dpl.data.fewshot import FewShot
from dpl.data.paths import listed, shown
from dpl.data.task import Item, Task
from dpl.errors import DplError

Classes = Literal["all", "base", "new"]
NOTHING = FewShot((), ())


def labels_of(classes: Classes, count: int) -> range:
    """The labels of `classes` out of `count`: base are the first ceil(count / 2), new are the others."""
    half = -(-count // 2)
    return {"all": range(count), "base": range(half), "new": range(half, count)}[classes]


def subset(task: Task, classes: Classes, shots: FewShot = NOTHING) -> tuple[Task, FewShot]:
    """The part of the task that has these classes, and of `shots`, which were drawn from the whole; labels begin at 0 again.

    The pools of a half hold no more than the shots: it is after sampling that a half is taken. Raises `DplError` where a half
    has fewer than two classes, or nothing of the shots.
    """
    if classes == "all":
        return task, shots
    labels = labels_of(classes, len(task.class_names))
    if len(labels) < 2:
        count = len(task.class_names)
        raise DplError(f"--classes {classes}: {shown(task.name)} has {count} classes, of which {len(labels)} would be {classes}")

    def kept(items: Iterable[Item]) -> tuple[Item, ...]:
        return tuple(replace(item, label=item.label - labels.start) for item in items if item.label in labels)

    half = FewShot(kept(shots.train), kept(shots.val), shots.notes)
    if shots.train and not half.train:
        raise DplError(f"--classes {classes}: the training shots of {shown(task.name)} have no image of these classes")
    names = task.class_names[labels.start : labels.stop]
    note = f"{classes} classes: {len(names)} of {len(task.class_names)}: {listed(names)}"
    changed = {"name": f"{task.name}, {classes} classes", "class_names": names, "notes": (*task.notes, note)}
    return replace(task, **changed, train=half.train, val=half.val, test=kept(task.test)), half
