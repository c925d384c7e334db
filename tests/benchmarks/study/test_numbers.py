"""Numbers as people read them."""

import math

from benchmarks.study.numbers import number, spread
from dpl.utils.statistics import Interval


def test_numbers():
    assert number(1.25, 1, sign=True) == "+1.2" and number(-0.01) == "0.0"
    assert number(math.nan) == "–"
    assert spread(Interval(2, 0.55, 5), sign=True) == "+2.0 ± 0.6" and spread(Interval(2, None, 1)) == "2.0"
