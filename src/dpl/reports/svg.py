"""SVG by small pure functions: elements, axes, charts. Colours are classes that the page's style sheet fills in."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH = 376  # of a figure: half of the page's text width, and all of a phone's


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """An element. Children and attribute values that are not `Markup` are escaped; attributes that are None left out.

    `class_` becomes `class`, `text_anchor` becomes `text-anchor`; floats are written with at most two decimals.
    """
    written = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), number(value) if isinstance(value, float) else value)
        for key, value in attributes.items()
        if value is not None
    )
    content = Markup("").join(escape(child) for child in children)
    return Markup(f"<{name}{written}>{content}</{name}>")


def number(value: float) -> str:
    """`value` with at most two decimals, no trailing zeros and no negative zero."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def picture(key: str, title: str, description: str, width: float, height: float, *children: object) -> Markup:
    """An <svg> of the given natural size, with the name and description that a screen reader tells.

    Wider than `WIDTH`, it keeps its size (the page lets it scroll in its own box); otherwise it scales with its column.
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
    """Round values from 0 to at least `top` (> 0), at most `most` steps of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(max(top, 1e-12) / most))
    steps = (factor * power * scale for scale in (1, 10) for factor in (1, 2, 5))
    step = next(step for step in steps if step * most >= top * (1 - 1e-9) and (not whole or step >= 1))
    return [index * step for index in range(math.ceil(top / step * (1 - 1e-9)) + 1)]


@dataclass(frozen=True)
class Series:
    """A line of a chart: one value per epoch, None (or not finite) where there is none; `style` is its CSS class."""

    name: str
    values: tuple[float | None, ...]
    style: str

    @property
    def last(self) -> float | None:
        """The last value, None where it is missing or not finite."""
        return _finite(self.values[-1]) if self.values else None

    @property
    def has_gaps(self) -> bool:
        """Whether a value is there but not finite."""
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
    """`series` over `epochs` (counted from 1) on axes that start at 0.

    `top` is the least upper end of the value axis, `whole` draws counts (steps, whole ticks), `percent` labels 0-1 as
    0-100 %, `settled` is the epoch at which a line says that the layout settled.
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
    told = _describe(epochs, series)
    if settled is not None:
        place, side = x(settled), "end" if x(settled) > WIDTH / 2 else None
        axes.append(tag("line", x1=place, x2=place, y1=6, y2=height - lower, class_="settled"))
        axes.append(tag("text", "settled", x=place + (-6 if side else 6), y=15, class_=side))
        told += f" The layout settled after epoch {settled}."
    return picture(key, title, told, WIDTH, height, *axes, *lines)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _epoch_ticks(epochs: Sequence[int]) -> list[int]:
    """The first and the last epoch and round ones between, none so near to the last that the numbers would touch."""
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
    """The path of a series, broken where values are missing; a value alone is a dot."""
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
