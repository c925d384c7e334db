"""Few-shot samples, drawn exactly as the CoOp family draws them, so that results are comparable seed by seed."""

import random
from collections.abc import Iterable
from dataclasses import dataclass

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
    note. The same seed gives the same sample. Raises `DplError` for shots < 1.
    """
    if shots < 1:
        raise DplError(f"shots must be at least 1, got {shots}")
    rng = random.Random(seed)  # the same stream as random.seed(seed) and the module's functions
    train = _draw(task.train, shots, rng)
    val = _draw(task.val, min(shots, MAX_VAL_SHOTS), rng)
    notes = _shortages(task, "train", train, shots) + _shortages(task, "val", val, min(shots, MAX_VAL_SHOTS))
    return FewShot(tuple(train), tuple(val), tuple(notes))


def _by_class(items: Iterable[Item]) -> dict[int, list[Item]]:
    groups: dict[int, list[Item]] = {}
    for item in items:
        groups.setdefault(item.label, []).append(item)
    return groups


def _draw(items: Iterable[Item], shots: int, rng: random.Random) -> list[Item]:
    drawn: list[Item] = []
    for group in _by_class(items).values():
        drawn.extend(rng.sample(group, shots) if len(group) >= shots else group)
    return drawn


def _shortages(task: Task, split: str, drawn: list[Item], shots: int) -> list[str]:
    counts = {name: 0 for name in task.class_names}
    for item in drawn:
        counts[task.class_names[item.label]] += 1
    short = [f"{name} ({count})" for name, count in counts.items() if count < shots]
    return [f"fewer than {shots} images for {split}, so all are taken: {listed(short)}"] if short else []
