"""Numbers of the study as cells of a table: intervals as mean ± half width."""

import math

from benchmarks.study.statistics import FULL, Estimate
from dpl.utils.statistics import Interval


def number(value: float, digits: int = 1, sign: bool = False) -> str:
    """Rounded, without a negative zero; a dash for NaN."""
    return "–" if math.isnan(value) else f"{round(value, digits) + 0.0:{'+' if sign else ''}.{digits}f}"


def spread(one: Interval, digits: int = 1, sign: bool = False) -> str:
    """Mean ± half width; the mean alone if it is of one value."""
    mean = number(one.mean, digits, sign)
    return mean if one.half is None else f"{mean} ± {number(one.half, digits)}"


def both(one: Estimate, digits: int = 1, sign: bool = False) -> list[str]:
    """Two cells: over seeds, over tasks."""
    return [spread(one.over_seeds, digits, sign), spread(one.over_tasks, digits, sign)]


def extent(one: Estimate) -> list[int]:
    """Two cells: tasks and pairs."""
    return [len(one.by_task), one.pairs]


def counted(one: Estimate, shots: int = FULL) -> str:
    """How much the numbers stand on."""
    return f"Shots: {shots}, {len(one.by_task)} tasks, {one.pairs} (task, seed) pairs"
