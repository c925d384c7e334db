"""What the records of the study say: paired differences, regret, agreement of layouts, cost, parts of the variance.

Accuracies are in percent of the test split, their differences in points. An array "tasks seeds" has NaN at the (task, seed)
pairs that lack one of the arms that are compared.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypedDict

import numpy as np
from jaxtyping import Float

from dpl.utils.statistics import Agreement, Interval, agreement, mean_interval


class Record(TypedDict):
    """One trained and tested prompt layout, as the runner writes it."""

    task: str
    shots: int
    seed: int
    arm: str
    accuracy: float  # 0-1, on the test split
    unscaled_accuracy: float  # the same with every prompt as trained
    validation_loss: float
    validation_accuracy: float
    layout: Mapping[str, Sequence[int]]  # tokens of every layer: "image", "text"
    steps: int  # of the optimisers, search and training
    images: int  # that went forward and backward, search and training
    seconds: Mapping[str, float]  # by stage
    commit: str


Records = Sequence[Record]

ZERO_SHOT, PAPER, OURS, EQUAL_BUDGET, LONGER = "zero-shot", "paper", "search", "uniform-both-6", "longer-both-6"
UNIFORM = tuple(f"uniform-{branch}-{length}" for branch in ("both", "image", "text") for length in (1, 2, 4, 6))
BEST_UNIFORM = "best single uniform"
BUDGETS = {6: OURS, **{tokens: f"{OURS}:budget-{tokens}" for tokens in (4, 2, 1)}}
"""Ours by its budget, tokens a layer on average; each has a uniform layout of as many tokens."""
FULL = 16  # shots at which every arm is run

MEASURES: dict[str, Callable[[Record], float]] = {
    "accuracy": lambda record: 100 * record["accuracy"],
    "unscaled_accuracy": lambda record: 100 * record["unscaled_accuracy"],
    "prompt_scale": lambda record: 100 * (record["accuracy"] - record["unscaled_accuracy"]),
    "validation_loss": lambda record: record["validation_loss"],
    "tokens": lambda record: float(rows_of(record).sum()),
    "steps": lambda record: record["steps"],
    "images": lambda record: record["images"],
    "seconds": lambda record: sum(record["seconds"].values()),
}


class MissingArms(Exception):
    """There are no records yet for what was asked; the message names what is missing."""


@dataclass(frozen=True)
class Estimate:
    """A quantity of the suite: what other seeds would change in it, and what other tasks would.

    `over_seeds` is of the means over tasks, one per seed that all tasks have; `over_tasks` of the means over seeds, one per
    task. The means of the two are equal if no pair is missing.
    """

    by_task: dict[str, Interval]  # over the seeds
    over_seeds: Interval
    over_tasks: Interval
    pairs: int

    def worst(self) -> tuple[str, Interval]:
        """The task with the lowest mean."""
        return min(self.by_task.items(), key=lambda item: item[1].mean)


def estimate(tasks: Sequence[str], values: Float[np.ndarray, "tasks seeds"]) -> Estimate:
    """Reduces values of (task, seed) pairs in both ways; raises MissingArms if there is none."""
    kept = {task: row for task, row in zip(tasks, values, strict=True) if not np.isnan(row).all()}
    if not kept:
        raise MissingArms("too few seeds")
    by_task = {task: mean_interval(row[~np.isnan(row)]) for task, row in kept.items()}
    rows = np.stack(list(kept.values()))
    shared = rows[:, ~np.isnan(rows).any(axis=0)]
    over_tasks = mean_interval([one.mean for one in by_task.values()])
    return Estimate(by_task, mean_interval(shared.mean(axis=0)), over_tasks, int((~np.isnan(rows)).sum()))


@dataclass(frozen=True)
class Grid:
    """A measure of some arms on the (task, seed) pairs that have all of them."""

    tasks: list[str]
    seeds: list[int]
    values: Float[np.ndarray, "tasks seeds arms"]


def grid(records: Records, arms: Sequence[str], shots: int = FULL, measure: str = "accuracy") -> Grid:
    """Of two records of the same cell the later counts. Raises MissingArms if no pair has all arms."""
    cells: dict[str, dict[tuple[str, int], Record]] = {arm: {} for arm in arms}
    for record in records:
        if record["shots"] == shots and record["arm"] in cells:
            cells[record["arm"]][record["task"], record["seed"]] = record
    if missing := [arm for arm, found in cells.items() if not found]:
        raise MissingArms(f"no record at {shots} shots of {', '.join(missing)}")
    pairs = set.intersection(*(set(found) for found in cells.values()))
    if not pairs:
        raise MissingArms(f"no (task, seed) pair at {shots} shots has all of {', '.join(cells)}")
    tasks, seeds = sorted({task for task, _ in pairs}), sorted({seed for _, seed in pairs})
    values = np.full((len(tasks), len(seeds), len(arms)), np.nan)
    for task, seed in pairs:
        read = [MEASURES[measure](cells[arm][task, seed]) for arm in arms]
        values[tasks.index(task), seeds.index(seed)] = np.nan_to_num(read, nan=np.inf)  # a loss that diverged is never best
    return Grid(tasks, seeds, values)


def level(records: Records, arm: str, shots: int = FULL, measure: str = "accuracy", beside: Sequence[str] = ()) -> Estimate:
    """A measure of one arm, on the pairs that the arms `beside` have as well."""
    found = grid(records, [arm, *beside], shots, measure)
    return estimate(found.tasks, found.values[..., 0])


def difference(records: Records, arm: str, other: str, shots: int = FULL, measure: str = "accuracy") -> Estimate:
    """Accuracy of `arm` minus that of `other`, paired, in points."""
    found = grid(records, [arm, other], shots, measure)
    return estimate(found.tasks, found.values[..., 0] - found.values[..., 1])


def ratio(records: Records, arm: str, other: str = EQUAL_BUDGET, measure: str = "images") -> Estimate:
    """A cost of `arm` relative to that of `other`, which is above 0, paired."""
    found = grid(records, [arm, other], measure=measure)
    return estimate(found.tasks, found.values[..., 0] / found.values[..., 1])


def mean_over_seeds(values: Float[np.ndarray, "tasks seeds arms"]) -> Float[np.ndarray, "tasks arms"]:
    """Of the pairs that are there; every task has one."""
    return np.nanmean(values, axis=1)


def best_uniform(records: Records) -> str:
    """The one uniform arm with the lowest validation loss: mean over seeds, then tasks."""
    losses = grid(records, UNIFORM, measure="validation_loss")
    return UNIFORM[mean_over_seeds(losses.values).mean(axis=0).argmin()]


def minus_uniform_per_task(records: Records, oracle: bool = False) -> Estimate:
    """Ours minus the uniform arm that is best for the task, in points: on validation loss or, as an oracle, on test accuracy."""
    arms = [OURS, *UNIFORM]
    accuracy = grid(records, arms)
    scores = accuracy.values if oracle else -grid(records, arms, measure="validation_loss").values
    best = mean_over_seeds(scores)[:, 1:].argmax(axis=1)
    chosen = np.take_along_axis(accuracy.values[..., 1:], best[:, None, None], axis=2)[..., 0]
    return estimate(accuracy.tasks, accuracy.values[..., 0] - chosen)


def random_arms(records: Records) -> list[str]:
    """The arms with a random layout; raises MissingArms if there are fewer than two."""
    arms = sorted({record["arm"] for record in records if record["arm"].startswith("random-")})
    if len(arms) < 2:
        raise MissingArms("no records of random-*")
    return arms


def minus_mean_random(records: Records) -> Estimate:
    """Ours minus the mean of the random layouts, in points."""
    found = grid(records, [OURS, *random_arms(records)])
    return estimate(found.tasks, found.values[..., 0] - found.values[..., 1:].mean(axis=-1))


def best_by_mean(random: Float[np.ndarray, "tasks seeds layouts"]) -> Float[np.ndarray, "tasks seeds"]:
    """Accuracy of each task's layout with the best mean over seeds; chosen on test, so it flatters the random layouts."""
    best = mean_over_seeds(random).argmax(axis=1)
    return np.take_along_axis(random, best[:, None, None], axis=2)[..., 0]


