from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpl.data.split import filled, take, three_ways
from dpl.data.task import Item
from dpl.utils.errors import DplError


def items(count: int) -> list[Item]:
    return [Item(Path("cat"), 0, f"cat/{index}.jpg") for index in range(count)]


@given(st.integers(3, 200))
def test_three_ways_are_50_20_30_percent_and_never_empty(count):
    train, val, test = three_ways(items(count))
    assert sorted(item.name for item in train + val + test) == sorted(item.name for item in items(count))
    assert len(test) == max(1, round(0.3 * count)) and len(val) == max(1, round(0.2 * count)) and len(train) >= 1


@given(st.integers(2, 100), st.floats(0.01, 0.5))
def test_taking_a_part_keeps_the_order_and_depends_on_names_only(count, part):
    taken, rest = take(items(count), part)
    assert len(taken) == max(1, round(count * part)) and len(taken) + len(rest) == count
    assert taken == [item for item in items(count) if item in taken]
    assert set(take(reversed(items(count)), part)[0]) == set(taken)


def test_few_items_change_pools_when_one_is_added():
    before, after = (set(three_ways(items(count))[2]) for count in (100, 101))
    assert len(before - after) <= 1


def two_classes(count: int) -> list[Item]:
    return [Item(Path("x"), label, f"{label}/{index}.jpg") for label in (0, 1) for index in range(count)]


@given(st.integers(3, 40))
def test_what_is_not_split_is_split_class_by_class(count):
    pools, (note,) = filled("data", {"all": two_classes(count)}, ("a", "b"))
    for label in (0, 1):
        own = [item for item in two_classes(count) if item.label == label]
        assert [[item for item in pools[part] if item.label == label] for part in pools] == list(three_ways(own))
    assert list(pools) == ["train", "val", "test"] and "50/20/30" in note


@given(st.integers(2, 40), st.integers(1, 5))
def test_test_images_are_left_alone_where_validation_is_made(count, tests):
    test = [Item(Path("x"), 1, f"test/{index}") for index in range(tests)]
    pools, (note,) = filled("data", {"train": two_classes(count), "test": test}, ("a", "b"))
    assert pools["test"] == test and "20 %" in note
    assert sorted(item.name for item in pools["train"] + pools["val"]) == sorted(item.name for item in two_classes(count))
    assert all(sum(item.label == label for item in pools["val"]) == max(1, round(count / 5)) for label in (0, 1))


def test_three_given_splits_stay():
    given_splits = {part: two_classes(1) for part in ("test", "val", "train")}
    assert filled("data", given_splits, ("a", "b")) == (given_splits, ())


@pytest.mark.parametrize(("parts", "count", "least"), [(("all",), 2, 3), (("train", "test"), 1, 2)])
def test_too_few_images_to_split_name_the_classes(parts, count, least):
    with pytest.raises(DplError, match=rf"^DATA: too few images .*: a \({count}\), b \({count}\); .*{least} or more"):
        filled("DATA", {part: two_classes(count) for part in parts}, ("a", "b"))
