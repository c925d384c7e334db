"""Base-to-new, against what the protocol says: sampling on all classes first, then half of the labels, numbered anew."""

import random
from math import ceil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpl.data.fewshot import sample
from dpl.data.subset import labels_of, subset
from dpl.data.task import Augmentation, Item, Task
from dpl.utils.errors import DplError


def task(train: list[int], val: list[int], test: list[int], classes: int) -> Task:
    pools = [
        tuple(Item(Path(part), label, f"{part}/{index}") for index, label in enumerate(labels))
        for part, labels in (("train", train), ("val", val), ("test", test))
    ]
    names = tuple(f"class {label}" for label in range(classes))
    return Task("t", names, ("{}",), pools[0], pools[1], pools[2], Augmentation((1.0, 1.0), False))


def by_the_protocol(labels: list[int], part: str, shots: int, wanted: set[int]) -> list[tuple[str, int]]:
    """(name, new label) of the drawn items; every class draws, those of the other half too; the caller has seeded."""
    drawn = []
    for label in dict.fromkeys(labels):
        of_class = [index for index, one in enumerate(labels) if one == label]
        chosen = random.sample(of_class, shots) if len(of_class) >= shots else of_class
        drawn += [(f"{part}/{index}", label) for index in chosen]
    number = {label: new for new, label in enumerate(sorted(wanted))}
    return [(name, number[label]) for name, label in drawn if label in wanted]


def pools(classes: int):
    """Labels in any order; every class is in each pool."""
    return st.lists(st.integers(0, classes - 1), max_size=40).flatmap(lambda more: st.permutations([*range(classes), *more]))


@given(st.data(), st.integers(4, 9), st.integers(1, 6), st.integers(1, 3), st.sampled_from(["base", "new"]))
def test_a_half_is_the_protocols(data, classes, shots, seed, half):
    train, val, test = (data.draw(pools(classes)) for _ in range(3))
    ordered = sorted(set(train))
    wanted = set(ordered[: ceil(classes / 2)] if half == "base" else ordered[ceil(classes / 2) :])
    random.seed(seed)
    expected = [by_the_protocol(train, "train", shots, wanted), by_the_protocol(val, "val", min(shots, 4), wanted)]
    whole = task(train, val, test, classes)
    part, drawn = subset(whole, half, sample(whole, shots, seed))
    assert [[(item.name, item.label) for item in items] for items in (drawn.train, drawn.val)] == expected
    assert part.class_names == tuple(f"class {label}" for label in sorted(wanted))
    number = {label: new for new, label in enumerate(sorted(wanted))}
    kept = [(f"test/{index}", number[label]) for index, label in enumerate(test) if label in wanted]
    assert [(item.name, item.label) for item in part.test] == kept


def test_sampling_before_the_half_is_not_sampling_after_it():
    # The order matters: of classes that come later, other images are drawn if those before have not drawn.
    labels = [label for label in range(4) for _ in range(20)]
    whole = task(labels, labels, labels, 4)
    _, before = subset(whole, "new", sample(whole, 3, 1))
    alone = task([label - 2 for label in labels if label > 1], [0, 1], [0, 1], 2)
    names = [f"train/{int(item.name.split('/')[1]) + 40}" for item in sample(alone, 3, 1).train]
    assert [item.name for item in before.train] != names


@pytest.mark.parametrize(("count", "base", "new"), [(10, 5, 5), (101, 51, 50), (37, 19, 18), (1000, 500, 500), (4, 2, 2)])
def test_base_is_the_larger_half_and_comes_first(count: int, base: int, new: int):
    assert [*labels_of("base", count), *labels_of("new", count)] == list(labels_of("all", count)) == list(range(count))
    assert (len(labels_of("base", count)), len(labels_of("new", count))) == (base, new)


def test_all_classes_are_the_task_itself():
    whole = task([0, 1], [0, 1], [0, 1], 2)
    shots = sample(whole, 1, 1)
    assert subset(whole, "all", shots) == (whole, shots)


def test_the_pools_of_a_half_hold_no_more_than_its_shots_and_a_note_names_its_classes():
    labels = [0, 1, 2, 3] * 5
    whole = task(labels, labels, labels, 4)
    part, shots = subset(whole, "base", sample(whole, 2, 1))
    assert (part.train, part.val) == (shots.train, shots.val) and len(part.train) == 4
    assert part.name == "t, base classes" and "base classes: 2 of 4: class 0, class 1" in part.notes


@pytest.mark.parametrize(("classes", "half", "left"), [(2, "base", 1), (3, "new", 1), (2, "new", 1)])
def test_a_half_of_one_class_is_refused(classes: int, half, left: int):
    whole = task([*range(classes)], [0], [0], classes)
    with pytest.raises(DplError, match=f"--classes {half}: t has {classes} classes, of which {left} would be {half}"):
        subset(whole, half)


def test_shots_without_an_image_of_the_half_are_refused():
    whole = task([0, 1, 2, 3], [0], [0], 4)
    _, base = subset(whole, "base", sample(whole, 1, 1))
    with pytest.raises(DplError, match="--classes new: the training shots of t have no image of these classes"):
        subset(whole, "new", base)