def best_each(random: Float[np.ndarray, "tasks seeds layouts"]) -> Float[np.ndarray, "tasks seeds"]:
    """The best accuracy of each pair: mostly the luck of the best of many, so it flatters the random layouts most."""
    return random.max(axis=-1)


def best_leave_one_out(random: Float[np.ndarray, "tasks seeds layouts"]) -> Float[np.ndarray, "tasks seeds"]:
    """Accuracy of the layout with the best mean over the task's other seeds: no luck of this seed in the choice.

    NaN where there is no other seed. What is chosen need not be the truly best layout.
    """
    counts = (~np.isnan(random)).sum(axis=1, keepdims=True)
    others = (np.nansum(random, axis=1, keepdims=True) - random) / np.where(counts > 1, counts - 1, np.nan)
    best = np.nan_to_num(others, nan=-np.inf).argmax(axis=-1)
    chosen = np.take_along_axis(random, best[..., None], axis=2)[..., 0]
    return np.where(counts[..., 0] > 1, chosen, np.nan)


REGRETS = {
    "regret_best_mean": best_by_mean,
    "regret_each": best_each,
    "regret_leave_one_out": best_leave_one_out,
}


def regret(records: Records, name: str) -> Estimate:
    """What the choice of REGRETS is better than ours, in points: positive if ours is worse."""
    found = grid(records, [OURS, *random_arms(records)])
    return estimate(found.tasks, REGRETS[name](found.values[..., 1:]) - found.values[..., 0])


