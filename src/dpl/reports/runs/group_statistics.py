"""Statistics of groups of runs: accuracy over seeds, paired differences, and agreement of their layouts."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from dpl.reports.runs.runs_table import ComparedRun, Group
from dpl.schemas.run import Branches
from dpl.utils.statistics import Agreed, Interval, agreement_and_chance, mean_interval


def over_seeds(group: Group) -> Interval | None:
    """Computes the mean accuracy over the seeds of a group.

    Args:
        group: runs that differ in the seed only.

    Returns:
        The mean (0-1) with its interval; None if no run has an accuracy.
    """
    values = [one.metrics.accuracy for one in group.by_seed.values() if one.metrics]
    return mean_interval(values) if values else None


def difference(group: Group, reference: Group) -> Interval | None:
    """Computes the mean difference of accuracy, `group` minus `reference`, paired by seed.

    Args:
        group: runs that differ in the seed only.
        reference: the group to compare with.

    Returns:
        The mean difference with its interval; None if no seed has an accuracy in both groups.
    """
    own, other = group.by_seed, reference.by_seed
    pairs = [(own[seed].metrics, other[seed].metrics) for seed in own if seed in other]
    values = [mine.accuracy - theirs.accuracy for mine, theirs in pairs if mine and theirs]
    return mean_interval(values) if values else None


def layouts_of(runs: Sequence[ComparedRun], branch: str) -> Int[np.ndarray, "runs layers"]:
    """Collects the lengths of a branch.

    Args:
        runs: runs with the same number of layers.
        branch: "image" or "text".

    Returns:
        (runs, layers).
    """
    return np.array([one.run.layout[branch] for one in runs], int)


def agreements(groups: Sequence[Group]) -> list[tuple[str, Branches[Agreed]]]:
    """Computes the agreement of searched layouts within each group, and over all groups if several have searched runs.

    The comparison over all groups leaves out runs whose branches have other numbers of layers than the first searched run. A
    group counts one run per seed.

    Args:
        groups: the groups of runs.

    Returns:
        Label and agreement by branch of each set of at least two searched runs.
    """
    rows: list[tuple[str, list[ComparedRun]]] = []
    for group in groups:
        searched = [one for one in group.by_seed.values() if one.run.search]
        rows.append((group.label, searched))
    everyone = [one for _, searched in rows for one in searched]
    alike = [one for one in everyone if depths(one) == depths(everyone[0])]
    if sum(bool(searched) for _, searched in rows) > 1:
        rows.append(("all searched runs", alike))
    return [
        (label, Branches[Agreed].of(lambda branch, runs=runs: agreement_and_chance(layouts_of(runs, branch))))
        for label, runs in rows
        if len(runs) > 1
    ]


def depths(one: ComparedRun) -> tuple[int, int]:
    """Returns the numbers of layers of the image and the text branch."""
    return len(one.run.layout.image), len(one.run.layout.text)
