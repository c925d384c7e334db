"""Measured accuracies and their tables: a panel per number of shots, or per half of the classes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from dpl.experiments.reproduce.published import FEW_SHOT, Published
from dpl.inference import harmonic_mean
from dpl.utils.statistics import Interval, mean_interval

ZERO_SHOT = "zero-shot"
Values = Mapping[str, Mapping[str, Mapping[int, float]]]
"""Accuracies 0-1 by data set, column and seed."""


@dataclass(frozen=True)
class Measured:
    """One evaluation of a run: accuracies (0-1) on the test images of the classes `classes` of `data`.

    `role` is "own" (the classes learned on), "new" (the new classes of the same data) or "target" (other data).
    """

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
    """A table: accuracies (0-1) by data set and column, and their average over the `complete` data sets."""

    title: str
    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, Interval]]
    average: Mapping[str, Interval]
    complete: tuple[str, ...]
    published: tuple[Published, ...] = ()


@dataclass(frozen=True)
class Reproduction:
    """The settings of a reproduction, and the results so far."""

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
        """Returns a copy with `results` added."""
        return replace(self, results=(*self.results, *results))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the tables: zero-shot and the methods."""
        return self.labels if ZERO_SHOT in self.labels else (ZERO_SHOT, *self.labels)

    @cached_property
    def panels(self) -> list[Panel]:
        """The tables with at least one result, ordered by shots."""
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
                    own[ZERO_SHOT] = {0: one.zero_shot_accuracy}  # zero-shot does not depend on the seed
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
        # As in papers: the harmonic mean of the average accuracies, not the average of the harmonic means.
        complete = self._complete(both)
        means = [self._averages(values, complete) for values in (base, new)]
        average = {
            column: mean_interval([harmonic_mean(means[0][column][seed], value) for seed, value in means[1][column].items()])
            for column in means[1]
        }
        return [*panels, replace(self._panel(f"{of}: harmonic mean", both), average=average)]

    def _panel(self, title: str, values: Values, mean: bool = True) -> Panel:
        rows = {
            data: {column: mean_interval([*values[data][column].values()]) for column in self.columns if column in values[data]}
            for data in self.data
            if data in values
        }
        complete = self._complete(values) if mean else ()
        average = {column: mean_interval([*seeds.values()]) for column, seeds in self._averages(values, complete).items()}
        return Panel(title, self.columns, rows, average, complete)

    def _complete(self, values: Values) -> tuple[str, ...]:
        """The data sets with results of every method and every seed."""
        wanted = set(self.seeds)
        return tuple(
            data for data in self.data if all(set(values.get(data, {}).get(label, ())) >= wanted for label in self.labels)
        )

    def _averages(self, values: Values, complete: tuple[str, ...]) -> dict[str, dict[int, float]]:
        """The mean over the complete data sets, by column and seed."""
        if not complete:
            return {}
        seeds = {column: values[complete[0]][column] for column in self.columns}
        return {
            column: {seed: float(np.mean([values[data][column][seed] for data in complete])) for seed in seeds[column]}
            for column in self.columns
        }
