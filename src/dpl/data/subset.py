"""Base-to-new generalisation: the first (base) or second (new) half of a task's classes as a separate task."""

from collections.abc import Iterable
from dataclasses import replace

from dpl.data.choices import Classes
from dpl.data.fewshot import FewShot
from dpl.data.paths import listed, shown
from dpl.data.task import Item, Task
from dpl.utils.errors import DplError

NOTHING = FewShot((), ())


def labels_of(classes: Classes, count: int) -> range:
    """Returns the labels of a half of the classes: base has the first ceil(count / 2), new has the others.

    Args:
        classes: "all", "base" or "new".
        count: number of classes.

    Example:

        >>> labels_of("base", 5), labels_of("new", 5)
        (range(0, 3), range(3, 5))
    """
    half = -(-count // 2)
    return {"all": range(count), "base": range(half), "new": range(half, count)}[classes]


def subset(task: Task, classes: Classes, shots: FewShot = NOTHING) -> tuple[Task, FewShot]:
    """Restricts a task and its few-shot sample to the base or new classes; labels start at 0 again.

    Sampling comes first: `shots` are drawn from the whole task. The train and val pools of a half have only these shots.

    Args:
        task: task with all classes.
        classes: "base", "new", or "all", which changes nothing.
        shots: few-shot sample of `task`.

    Returns:
        The restricted task and sample.

    Raises:
        DplError: the half has fewer than two classes, or `shots` has training images but none of them.
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
