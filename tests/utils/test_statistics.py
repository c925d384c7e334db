"""Intervals against published numbers and scipy; agreement of layouts against numbers by hand and all permutations."""

import math
from itertools import combinations, permutations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, spearmanr

from dpl.utils.statistics import (
    Agreed,
    Agreement,
    Interval,
    agreement,
    agreement_and_chance,
    mean_interval,
    wilson_interval,
)


def test_an_interval_is_students():
    one = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert one.mean == 3 and one.count == 5
    assert one.half is not None and one.half == pytest.approx(2.776445 * math.sqrt(2.5 / 5), rel=1e-6)
    assert (one.low, one.high) == (one.mean - one.half, one.mean + one.half)
    assert mean_interval([7.0]) == Interval(7, None, 1) and math.isnan(mean_interval([7.0]).low)
    assert math.isnan(mean_interval([]).mean)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=8), st.floats(-50, 50))
def test_an_interval_moves_with_its_values(values: list[float], shift: float):
    first, moved = mean_interval(values), mean_interval([value + shift for value in values])
    assert moved.mean == pytest.approx(first.mean + shift, abs=1e-9)
    assert moved.high - moved.low == pytest.approx(first.high - first.low, abs=1e-9) and first.low <= first.high


def test_an_interval_covers_the_mean_in_95_of_100():
    rng = np.random.default_rng(1)
    drawn = [mean_interval(rng.normal(2, 3, 5)) for _ in range(2000)]
    assert np.mean([one.low < 2 < one.high for one in drawn]) == pytest.approx(0.95, abs=0.015)


def test_wilson_agrees_with_published_values() -> None:
    # Newcombe (1998), Statistics in Medicine 17, table I, method 3: 81/263, 15/148, 0/20, 1/29.
    for count, images, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        assert wilson_interval(count, images) == pytest.approx((low, high), abs=5e-5)
    assert wilson_interval(10, 10)[1] == 1


@given(st.integers(1, 5000), st.data())
def test_wilson_is_scipys_to_the_last_bit(images: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, images))
    found = binomtest(correct, images).proportion_ci(method="wilson")
    assert wilson_interval(correct, images) == (found.low, found.high)


def test_agreement_by_hand():
    rows = np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 4.0, 3.0], [2.0, 2.0, 2.0, 2.0]])
    found = agreement(rows)
    assert found.equal == pytest.approx((2 + 1 + 1) / 12)  # of the pairs 0-1, 0-2, 1-2
    assert found.distance == pytest.approx((2 + 4 + 4) / 12)
    assert found.rank == pytest.approx(0.8)  # the third is constant
    assert agreement(rows[[2, 2]]).rank is None


def test_the_agreement_of_chosen_pairs_is_theirs_alone() -> None:
    layouts = np.array([[1, 2], [1, 3], [5, 5]])
    assert agreement(layouts, [(0, 1)]) == agreement(layouts[:2])


LAYOUTS = st.integers(2, 6).flatmap(
    lambda layers: st.lists(st.lists(st.integers(0, 12), min_size=layers, max_size=layers), min_size=2, max_size=5)
)


@given(LAYOUTS)
def test_agreement_is_the_mean_over_pairs(layouts: list[list[int]]) -> None:
    rows = [np.array(layout) for layout in layouts]
    pairs = list(combinations(rows, 2))
    found = agreement(np.array(layouts))
    assert found.equal == pytest.approx(np.mean([(one == other).mean() for one, other in pairs]))
    assert found.distance == pytest.approx(np.mean([np.abs(one - other).mean() for one, other in pairs]))
    ranks: list[Any] = [spearmanr(one, other)[0] for one, other in pairs if len(set(one)) > 1 and len(set(other)) > 1]
    assert found.rank == (pytest.approx(np.mean(ranks)) if ranks else None)


def test_chance_is_what_all_permutations_give() -> None:
    layouts = np.array([[0, 1, 5, 2], [3, 1, 0, 2]])
    every = [agreement(np.array(two)) for two in product(permutations(layouts[0]), permutations(layouts[1]))]
    found = agreement_and_chance(layouts)
    assert found.found == agreement(layouts)
    for name, near in (("equal", 0.02), ("distance", 0.06), ("rank", 0.05)):
        values = [getattr(one, name) for one in every]
        assert getattr(found.chance, name) == pytest.approx(np.mean(values), abs=near)
        assert getattr(found.low, name) == pytest.approx(np.quantile(values, 0.025), abs=0.13)
        assert getattr(found.high, name) == pytest.approx(np.quantile(values, 0.975), abs=0.13)
    assert agreement_and_chance(layouts) == found


def test_layouts_without_a_difference_between_layers_have_no_rank_and_agree_by_chance() -> None:
    everything = Agreement(1.0, 0.0, None)
    assert agreement_and_chance(np.full((3, 4), 2)) == Agreed(everything, everything, everything, everything)
