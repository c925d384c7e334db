"""What was measured, and the tables of it: a panel per number of shots, or per half of the classes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from dpl.apply import harmonic_mean
from dpl.reports.comparison.table import Interval, interval
from dpl.reproduce.published import FEW_SHOT, Published

ZERO_SHOT = "zero-shot"
Values = Mapping[str, Mapping[str, Mapping[int, float]]]
"""Accuracies 0-1 by data set, column and seed."""


@dataclass(frozen=True)
class Measured:
    """One evaluation of a run: accuracies 0-1 on the test images of `classes` of `data`; `role` is "own", "new" or "target"."""

    data: str
    role: str
    classes: str
    label: str
    method: str
    shots: int
    seed: int
    accuracy: float
    zero_shot_accuracy: float
    learned_on: str
    folder: str


@dataclass(frozen=True)
class Panel:
    """A table: accuracies 0-1 by data set and column, and their average over the `complete` data sets."""

    title: str
    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, Interval]]
    average: Mapping[str, Interval]
    complete: tuple[str, ...]
    published: tuple[Published, ...] = ()


@dataclass(frozen=True)
class Reproduction:
    """What was asked, and what is measured until now."""

    protocol: str
    title: str
    data: tuple[str, ...]
    absent: tuple[str, ...]
    labels: tuple[str, ...]
    methods: tuple[str, ...]
    shots: tuple[int, ...]
    seeds: tuple[int, ...]
    preset: str
    about: Mapping[str, Any]
    results: tuple[Measured, ...] = ()

    def with_results(self, results: Iterable[Measured]) -> "Reproduction":
        """And some more."""
        return replace(self, results=(*self.results, *results))

    @property
    def columns(self) -> tuple[str, ...]:
        """The methods, behind zero-shot."""
        return self.labels if ZERO_SHOT in self.labels else (ZERO_SHOT, *self.labels)

    @cached_property
    def panels(self) -> list[Panel]:
        """Those that have results."""
        made: list[Panel] = []
        for shots in self.shots:
            of = f"{shots} shot{'s' * (shots > 1)}"
            roles = {role: self._values(role, shots) for role in ("own", "new", "target")}
            if self.protocol == "base-to-new":
                made += self._base_to_new(of, roles["own"], roles["new"])
            elif self.protocol == "dpl-fewshot":
                published = tuple(one for one in FEW_SHOT if one.shots == shots)
                made.append(replace(self._panel(of, roles["own"]), published=published))
            else:
                made.append(self._panel(f"{of}: the data learned on", roles["own"], mean=False))
                made.append(self._panel(f"{of}: the other data", roles["target"]))
        return [panel for panel in made if panel.rows]

    def _values(self, role: str, shots: int) -> Values:
        values: dict[str, dict[str, dict[int, float]]] = {}
        for one in self.results:
            if (one.role, one.shots) == (role, shots):
                own = values.setdefault(one.data, {})
                own.setdefault(one.label, {})[one.seed] = one.accuracy
                if ZERO_SHOT not in self.labels:
                    own[ZERO_SHOT] = {0: one.zero_shot_accuracy}  # the same for all seeds
        return values

    def _base_to_new(self, of: str, base: Values, new: Values) -> list[Panel]:
        panels = [self._panel(f"{of}: base classes", base), self._panel(f"{of}: new classes", new)]
        both = {
            data: {
                column: {seed: harmonic_mean(base[data][column][seed], value) for seed, value in new[data][column].items()}
                for column in new[data]
            }
            for data in new
        }
        # As papers have it: the mean of the averages, not the average of the means.
        complete = self._complete(both)
        means = [self._averages(values, complete) for values in (base, new)]
        average = {
            column: interval([harmonic_mean(means[0][column][seed], value) for seed, value in means[1][column].items()])
            for column in means[1]
        }
        return [*panels, replace(self._panel(f"{of}: harmonic mean", both), average=average)]

    def _panel(self, title: str, values: Values, mean: bool = True) -> Panel:
        rows = {
            data: {column: interval([*values[data][column].values()]) for column in self.columns if column in values[data]}
            for data in self.data
            if data in values
        }
        complete = self._complete(values) if mean else ()
        average = {column: interval([*seeds.values()]) for column, seeds in self._averages(values, complete).items()}
        return Panel(title, self.columns, rows, average, complete)

    def _complete(self, values: Values) -> tuple[str, ...]:
        """The data sets on which every method has every seed."""
        wanted = set(self.seeds)
        return tuple(
            data for data in self.data if all(set(values.get(data, {}).get(label, ())) >= wanted for label in self.labels)
        )

    def _averages(self, values: Values, complete: tuple[str, ...]) -> dict[str, dict[int, float]]:
        """Of each column, by seed, the mean over the complete data sets."""
        if not complete:
            return {}
        seeds = {column: values[complete[0]][column] for column in self.columns}
        return {
            column: {seed: float(np.mean([values[data][column][seed] for data in complete])) for seed in seeds[column]}
            for column in self.columns
        }
