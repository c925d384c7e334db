"""Few-shot sampling with the same random draws as the CoOp family, so that results are comparable per seed."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dpl.data.lazy_items import by_class
from dpl.data.paths import listed
from dpl.data.task import Item, Task
from dpl.utils.errors import DplError

MAX_VAL_SHOTS = 4


@dataclass(frozen=True)
class FewShot:
    """Training and validation images of a run, with notes on classes that have fewer images than requested."""

    train: tuple[Item, ...]
    val: tuple[Item, ...]
    notes: tuple[str, ...] = ()


def sample(task: Task, shots: int, seed: int) -> FewShot:
    """Draws `shots` training and min(shots, 4) validation images per class, without replacement.

    One `random.Random(seed)` draws first from train, then from val, class by class in order of first appearance. A class with
    fewer images contributes all of them, and a note says so. If `task.val is task.train`, validation images are drawn from the
    images left after the training draw. The same seed gives the same sample.

    Args:
        task: task with training images.
        shots: training images per class, at least 1.
        seed: seed of the sample.

    Returns:
        The sample, class by class.

    Raises:
        DplError: `shots` is below 1, or the task has only test images.

    Example:

        >>> from dpl.data.sources.digits import load
        >>> shots = sample(load(), shots=2, seed=1)
        >>> len(shots.train), len(shots.val)
        (20, 20)
        >>> [item.label for item in shots.train[:4]]
        [0, 0, 1, 1]
    """
    if shots < 1:
        raise DplError(f"shots must be at least 1, got {shots}")
    if not task.train:
        raise DplError(without_training(task))
    rng = random.Random(seed)  # the same stream as random.seed(seed) and the module's functions, which CoOp uses
    # Drawing indices gives the same sample as drawing items, and a lazy pool creates only the drawn items.
    groups = by_class(task.train)
    places = {label: range(len(group)) for label, group in groups.items()}
    drawn = _draw(places, shots, rng)
    train = [groups[label][place] for label in groups for place in drawn[label]]
    if task.val is task.train:
        places = {label: sorted(set(all_).difference(drawn[label])) for label, all_ in places.items()}
    else:
        groups = by_class(task.val)
        places = {label: range(len(group)) for label, group in groups.items()}
    drawn = _draw(places, min(shots, MAX_VAL_SHOTS), rng)
    val = [groups[label][place] for label in groups for place in drawn[label]]
    notes = _shortages(task, "train", train, shots) + _shortages(task, "val", val, min(shots, MAX_VAL_SHOTS))
    return FewShot(tuple(train), tuple(val), tuple(notes))


def _draw(places: Mapping[int, Sequence[int]], shots: int, rng: random.Random) -> dict[int, Sequence[int]]:
    """Draws `shots` of the indices of each class, or takes all if there are fewer."""
    return {label: rng.sample(own, shots) if len(own) >= shots else own for label, own in places.items()}


def without_training(task: Task) -> str:
    """Returns the error message for training on a task that has only test images."""
    other = task.trained_on or "other data"
    return f"{task.name} has test images only; train on {other} and use dpl evaluate RUN --on {task.name}"


def _shortages(task: Task, split: str, drawn: list[Item], shots: int) -> list[str]:
    counts = Counter(item.label for item in drawn)  # by label, because two classes may have the same name
    short = [f"{name} ({counts[label]})" for label, name in enumerate(task.class_names) if counts[label] < shots]
    return [f"fewer than {shots} images for {split}, so all are taken: {listed(short)}"] if short else []
