"""Accuracies as a report tells them: of the whole test set with intervals, and class by class."""

import math
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from dpl.reports import figures
from dpl.reports.schema import ClassResult, Metrics

MOST_CLASSES = 60  # up to so many the page shows every class
SHOWN_AT_EACH_END = 20  # of more than that: the largest gains and the largest losses


def percent(share: float) -> str:
    """0.9111 as `91.1 %`, with a narrow space that does not break."""
    return f"{100 * share:.1f}\u202f%"


def points(change: float) -> str:
    """A difference of two shares in percentage points, with its sign: `+39.1`, `−2.0`, `0.0`."""
    rounded = round(100 * change, 1)
    return "0.0" if rounded == 0 else f"{rounded:+.1f}".replace("-", "\u2212")


def wilson(share: float, images: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of an accuracy (0-1) measured on `images` (> 0) images (Wilson 1927)."""
    z = 1.959963984540054
    middle = (share + z * z / (2 * images)) / (1 + z * z / images)
    half = z / (1 + z * z / images) * math.sqrt(share * (1 - share) / images + z * z / (4 * images * images))
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class Score:
    """An accuracy (0-1) of the whole test set, its 95 % interval, and how it is drawn."""

    name: str
    accuracy: float
    interval: tuple[float, float]
    track: Markup


def _score(name: str, accuracy: float, interval: tuple[float, float] | None, metrics: Metrics, tuned: bool = False) -> Score:
    low, high = interval or wilson(accuracy, metrics.test_images)
    label = f"{name}: {percent(accuracy)}, 95 % interval {percent(low)} to {percent(high)}"
    track = figures.interval_track(label, accuracy, (low, high), 1 / metrics.classes, tuned)
    return Score(name, accuracy, (low, high), track)


def result(metrics: Metrics) -> dict[str, Any]:
    """The scores, tuned first, and whether the first two intervals leave the order open."""
    scores = [_score("Tuned", metrics.accuracy, metrics.accuracy_interval, metrics, tuned=True)]
    scores.append(_score("Zero-shot", metrics.zero_shot_accuracy, metrics.zero_shot_interval, metrics))
    if metrics.zero_shot_ensemble_accuracy is not None:
        scores.append(_score("Zero-shot, ensemble", metrics.zero_shot_ensemble_accuracy, None, metrics))
    (low, high), (zero_low, zero_high) = scores[0].interval, scores[1].interval
    return {"scores": scores, "overlap": low <= zero_high and zero_low <= high, "axis": figures.track_axis()}


def classes(results: list[ClassResult]) -> dict[str, Any] | None:
    """Rows of the table of classes, the largest gain first; of many classes both ends only. None without results."""
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
