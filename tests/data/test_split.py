from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from dpl.data.split import take, three_ways
from dpl.data.task import Item


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