def share_beaten(ours: Float[np.ndarray, "*cells"], random: Float[np.ndarray, "*cells layouts"]) -> Float[np.ndarray, "*cells"]:
    """The share (0-1) of random layouts that ours beats, ties as half; NaN stays NaN."""
    beaten = (ours[..., None] > random).mean(axis=-1) + 0.5 * (ours[..., None] == random).mean(axis=-1)
    return np.where(np.isnan(ours), np.nan, beaten)


@dataclass(frozen=True)
class Standing:
    """Where ours stands among the random layouts: ranks from 1, the best, ties averaged."""

    layouts: int  # random ones
    rank_by_task: dict[str, float]  # of the means over seeds
    rank: Estimate  # of every pair
    beaten: Estimate  # share (0-1) of every pair


def standing(records: Records) -> Standing:
    """Of ours among itself and the random layouts."""
    arms = random_arms(records)
    found = grid(records, [OURS, *arms])
    beaten = share_beaten(found.values[..., 0], found.values[..., 1:])
    means = mean_over_seeds(found.values).round(9)  # ties are ties, whatever the order of the sums
    ranks = 1 + len(arms) * (1 - share_beaten(means[:, 0], means[:, 1:]))
    by_task = dict(zip(found.tasks, ranks.tolist(), strict=True))
    rank = estimate(found.tasks, 1 + len(arms) * (1 - beaten))
    return Standing(len(arms), by_task, rank, estimate(found.tasks, beaten))


COMPETITORS: dict[str, Callable[[Records], Estimate]] = {
    BEST_UNIFORM: lambda records: difference(records, OURS, best_uniform(records)),
    "best uniform per task": minus_uniform_per_task,
    "best uniform per task, on test (oracle)": lambda records: minus_uniform_per_task(records, oracle=True),
    EQUAL_BUDGET: lambda records: difference(records, OURS, EQUAL_BUDGET),
    "mean random": minus_mean_random,
    LONGER: lambda records: difference(records, OURS, LONGER),
    PAPER: lambda records: difference(records, OURS, PAPER),
}
"""Ours minus another, in points, by the other's name."""


@dataclass(frozen=True)
class Variance:
    """Parts of the variance of accuracy within a task, in squared points."""

    layout: float
    seed: float
    rest: float

    @property
    def total(self) -> float:
        """Their sum."""
        return self.layout + self.seed + self.rest


def variance_parts(values: Float[np.ndarray, "seeds layouts"]) -> Variance:
    """Two-way random effects without replication, from the mean squares (Searle et al., Variance Components, 1992, ch. 4).

    Negative estimates become 0. The test split is one: a layout's luck with its images counts as the layout's.
    """
    seeds, layouts = values.shape
    seed_means, layout_means = values.mean(axis=1, keepdims=True), values.mean(axis=0, keepdims=True)
    rest = ((values - seed_means - layout_means + values.mean()) ** 2).sum() / ((seeds - 1) * (layouts - 1))
    layout = layout_means.var(ddof=1) - rest / seeds
    seed = seed_means.var(ddof=1) - rest / layouts
    return Variance(*(max(float(part), 0.0) for part in (layout, seed, rest)))


def variances(records: Records) -> dict[str, Variance]:
    """Of the random layouts, by task with at least two seeds; raises MissingArms if there is none."""
    found = grid(records, random_arms(records))
    complete = {task: rows[~np.isnan(rows[:, 0])] for task, rows in zip(found.tasks, found.values, strict=True)}
    parts = {task: variance_parts(rows) for task, rows in complete.items() if len(rows) > 1}
    if not parts:
        raise MissingArms("too few seeds")
    return parts


def rows_of(record: Record) -> Float[np.ndarray, "rows"]:
    """Tokens of every layer: the image branch, then the text branch."""
    return np.array([*record["layout"]["image"], *record["layout"]["text"]], dtype=float)


def layouts_of(records: Records, arm: str = OURS, shots: int = FULL) -> dict[str, Float[np.ndarray, "seeds rows"]]:
    """The layouts of an arm, by task; raises MissingArms if there is none."""
    found = {(r["task"], r["seed"]): rows_of(r) for r in records if r["arm"] == arm and r["shots"] == shots}
    if not found:
        raise MissingArms(f"no record at {shots} shots of {arm}")
    tasks = sorted({task for task, _ in found})
    return {task: np.stack([rows for (other, _), rows in sorted(found.items()) if other == task]) for task in tasks}


def agreement_within(layouts: Mapping[str, Float[np.ndarray, "seeds rows"]]) -> dict[str, Agreement]:
    """Between the seeds of each task that has at least two."""
    return {task: agreement(rows) for task, rows in layouts.items() if len(rows) > 1}


def agreement_between(layouts: Mapping[str, Float[np.ndarray, "seeds rows"]]) -> Agreement:
    """Between single layouts of different tasks (two at least): what `agreement_within` is to be compared with."""
    owners = np.repeat(np.arange(len(layouts)), [len(rows) for rows in layouts.values()])
    pairs = [(one, other) for one, other in combinations(range(len(owners)), 2) if owners[one] != owners[other]]
    return agreement(np.concatenate(list(layouts.values())), pairs)
