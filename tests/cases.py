"""Cases of a parametrised test, some of which only `make test-all` runs."""

from collections.abc import Sequence
from typing import Any

import pytest


def quick_and_slow(quick: Sequence[Any], slow: Sequence[Any]) -> list[Any]:
    """Returns the cases of both; those of `slow`, each a value or a tuple of values, have the marker."""
    marked = [pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow) for case in slow]
    return [*quick, *marked]
