import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpl.search.convergence import alpha_difference, dominants

ALPHAS = st.lists(st.lists(st.floats(-9, 9, width=32), min_size=3, max_size=3), min_size=1, max_size=4)


def test_alpha_difference_by_hand():
    before, after = [[0.0, 0.0], [1.0, 1.0]], [[math.log(3), 0.0], [2.0, 2.0]]
    assert alpha_difference(before, after) == pytest.approx((0.25 + 0.25 + 0 + 0) / 4)


def test_a_row_is_dominant_only_above_a_half():
    assert dominants([[0.0, 0.0], [0.1, 0.0], [5.0, 0.0]]) == 2
    assert dominants([[math.log(0.4), math.log(0.3), math.log(0.3)]]) == 0


@given(ALPHAS)
def test_shifting_a_row_changes_nothing(alphas):
    shifted = [[alpha + 2 for alpha in row] for row in alphas]
    assert alpha_difference(alphas, shifted) < 1e-6
    assert alpha_difference(alphas, alphas) == 0
    assert 0 <= dominants(alphas) <= len(alphas)
