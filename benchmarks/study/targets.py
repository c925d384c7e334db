"""What the issue asked of the search, beside what was measured."""

import math
from collections.abc import Callable

from benchmarks.study.numbers import both, spread
from benchmarks.study.statistics import (
    BEST_UNIFORM,
    COMPETITORS,
    EQUAL_BUDGET,
    OURS,
    PAPER,
    REGRETS,
    ZERO_SHOT,
    Estimate,
    MissingArms,
    Records,
    difference,
    ratio,
    regret,
)
from benchmarks.timing import markdown
from dpl.utils.statistics import Interval

FEW = (1, 4)  # shots
DEVELOPED_ON = ("corners", "counting", "stripes", "turned", "fence", "script")
"""The tasks whose test accuracies guided the search's design."""


def elsewhere(records: Records) -> Records:
    """Those of the tasks that chose nothing."""
    return [record for record in records if record["task"] not in DEVELOPED_ON]


def _verdict(one: Estimate, holds: Callable[[Interval], bool]) -> str:
    seeds, tasks = (("yes" if holds(side) else "no") for side in (one.over_seeds, one.over_tasks))
    return seeds if seeds == tasks else f"over seeds {seeds}, over tasks {tasks}"


def _cells(one: Estimate, holds: Callable[[Interval], bool], sign: bool = True) -> list[str]:
    seeds, tasks = both(one, digits=2, sign=sign)
    return [f"{seeds} over seeds, {tasks} over tasks ({len(one.by_task)} tasks, {one.pairs} pairs)", _verdict(one, holds)]


def _gain(name: str, least: float = -math.inf) -> Callable[[Records], list[str]]:
    return lambda records: _cells(COMPETITORS[name](records), lambda one: one.mean >= least and one.low > 0)


def _regret(name: str) -> Callable[[Records], list[str]]:
    return lambda records: _cells(regret(records, name), lambda one: one.mean <= 0.5)


def _cost(records: Records) -> list[str]:
    return _cells(ratio(records, OURS), lambda one: one.mean <= 1.5, sign=False)


def _harm(shots: int) -> Callable[[Records], list[str]]:
    def cells(records: Records) -> list[str]:
        harm = difference(records, OURS, ZERO_SHOT, shots)
        task, worst = harm.worst()
        measured = f"{spread(worst, 2, sign=True)} over seeds ({task}, the worst of {len(harm.by_task)} tasks)"
        return [measured, "yes" if worst.mean >= -1 else "no"]

    return cells


CLAIMS: list[tuple[str, str, Callable[[Records], list[str]]]] = [
    ("search minus best single uniform, points", "interval above 0", _gain(BEST_UNIFORM)),
    ("search minus mean random, points", "≥ 1, interval above 0", _gain("mean random", 1)),
    (f"search minus {EQUAL_BUDGET}, points", "≥ 1, interval above 0", _gain(EQUAL_BUDGET, 1)),
    *((f"{name}, points", "≤ 0.5", _regret(name)) for name in REGRETS),
    ("search minus paper, points", "interval above 0", _gain(PAPER)),
    (f"cost in images, relative to {EQUAL_BUDGET}", "≤ 1.5", _cost),
    *((f"search minus zero-shot at the worst task, shots: {shots}, points", "≥ -1", _harm(shots)) for shots in FEW),
]
"""What is claimed, what was asked, and how to measure it: two cells, the number and whether it holds."""


def targets(records: Records) -> str:
    """Every claim with what was asked and what was measured."""
    rows = []
    for claim, asked, measure in CLAIMS:
        try:
            rows.append([claim, asked, *measure(records)])
        except MissingArms as error:
            rows.append([claim, asked, str(error), "not yet"])
    note = "A claim holds only if it holds with both intervals: over seeds (other shots) and over tasks (other data sets)."
    return f"{note}\n\n{markdown(['claim', 'asked', 'measured', 'holds'], rows)}"


def targets_elsewhere(records: Records) -> str:
    """The same on the tasks that chose nothing."""
    others = elsewhere(records)
    if not others:
        raise MissingArms(f"no records but of {', '.join(DEVELOPED_ON)}")
    return f"Without {', '.join(DEVELOPED_ON)}, whose test accuracies guided the design of the search.\n\n{targets(others)}"
