"""Calibration section of the report: a reliability diagram per model, and the calibration error in words."""

from collections.abc import Iterator
from typing import Any

from markupsafe import Markup

from dpl.reports.web.accuracy import percent
from dpl.reports.web.figures import plural
from dpl.reports.web.svg import WIDTH, picture, tag
from dpl.schemas.run import Bin, Calibration, Metrics

TOP, BOTTOM, LEFT, RIGHT = 12, 232, 50, 14  # edges of the diagram in its picture; LEFT and RIGHT are margins
FLOOR, COUNTED = 312, 44  # baseline of the bars that count images, and height of the tallest of them

FEW = 10  # a bin with fewer images is drawn pale, because its accuracy is uncertain


def calibration(metrics: Metrics | None) -> dict[str, Any] | None:
    """Returns the diagrams and numbers of the tuned and the zero-shot model.

    Args:
        metrics: the run's metrics, or None.

    Returns:
        The template data; None if the run has no calibration (older runs).
    """
    if metrics is None or metrics.calibration is None:
        return None
    tuned, zero = metrics.calibration.tuned, metrics.calibration.zero_shot
    return {
        "bins": len(tuned.bins),
        "few": FEW,
        "models": [_model("tuned", "Tuned", tuned), _model("zero", "Zero-shot", zero)],
        "better": tuned.ece < zero.ece,
        "same": tuned.ece == zero.ece,
    }


def _model(key: str, name: str, measured: Calibration) -> dict[str, Any]:
    images = sum(step.images for step in measured.bins)
    confidence, accuracy = (
        sum(step.images * (value or 0) for step, value in values) / max(images, 1)
        for values in ([(step, step.confidence) for step in measured.bins], [(step, step.accuracy) for step in measured.bins])
    )
    return {
        "name": name,
        "key": key,
        "ece": measured.ece,
        "points": f"{100 * measured.ece:.1f}",
        "confidence": confidence,
        "accuracy": accuracy,
        "verdict": _verdict(round(100 * (confidence - accuracy), 1)),
        "picture": reliability(key, name, measured),
    }


def _verdict(points: float) -> str:
    return "as sure as right" if points == 0 else "too sure" if points > 0 else "not sure enough"


def reliability(key: str, name: str, measured: Calibration) -> Markup:
    """Draws a reliability diagram.

    A bar shows the accuracy of each confidence bin, a dot its mean confidence, and a second bar below its number of images.
    The bars of a perfectly calibrated model end on the diagonal.

    Args:
        key: "tuned" or "zero"; part of the id and of the CSS classes.
        name: the model's name in the description for screen readers.
        measured: the calibration of the model.
    """
    steps, most = len(measured.bins), max(1, *(step.images for step in measured.bins))
    axes = [
        *_axes(),
        tag("line", x1=_x(0), y1=_y(0), x2=_x(1), y2=_y(1), class_="diagonal"),
        tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=FLOOR, y2=FLOOR, class_="base"),
        tag("text", "images", x=0, y=FLOOR - COUNTED - 14, class_="axis"),
        tag("text", "confidence: the largest probability", x=_x(0.5), y=FLOOR + 34, class_="middle axis"),
    ]
    marks = [mark for place, step in enumerate(measured.bins) for mark in _bin(key, place, steps, step, most)]
    title = f"Reliability of the {'tuned' if key == 'tuned' else 'zero-shot'} model"
    texts = [_bin_text(place, steps, step) for place, step in enumerate(measured.bins) if step.images]
    description = f"{name}, expected calibration error {percent(measured.ece)}. " + "; ".join(texts) + "."
    return picture(f"reliability-{key}", title, description, WIDTH, FLOOR + 40, *axes, *marks)


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(share: float) -> float:
    return BOTTOM - share * (BOTTOM - TOP)


def _axes() -> Iterator[Markup]:
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        yield tag("line", x1=_x(0), x2=_x(1), y1=_y(share), y2=_y(share), class_="grid" if share else "base")
        yield tag("text", f"{100 * share:g} %", x=LEFT - 7, y=_y(share) + 4, class_="end")
        yield tag("text", f"{100 * share:g}", x=_x(share), y=FLOOR + 17, class_="middle")


def _bin(key: str, place: int, steps: int, step: Bin, most: int) -> Iterator[Markup]:
    """Yields the marks of the bin at `place` of `steps`; nothing if the bin has no images."""
    if not step.images or step.confidence is None or step.accuracy is None:
        return
    left, width = _x(place / steps) + 1, (WIDTH - LEFT - RIGHT) / steps - 2
    middle, height = left + width / 2, COUNTED * step.images / most
    title = tag("title", _bin_text(place, steps, step))
    tall = _y(step.accuracy)
    bar = tag("rect", x=left, y=tall, width=width, height=max(BOTTOM - tall, 1.0))
    yield tag("g", title, bar, class_=f"bar {key} few" if step.images < FEW else f"bar {key}")
    yield tag("line", x1=middle, x2=middle, y1=tall, y2=_y(step.confidence), class_="apart")
    yield tag("circle", cx=middle, cy=_y(step.confidence), r=3, class_="confidence")
    yield tag("rect", x=left, y=FLOOR - height, width=width, height=height, class_=f"count-bar {key}")
    yield tag("text", _short(step.images), x=middle, y=FLOOR - height - 4, class_="middle small")


def _bin_text(place: int, steps: int, step: Bin) -> str:
    span = f"{100 * place / steps:.0f} to {100 * (place + 1) / steps:.0f} % sure"
    return f"{span}: {plural(step.images, 'image')}, right {percent(step.accuracy or 0)}, sure {percent(step.confidence or 0)}"


def _short(count: int) -> str:
    """Formats a number so that it fits above a bar: `870`, `1.2k`, `50k`."""
    if count < 1000:
        return str(count)
    return f"{count / 1000:.1f}k" if count < 9950 else f"{count / 1000:.0f}k"
