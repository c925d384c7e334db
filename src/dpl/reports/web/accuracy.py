"""Accuracy tables of the report: test accuracy with intervals, and accuracy per class."""

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from dpl.reports.web import figures
from dpl.schemas.run import ClassResult, Metrics
from dpl.utils.statistics import wilson_interval

MOST_CLASSES = 60  # the page shows every class up to this number
SHOWN_AT_EACH_END = 20  # with more classes, the page shows this many of the largest gains and of the largest losses


def percent(share: float) -> str:
    r"""Formats a share in percent, with a narrow no-break space.

    Args:
        share: 0-1.

    Example:

        >>> percent(0.9111)
        '91.1\u202f%'
    """
    return f"{100 * share:.1f}\u202f%"


def points(change: float) -> str:
    """Formats a difference of two shares (0-1) in percentage points with its sign.

    Args:
        change: the difference, -1 to 1.

    Example:

        >>> points(0.391), points(-0.02), points(0.0)
        ('+39.1', '−2.0', '0.0')
    """
    rounded = round(100 * change, 1)
    return "0.0" if rounded == 0 else f"{rounded:+.1f}".replace("-", "\u2212")


def accuracy_interval(metrics: Metrics) -> tuple[float, float]:
    """Returns the 95 % interval of a run's accuracy, which older runs do not store.

    Args:
        metrics: the run's metrics.

    Returns:
        The lower and the upper end, 0-1.
    """
    return metrics.accuracy_interval or _wilson(metrics.accuracy, metrics)


def _wilson(accuracy: float, metrics: Metrics) -> tuple[float, float]:
    return wilson_interval(round(accuracy * metrics.test_images), metrics.test_images)


@dataclass(frozen=True)
class Score:
    """Accuracy (0-1) on the whole test set, its 95 % interval, and its picture for the table."""

    name: str
    accuracy: float
    interval: tuple[float, float]
    track: Markup


def _score(name: str, accuracy: float, interval: tuple[float, float] | None, metrics: Metrics, tuned: bool = False) -> Score:
    low, high = interval or _wilson(accuracy, metrics)
    label = f"{name}: {percent(accuracy)}, 95 % interval {percent(low)} to {percent(high)}"
    track = figures.interval_track(label, accuracy, (low, high), 1 / metrics.classes, tuned)
    return Score(name, accuracy, (low, high), track)


def result(metrics: Metrics) -> dict[str, Any]:
    """Returns the test scores of the result section.

    Args:
        metrics: the run's metrics.

    Returns:
        "scores": a `Score` of the tuned model, the zero-shot model and, if measured, the zero-shot prompt ensemble. "overlap":
            whether the intervals of the tuned and the zero-shot model overlap. "axis": the head of the column of pictures.
    """
    scores = [_score("Tuned", metrics.accuracy, metrics.accuracy_interval, metrics, tuned=True)]
    scores.append(_score("Zero-shot", metrics.zero_shot_accuracy, metrics.zero_shot_interval, metrics))
    if metrics.zero_shot_ensemble_accuracy is not None:
        scores.append(_score("Zero-shot, ensemble", metrics.zero_shot_ensemble_accuracy, None, metrics))
    (low, high), (zero_low, zero_high) = scores[0].interval, scores[1].interval
    return {"scores": scores, "overlap": low <= zero_high and zero_low <= high, "axis": figures.track_axis()}


def classes(results: list[ClassResult]) -> dict[str, Any] | None:
    """Returns the rows and counts of the table of classes, sorted from the largest gain to the largest loss.

    Args:
        results: the results of all classes.

    Returns:
        The template data. With more than `MOST_CLASSES` tested classes, "groups" holds only the `SHOWN_AT_EACH_END` rows at each
        end and "hidden" counts the others. None if no class was tested.
    """
    known = [result for result in results if result.accuracy is not None]
    if not known:
        return None
    rows = sorted((_class_row(result) for result in known), key=lambda row: (-row["change"], -row["accuracy"], row["name"]))
    cut = SHOWN_AT_EACH_END if len(rows) > MOST_CLASSES else len(rows)
    return {
        "groups": [rows[:cut], rows[-cut:]] if cut < len(rows) else [rows],
        "hidden": max(0, len(rows) - 2 * cut),
        "label": min(max(5, *(len(row["name"]) for row in rows)), 24),
        "untested": len(results) - len(known),
        "images": (min(row["images"] for row in rows), max(row["images"] for row in rows)),
        "compared": any(row["zero"] is not None for row in rows),
        "rose": sum(row["change"] > 0 for row in rows),
        "fell": sum(row["change"] < 0 for row in rows),
        "same": sum(row["change"] == 0 for row in rows),
        "total": len(rows),
        "axis": figures.track_axis(),
    }


def _class_row(result: ClassResult) -> dict[str, Any]:
    accuracy, zero = result.accuracy or 0.0, result.zero_shot_accuracy
    before = "" if zero is None else f"zero-shot {percent(zero)}, "
    return {
        "name": result.name,
        "images": result.images,
        "accuracy": accuracy,
        "zero": zero,
        "change": 0.0 if zero is None else accuracy - zero,
        "track": figures.change_track(f"{result.name}: {before}tuned {percent(accuracy)}", zero, accuracy),
    }
