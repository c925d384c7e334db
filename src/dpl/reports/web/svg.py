"""Pure functions that build SVG: elements, axes, charts. The page's style sheet sets the colours by CSS class."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH = 376  # width of a figure: half of the page's text width, or the full width of a phone


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """Builds an element. Escapes children and attribute values that are not `Markup`.

    Args:
        name: the name of the element.
        *children: its content.
        **attributes: its attributes; None leaves one out. `class_` becomes `class` and `text_anchor` becomes `text-anchor`.
            Floats are written with at most two decimals.
    """
    written = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), number(value) if isinstance(value, float) else value)
        for key, value in attributes.items()
        if value is not None
    )
    content = Markup("").join(escape(child) for child in children)
    return Markup(f"<{name}{written}>{content}</{name}>")


def number(value: float) -> str:
    """Formats a number with at most two decimals, without trailing zeros and without negative zero.

    Args:
        value: the number.

    Example:

        >>> number(1.5), number(2.0), number(-0.001)
        ('1.5', '2', '0')
    """
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def picture(key: str, title: str, description: str, width: float, height: float, *children: object) -> Markup:
    """Builds an <svg> with a name and a description for screen readers.

    A picture wider than `WIDTH` keeps its size (the page scrolls it in its own box); others scale with their column.

    Args:
        key: the id, unique in the page.
        title: the name for screen readers.
        description: the description for screen readers.
        width: natural width in SVG units.
        height: natural height in SVG units.
        *children: the content.
    """
    return tag(
        "svg",
        tag("title", title, id=f"{key}-title"),
        tag("desc", description, id=f"{key}-desc"),
        *children,
        id=key,
        class_="picture wide" if width > WIDTH else "picture",
        viewBox=f"0 0 {number(width)} {number(height)}",
        width=float(width),
        height=float(height),
        role="img",
        aria_labelledby=f"{key}-title {key}-desc",
    )


def ticks(top: float, most: int = 6, whole: bool = False) -> list[float]:
    """Returns round axis values from 0 to at least `top`.

    Args:
        top: the largest value to cover, > 0.
        most: the maximal number of steps between the values.
        whole: whether the values must be integers.

    Returns:
        Multiples of a step, which is 1, 2 or 5 times a power of ten.

    Example:

        >>> ticks(10), ticks(3, whole=True)
        ([0.0, 2.0, 4.0, 6.0, 8.0, 10.0], [0.0, 1.0, 2.0, 3.0])
    """
    power = 10.0 ** math.floor(math.log10(max(top, 1e-12) / most))
    steps = (factor * power * scale for scale in (1, 10) for factor in (1, 2, 5))
    step = next(step for step in steps if step * most >= top * (1 - 1e-9) and (not whole or step >= 1))
    return [index * step for index in range(math.ceil(top / step * (1 - 1e-9)) + 1)]


@dataclass(frozen=True)
class Series:
    """A line of a chart: one value per epoch, None (or not finite) if missing; `style` is its CSS class."""

    name: str
    values: tuple[float | None, ...]
    style: str

    @property
    def last(self) -> float | None:
        """The last value; None if it is missing or not finite."""
        return _finite(self.values[-1]) if self.values else None

    @property
    def has_gaps(self) -> bool:
        """Whether a value is infinite or NaN."""
        return any(value is not None and not math.isfinite(value) for value in self.values)


def line_chart(
    key: str,
    title: str,
    epochs: Sequence[int],
    series: Sequence[Series],
    top: float | None = None,
    whole: bool = False,
    percent: bool = False,
    settled: int | None = None,
) -> Markup:
    """Draws lines over epochs, with a value axis that starts at 0.

    Args:
        key: the id, unique in the page.
        title: the name for screen readers.
        epochs: the epochs, counted from 1.
        series: the lines; each has a value per epoch.
        top: the smallest upper end of the value axis.
        whole: whether the values are counts; draws steps and integer ticks.
        percent: whether to label 0-1 as 0-100 %.
        settled: the epoch to mark with a vertical line labelled "settled".
    """
    upper = 10 if settled is None else 24
    height, left, right, lower = 176 + upper, 50, 12, 40
    known = [value for line in series for value in line.values if value is not None and math.isfinite(value)]
    rows = ticks(max([*known, top or 0]) or 1, whole=whole)
    first, last = (epochs[0], epochs[-1]) if epochs[0] < epochs[-1] else (epochs[0] - 1, epochs[0] + 1)

    def x(epoch: float) -> float:
        return left + (epoch - first) / (last - first) * (WIDTH - left - right)

    def y(value: float) -> float:
        return height - lower - value / rows[-1] * (height - lower - upper)

    def label(value: float) -> str:
        return f"{100 * value:g} %" if percent else f"{value:g}"

    axes = [tag("line", x1=left, x2=WIDTH - right, y1=y(row), y2=y(row), class_="base" if row == 0 else "grid") for row in rows]
    axes += [tag("text", label(float(f"{row:.6g}")), x=left - 7, y=y(row) + 4, class_="end") for row in rows]
    axes += [tag("text", epoch, x=x(epoch), y=height - lower + 17, class_="middle") for epoch in _epoch_ticks(epochs)]
    axes.append(tag("text", "epochs completed", x=(left + WIDTH - right) / 2, y=float(height - 6), class_="middle axis"))
    lines = [mark for line in series for mark in _line(line, epochs, x, y, whole)]
    text = _describe(epochs, series)
    if settled is not None:
        place, side = x(settled), "end" if x(settled) > WIDTH / 2 else None
        axes.append(tag("line", x1=place, x2=place, y1=6, y2=height - lower, class_="settled"))
        axes.append(tag("text", "settled", x=place + (-6 if side else 6), y=15, class_=side))
        text += f" The layout settled after epoch {settled}."
    return picture(key, title, text, WIDTH, height, *axes, *lines)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _epoch_ticks(epochs: Sequence[int]) -> list[int]:
    """Returns the first and the last epoch and round ones between, none so near to either that the numbers would touch."""
    if len(epochs) == 1:
        return [epochs[0]]
    first, last = epochs[0], epochs[-1]
    step = ticks(last, whole=True)[1]
    between = [int(index * step) for index in range(1, int(last / step) + 1)]
    return [
        first,
        *(epoch for epoch in between if first + 0.4 * step <= epoch <= last - 0.4 * step and epoch > first),
        last,
    ]


def _line(line: Series, epochs: Sequence[int], x, y, steps: bool) -> Iterator[Markup]:
    """Yields the path of a series, interrupted at missing values; draws an isolated value as a dot."""
    for points in _runs(line, epochs):
        places = [(number(x(epoch)), number(y(value))) for epoch, value in points]
        if len(places) == 1:
            yield tag("circle", cx=places[0][0], cy=places[0][1], r=3, class_=f"dot {line.style}")
            continue
        path = f"M{places[0][0]} {places[0][1]}"
        path += "".join(f"H{right}V{value}" if steps else f"L{right} {value}" for right, value in places[1:])
        yield tag("path", tag("title", line.name), d=path, class_=f"line {line.style}")


def _runs(line: Series, epochs: Sequence[int]) -> Iterator[list[tuple[int, float]]]:
    points: list[tuple[int, float]] = []
    for epoch, value in zip(epochs, line.values, strict=True):
        if _finite(value) is not None and value is not None:
            points.append((epoch, value))
        elif points:
            yield points
            points = []
    if points:
        yield points


def _describe(epochs: Sequence[int], series: Sequence[Series]) -> str:
    parts = []
    for line in series:
        known = [value for value in line.values if _finite(value) is not None]
        parts.append(f"{line.name}: from {known[0]:.3g} to {known[-1]:.3g}" if known else f"{line.name}: no values")
    return f"Over {len(epochs)} epochs. " + "; ".join(parts) + "."
