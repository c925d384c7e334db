"""Few-shot samples, drawn exactly as the CoOp family draws them, so that results are comparable seed by seed."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dpl.data.catalog.lazy import by_class
from dpl.data.paths import listed
from dpl.data.task import Item, Task
from dpl.errors import DplError

MAX_VAL_SHOTS = 4


@dataclass(frozen=True)
class FewShot:
    """The images that a run learns from, and the notes on classes that had fewer than asked."""

    train: tuple[Item, ...]
    val: tuple[Item, ...]
    notes: tuple[str, ...] = ()


def sample(task: Task, shots: int, seed: int) -> FewShot:
    """`shots` images per class of train, then min(shots, 4) per class of val, from one `random.Random(seed)`.

    Classes go in order of first appearance; without repetition; a class with fewer images gives all of them, and a
    note. Where val is train itself (`task.val is task.train`), val is drawn from what the training shots leave. The same
    seed gives the same sample. Raises `DplError` for shots < 1 and for a task that has test images only.
    """
    if shots < 1:
        raise DplError(f"shots must be at least 1, got {shots}")
    if not task.train:
        raise DplError(without_training(task))
    rng = random.Random(seed)  # the same stream as random.seed(seed) and the module's functions
    # Places are drawn, not items: the draws are the same, and a pool need not make the items that nobody wants.
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
    """For each class `shots` of its places, or all where it has fewer."""
    return {label: rng.sample(own, shots) if len(own) >= shots else own for label, own in places.items()}


def without_training(task: Task) -> str:
    """What to tell a person who trains on a task without training images."""
    from dpl.data.catalog import CATALOG

    other = (CATALOG[task.name].trained_on if task.name in CATALOG else None) or "other data"
    return f"{task.name} has test images only; train on {other} and use dpl evaluate RUN --on {task.name}"


def _shortages(task: Task, split: str, drawn: list[Item], shots: int) -> list[str]:
    counts = Counter(item.label for item in drawn)  # not by name: two classes may have the same
    short = [f"{name} ({counts[label]})" for label, name in enumerate(task.class_names) if counts[label] < shots]
    return [f"fewer than {shots} images for {split}, so all are taken: {listed(short)}"] if short else []
