"""What runs say together: accuracy over seeds, paired differences, and how well their layouts agree."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import rankdata

from dpl.reports.comparison.table import Interval, interval
from dpl.reports.schema import Branches
from dpl.reports.side_by_side.told import Group, Told

SHUFFLES = 2000
"""How often layers are permuted to say what chance gives."""


def over_seeds(group: Group) -> Interval | None:
    """The accuracy (0-1) of the group's runs; None without one."""
    values = [one.metrics.accuracy for one in group.by_seed.values() if one.metrics]
    return interval(values) if values else None


def difference(group: Group, reference: Group) -> Interval | None:
    """Accuracy minus that of `reference`, paired by seed; None where no seed has both."""
    own, other = group.by_seed, reference.by_seed
    pairs = [(own[seed].metrics, other[seed].metrics) for seed in own if seed in other]
    values = [mine.accuracy - theirs.accuracy for mine, theirs in pairs if mine and theirs]
    return interval(values) if values else None


@dataclass(frozen=True)
class Agreement:
    """Means over pairs of layouts of one branch.

    `equal` is the share of layers with the same length, `distance` the mean absolute difference in tokens, `rank` Spearman's
    correlation of the lengths; None where no pair has two layouts that are not constant.
    """

    equal: float
    distance: float
    rank: float | None


@dataclass(frozen=True)
class Agreed:
    """How well the layouts of a branch agree, and what the same lengths do with their layers permuted: mean, middle 95 %."""

    found: Agreement
    chance: Agreement
    low: Agreement
    high: Agreement


def agreement(layouts: Int[np.ndarray, "runs layers"]) -> Agreement:
    """Over all pairs of at least two runs."""
    equal, distance, rank = (values[0] for values in _measures(layouts[None]))
    return Agreement(float(equal), float(distance), None if np.isnan(rank) else float(rank))


def agreed(layouts: Int[np.ndarray, "runs layers"]) -> Agreed:
    """Beside chance: the layers of every run permuted independently, `SHUFFLES` times, always by the same draws."""
    draw = np.random.default_rng(0)
    shuffled = draw.permuted(np.broadcast_to(layouts, (SHUFFLES, *layouts.shape)), axis=-1)
    values = _measures(shuffled)

    def at(reduce: str, *rest: float) -> Agreement:
        if np.isnan(values[2]).all():
            equal, distance = (float(getattr(np, reduce)(one, *rest)) for one in values[:2])
            return Agreement(equal, distance, None)
        return Agreement(*(float(getattr(np, reduce)(one, *rest)) for one in values))

    return Agreed(agreement(layouts), at("mean"), at("quantile", 0.025), at("quantile", 0.975))


def _measures(layouts: Int[np.ndarray, "draws runs layers"]) -> list[Float[np.ndarray, "draws"]]:
    """For each draw the three means over pairs; the last is NaN where no pair has a correlation."""
    pairs = list(combinations(range(layouts.shape[1]), 2))
    ranks = rankdata(layouts, axis=-1)
    spread = ranks - ranks.mean(axis=-1, keepdims=True)
    norms = np.sqrt((spread**2).sum(axis=-1))
    equal, distance, rank, known = (np.zeros(len(layouts)) for _ in range(4))
    for one, other in pairs:
        equal += (layouts[:, one] == layouts[:, other]).mean(axis=-1)
        distance += np.abs(layouts[:, one] - layouts[:, other]).mean(axis=-1)
        scale = norms[:, one] * norms[:, other]
        defined = scale > 0
        rank += np.where(defined, (spread[:, one] * spread[:, other]).sum(axis=-1) / np.where(defined, scale, 1), 0)
        known += defined
    correlation = np.where(known > 0, rank / np.maximum(known, 1), np.nan)
    return [equal / len(pairs), distance / len(pairs), correlation]


def layouts_of(runs: Sequence[Told], branch: str) -> Int[np.ndarray, "runs layers"]:
    """The lengths of a branch, a row for each run; all must have as many layers."""
    return np.array([one.run.layout[branch] for one in runs], int)


def agreements(groups: Sequence[Group]) -> list[tuple[str, Branches[Agreed]]]:
    """Of each group with two searched layouts or more, by branch, and of all searched runs where that is more than a group.

    Runs whose branches have other numbers of layers than the first searched one's are left out of the latter.
    """
    rows: list[tuple[str, list[Told]]] = []
    for group in groups:
        searched = [one for one in group.by_seed.values() if one.run.search]
        rows.append((group.label, searched))
    everyone = [one for _, searched in rows for one in searched]
    alike = [one for one in everyone if depths(one) == depths(everyone[0])]
    if sum(bool(searched) for _, searched in rows) > 1:
        rows.append(("all searched runs", alike))
    return [
        (label, Branches[Agreed].of(lambda branch, runs=runs: agreed(layouts_of(runs, branch))))
        for label, runs in rows
        if len(runs) > 1
    ]


def depths(one: Told) -> tuple[int, int]:
    """How many layers the branches have."""
    return len(one.run.layout.image), len(one.run.layout.text)
