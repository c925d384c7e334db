"""Picture of a comparison: accuracy over shots, or a dot per method if there is a single number of shots.

The same results give the same bytes.
"""

import io
import warnings
from collections.abc import Sequence

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from dpl.reports.comparison.table import Comparison, Row
from dpl.reports.style import COLOURS, DASHES, GREY, MARKERS, STYLE

_LOOK = STYLE | {"font.size": 9}
_HIGH = 12  # height of a label in points


def pictures(comparison: Comparison) -> dict[str, bytes]:
    """Draws a comparison that has results.

    Args:
        comparison: the comparison, with at least one result.

    Returns:
        The files by ending: "svg" and "png" (200 dots per inch).
    """
    with matplotlib.style.context(["default", _LOOK]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # characters that the font lacks become boxes
        figure = _over_shots(comparison) if len(comparison.tables) > 1 else _dots(comparison)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # reuses the layout; computing it for each file would take most of the time
        files = {}
        for ending, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
            file = io.BytesIO()
            figure.savefig(file, format=ending, dpi=200, metadata=metadata)
            files[ending] = file.getvalue()
        return files


def _empty(comparison: Comparison, wide: float, high: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(wide, high), layout="constrained")
    FigureCanvasAgg(figure)
    one = figure.add_subplot()
    one.spines[["top", "right"]].set_visible(False)
    one.tick_params(color=GREY)
    counts = {row.accuracy.count for rows in comparison.tables.values() for row in rows}
    most = max(counts)
    seeds = "one seed" if most == 1 else f"mean over {most} seeds with its 95 % interval (t)"
    one.set_title(f"{comparison.task}: {seeds}", loc="left", fontsize=10)
    return figure, one


def _over_shots(comparison: Comparison) -> Figure:
    figure, one = _empty(comparison, 6.4, max(3.8, 0.2 * len(comparison.labels) + 1.6))
    tables = comparison.tables
    ends: list[tuple[float, float, str, str]] = []
    count = len(comparison.labels)
    for index, label in enumerate(comparison.labels):
        found = {shots: row for shots, rows in tables.items() for row in rows if row.label == label}
        if not found:
            continue
        # Shifts the methods sideways, so that no interval hides another.
        x = np.array(list(found)) * 2 ** (0.035 * (index - (count - 1) / 2) * min(1, 8 / count))
        y = [100 * row.accuracy.mean for row in found.values()]
        colour = _colour(index)
        is_reference = label == comparison.reference
        one.plot(
            x,
            y,
            color=colour,
            linestyle=DASHES[index // len(COLOURS) % len(DASHES)],
            linewidth=2.2 if is_reference else 1.3,
            marker=_marker(index),
            markersize=6 if is_reference else 5,
            markeredgecolor="white",
            markeredgewidth=0.4,
            zorder=4 if is_reference else 3,
        )
        one.errorbar(x, y, yerr=_halves(list(found.values())), fmt="none", ecolor=colour, elinewidth=1, capsize=2, alpha=0.8)
        ends.append((float(x[-1]), y[-1], label, colour))
    one.set_xscale("log", base=2)
    one.set_xticks(list(tables), [str(shots) for shots in tables])
    one.minorticks_off()
    one.set_xlim(min(tables) / 2**0.3, max(tables) * 2**0.3)
    one.set_ylim(*_limits(comparison))
    one.grid(axis="y", color="#E4E4E4", linewidth=0.7)
    one.set_axisbelow(True)
    one.set_xlabel("training images per class")
    one.set_ylabel("test accuracy, %")
    _label_ends(figure, one, ends)
    return figure


def _label_ends(figure: Figure, one: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Writes the names right of the ends of the lines, moved apart if they would overlap."""
    figure.draw_without_rendering()
    points = 72 / figure.dpi
    bottom, top = (edge * points for edge in (one.bbox.y0, one.bbox.y1))
    ordered = sorted(ends, key=lambda end: end[1])
    wanted = [float(one.transData.transform((x, y))[1]) * points for x, y, _, _ in ordered]
    for place, (x, y, label, colour) in zip(apart(wanted, _HIGH, bottom, top), ordered, strict=True):
        height = (place - bottom) / (top - bottom)
        line = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.7, "shrinkA": 0, "shrinkB": 3}
        one.annotate(
            shorten(label),
            (x, y),
            (1.03, height),
            textcoords="axes fraction",
            va="center",
            color=_ink(colour),
            arrowprops=line | {"relpos": (0, 0.5)},
            annotation_clip=False,
        )


def apart(wanted: Sequence[float], least: float, low: float, high: float) -> list[float]:
    """Moves positions apart so that neighbours keep a distance.

    Colliding neighbours form a block around the mean of their wanted positions (pool adjacent violators).

    Args:
        wanted: the wanted positions, ascending.
        least: the smallest distance between neighbours.
        low: the lower end of the range.
        high: the upper end of the range.

    Returns:
        Ascending positions near `wanted`, between `low` and `high` if they fit, otherwise from `low` on.
    """
    blocks: list[list[float]] = []  # sum of wished starts, members
    for index, place in enumerate(wanted):
        blocks.append([place - index * least, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, members = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += members
    starts = [total / members for total, members in blocks for _ in range(int(members))]
    last = max(low, high - (len(starts) - 1) * least)
    return [min(max(start, low), last) + index * least for index, start in enumerate(starts)]


def shorten(label: str, most: int = 34) -> str:
    """Shortens a label by cutting its end.

    Args:
        label: the label.
        most: largest number of characters.
    """
    return label if len(label) <= most else f"{label[: most - 1]}…"


def _dots(comparison: Comparison) -> Figure:
    (shots, rows), *_ = comparison.tables.items()
    figure, one = _empty(comparison, 6.4, 1.2 + 0.34 * len(rows))
    for place, row in enumerate(rows):
        index = comparison.labels.index(row.label)
        colour, halves = _colour(index), _halves([row])
        one.errorbar(100 * row.accuracy.mean, place, xerr=halves, fmt=_marker(index), color=colour, markersize=6, capsize=3)
        one.annotate(
            f"{100 * row.accuracy.mean:.1f}", (1.02, place), xycoords=("axes fraction", "data"), va="center", color=_ink(colour)
        )
    one.set_yticks(range(len(rows)), [shorten(row.label) for row in rows])
    one.set_ylim(len(rows) - 0.5, -0.5)
    one.set_xlim(*_limits(comparison))
    one.grid(axis="x", color="#E4E4E4", linewidth=0.7)
    one.set_axisbelow(True)
    one.set_xlabel(f"test accuracy, %, with {shots} training image{'s' * (shots > 1)} per class")
    return figure


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _ink(colour: str) -> tuple[float, ...]:
    """Darkens a colour by a third, for text."""
    return tuple(0.67 * part for part in to_rgb(colour))


def _marker(index: int) -> str:
    # Shifted, so that methods of the same colour have different markers.
    return MARKERS[(index + index // len(MARKERS)) % len(MARKERS)]


def _halves(rows: Sequence[Row]) -> list[float]:
    """Returns half widths in percent; NaN, which matplotlib does not draw, if a row has none."""
    return [np.nan if row.accuracy.half is None else 100 * row.accuracy.half for row in rows]


def _limits(comparison: Comparison) -> tuple[float, float]:
    """Returns axis limits in percent that show every mean and the part of the intervals between 0 and 100 %."""
    all_rows = [row for rows in comparison.tables.values() for row in rows]
    means = np.array([100 * row.accuracy.mean for row in all_rows])
    halves = np.nan_to_num(_halves(all_rows))
    low, high = max(0.0, (means - halves).min()), min(100.0, (means + halves).max())
    margin = max(0.05 * (high - low), 0.5)
    return low - margin, high + margin
