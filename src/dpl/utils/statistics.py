"""Statistics of results: intervals of means and of accuracies, and the agreement of layouts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import scipy  # loads its parts at their first use, so that `dpl report` starts quickly
from jaxtyping import Float, Int, Real

SHUFFLES = 2000
"""Number of random permutations that estimate the agreement by chance."""


@dataclass(frozen=True)
class Interval:
    """Mean of `count` values and the half width of its t-based 95 % interval; the half width is None for fewer than two."""

    mean: float
    half: float | None
    count: int

    @property
    def low(self) -> float:
        """The lower end; NaN for fewer than two values."""
        return math.nan if self.half is None else self.mean - self.half

    @property
    def high(self) -> float:
        """The upper end; NaN for fewer than two values."""
        return math.nan if self.half is None else self.mean + self.half


def mean_interval(values: Sequence[float] | Float[np.ndarray, "values"]) -> Interval:
    """Computes a mean and its t-based 95 % interval.

    The half width is t(0.975, n - 1) s / sqrt(n), with s the sample standard deviation (n - 1 in the denominator).

    Args:
        values: independent values.

    Returns:
        The interval; its mean is NaN if there are no values.

    Example:

        >>> found = mean_interval([0.60, 0.62, 0.64])
        >>> round(found.mean, 4), round(found.half, 4), found.count
        (0.62, 0.0497, 3)
    """
    count = len(values)
    half = float(scipy.special.stdtrit(count - 1, 0.975) * np.std(values, ddof=1) / count**0.5) if count > 1 else None
    return Interval(float(np.mean(values)) if count else math.nan, half, count)


def wilson_interval(correct: int, images: int) -> tuple[float, float]:
    """Computes the 95 % Wilson score interval of an accuracy (Wilson 1927).

    The result is that of `scipy.stats.binomtest`, which takes longer to import than a report takes to write.

    Args:
        correct: number of correct predictions.
        images: number of images, > 0.

    Returns:
        The lower and the upper end of the interval, 0-1.

    Example:

        >>> [round(end, 3) for end in wilson_interval(90, 100)]
        [0.826, 0.945]
    """
    z, share = 1.959963984540054, correct / images
    scale = 2 * (images + z**2)
    middle = (2 * images * share + z**2) / scale
    half = z / scale * math.sqrt(4 * images * share * (1 - share) + z**2)
    low = 0.0 if correct == 0 else middle - half
    high = 1.0 if correct == images else middle + half
    return low, high


@dataclass(frozen=True)
class Agreement:
    """Agreement of layouts, as means over pairs of runs.

    `equal` is the share of layers with the same length (0-1), `distance` the mean absolute difference of the lengths in
    tokens, and `rank` Spearman's correlation of the lengths. `rank` leaves out pairs with a constant layout, for which the
    correlation is undefined, and is None if no pair remains.
    """

    equal: float
    distance: float
    rank: float | None


@dataclass(frozen=True)
class Agreed:
    """Agreement of the layouts of a branch, and agreement by chance.

    `chance` is the mean over layouts with randomly permuted layers; `low` and `high` bound the middle 95 %.
    """

    found: Agreement
    chance: Agreement
    low: Agreement
    high: Agreement


def agreement(layouts: Real[np.ndarray, "runs layers"], pairs: Sequence[tuple[int, int]] | None = None) -> Agreement:
    """Computes the agreement of layouts.

    Args:
        layouts: (runs, layers), the lengths of each run's layers, at least two runs. Mean lengths count as equal if they round to
            the same.
        pairs: the pairs of runs; by default all.

    Returns:
        The agreement.

    Example: two layouts of four layers agree in two layers.

        >>> agreement(np.array([[4, 0, 2, 1], [4, 1, 2, 3]])).equal
        0.5
    """
    equal, distance, rank = (values[0] for values in _measures(layouts[None], pairs))
    return Agreement(float(equal), float(distance), None if np.isnan(rank) else float(rank))


def agreement_and_chance(layouts: Int[np.ndarray, "runs layers"]) -> Agreed:
    """Computes the agreement of layouts, and the agreement by chance.

    Estimates chance by permuting the layers of every run independently, `SHUFFLES` times, with a fixed seed.

    Args:
        layouts: (runs, layers), the lengths of one branch; at least two runs.

    Returns:
        The measured agreement, and mean and middle 95 % of the agreement by chance.
    """
    draw = np.random.default_rng(0)
    shuffled = draw.permuted(np.broadcast_to(layouts, (SHUFFLES, *layouts.shape)), axis=-1)
    values = _measures(shuffled)

    def at(reduce: str, *rest: float) -> Agreement:
        if np.isnan(values[2]).all():
            equal, distance = (float(getattr(np, reduce)(one, *rest)) for one in values[:2])
            return Agreement(equal, distance, None)
        return Agreement(*(float(getattr(np, reduce)(one, *rest)) for one in values))

    return Agreed(agreement(layouts), at("mean"), at("quantile", 0.025), at("quantile", 0.975))


def _measures(
    layouts: Real[np.ndarray, "draws runs layers"], pairs: Sequence[tuple[int, int]] | None = None
) -> list[Float[np.ndarray, "draws"]]:
    """Computes `equal`, `distance` and `rank` of `Agreement` for each draw; the rank is NaN if no pair has a correlation."""
    pairs = list(combinations(range(layouts.shape[1]), 2)) if pairs is None else pairs
    ranks = scipy.stats.rankdata(layouts, axis=-1)
    spread = ranks - ranks.mean(axis=-1, keepdims=True)
    norms = np.sqrt((spread**2).sum(axis=-1))
    equal, distance, rank, known = (np.zeros(len(layouts)) for _ in range(4))
    for one, other in pairs:
        equal += (np.rint(layouts[:, one]) == np.rint(layouts[:, other])).mean(axis=-1)
        distance += np.abs(layouts[:, one] - layouts[:, other]).mean(axis=-1)
        scale = norms[:, one] * norms[:, other]
        defined = scale > 0
        rank += np.where(defined, (spread[:, one] * spread[:, other]).sum(axis=-1) / np.where(defined, scale, 1), 0)
        known += defined
    correlation = np.where(known > 0, rank / np.maximum(known, 1), np.nan)
    return [equal / len(pairs), distance / len(pairs), correlation]
