import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpl.data.fewshot import sample
from dpl.data.task import Augmentation, Item, Task
from dpl.utils.errors import DplError


def task(train: list[int], val: list[int]) -> Task:
    """A task whose images have these labels, in this order."""
    names = tuple(f"class {label}" for label in range(10))
    pools = [
        tuple(Item(Path(pool), label, f"{pool}/{index}") for index, label in enumerate(labels))
        for pool, labels in (("train", train), ("val", val))
    ]
    return Task("t", names, ("{}",), pools[0], pools[1], (), Augmentation((1.0, 1.0), False))


def by_the_protocol(items, shots):
    """docs/protocol.md, "Few-shot sampling", with the module's functions as in the CoOp family; the caller has seeded."""
    chosen = []
    order = []
    for item in items:
        if item.label not in order:
            order.append(item.label)
    for label in order:
        of_class = [item for item in items if item.label == label]
        chosen += random.sample(of_class, shots) if len(of_class) >= shots else of_class
    return tuple(chosen)


labels = st.lists(st.integers(0, 4), min_size=1, max_size=60)


@given(labels, labels, st.integers(1, 20), st.integers(0, 2**32))
def test_the_sample_is_the_protocols(train, val, shots, seed):
    given_task = task(train, val)
    random.seed(seed)
    expected = by_the_protocol(given_task.train, shots), by_the_protocol(given_task.val, min(shots, 4))
    drawn = sample(given_task, shots, seed)
    assert (drawn.train, drawn.val) == expected


@given(labels, labels, st.integers(1, 20), st.integers(0, 2**32))
def test_no_image_is_drawn_twice_and_every_class_has_its_shots(train, val, shots, seed):
    drawn = sample(task(train, val), shots, seed)
    for pool, chosen, most in ((train, drawn.train, shots), (val, drawn.val, min(shots, 4))):
        assert len(set(chosen)) == len(chosen)
        for label in set(pool):
            assert sum(item.label == label for item in chosen) == min(most, pool.count(label))
    assert drawn == sample(task(train, val), shots, seed)


def test_known_draws_of_seed_1():
    # python -c "import random; random.seed(1); print([random.sample(range(8), 2) for _ in range(4)])"
    # [[2, 4], [1, 2], [1, 3], [7, 3]]: of 8 images per class, class 1 beginning at index 8
    drawn = sample(task([0] * 8 + [1] * 8, [0] * 8 + [1] * 8), 2, 1)
    assert [item.name for item in drawn.train] == ["train/2", "train/4", "train/9", "train/10"]
    assert [item.name for item in drawn.val] == ["val/1", "val/3", "val/15", "val/11"]


def test_seeds_draw_differently():
    assert sample(task([0] * 50, [0] * 9), 16, 1).train != sample(task([0] * 50, [0] * 9), 16, 2).train


def test_a_shortage_is_noted_with_classes_and_counts():
    short = task([0] * 5 + [label for label in range(1, 10) for _ in range(16)], [label for label in range(10)] * 4)
    (note,) = sample(short, 16, 1).notes
    assert "fewer than 16" in note and "train" in note and "class 0 (5)" in note and "class 1" not in note


def test_many_shortages_stay_one_line():
    notes = sample(task(list(range(10)), list(range(10))), 2, 1).notes
    assert len(notes) == 2 and all(note.endswith("and 5 more") for note in notes)


@pytest.mark.parametrize("shots", [0, -1])
def test_no_shots_is_an_error(shots):
    with pytest.raises(DplError, match=f"shots.*{shots}"):
        sample(task([0], [0]), shots, 1)
