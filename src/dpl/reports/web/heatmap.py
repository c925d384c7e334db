"""Heatmap of a branch as SVG: a column per layer and a row per choice or head; larger values are darker."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from dpl.reports.web.figures import LEFT, columns
from dpl.reports.web.svg import WIDTH, picture, tag

# Threshold in permille of the darkest value. A cell at or above it is so dark (on a dark page, so light) that its number is
# written in the opposite colour.
STRONG = 640


@dataclass(frozen=True)
class Grid:
    """Rows and legend of the heatmaps of both branches.

    `names` (short, under the heading `axis`) and `labels` (in words) describe the rows from the bottom up. `unit` is the unit
    of the values; `scale` labels the lightest, the middle and the darkest colour.
    """

    axis: str
    names: Sequence[object]
    labels: Sequence[str]
    unit: str
    scale: tuple[str, str, str]


@dataclass(frozen=True)
class Heat:
    """Cells of one branch after one epoch.

    `values` (layers x rows) are in tenths of the unit; `darkest` (> 0) is the value with the darkest colour. `outlined`
    (layers x rows) marks the cells that belong to the layout.
    """

    values: Sequence[Sequence[int]]
    darkest: int
    outlined: Sequence[Sequence[bool]]


def heatmap(branch: str, title: str, description: str, grid: Grid, heat: Heat, key: str = "heat", row: int = 27) -> Markup:
    """Draws the heatmap of one branch.

    Writes the cells layer by layer, each layer from the bottom up: report.js relies on this order when it redraws the cells,
    and formats them in the same way as `_cell`.

    Args:
        branch: "image" or "text".
        title: the name for screen readers.
        description: the description for screen readers.
        grid: the rows.
        heat: the cells.
        key: prefix of the id, which distinguishes several heatmaps of a branch.
        row: height of a cell.
    """
    width, column = columns(len(heat.values))
    upper = 16
    bottom = upper + row * len(grid.names)
    parts = [
        tag("text", name, x=LEFT - 9, y=bottom - row * (place + 0.5) + 4, class_="end") for place, name in enumerate(grid.names)
    ]
    parts.append(tag("text", grid.axis, x=0, y=upper - 5, class_="axis"))
    parts.append(tag("text", "layer", x=0, y=bottom + 18, class_="axis"))
    for layer, (values, outlined) in enumerate(zip(heat.values, heat.outlined, strict=True)):
        parts.append(tag("text", layer + 1, x=LEFT + (layer + 0.5) * column, y=bottom + 18, class_="middle"))
        for place, (value, chosen) in enumerate(zip(values, outlined, strict=True)):
            x, y = LEFT + layer * column, bottom - row * (place + 1)
            label = f"layer {layer + 1}, {grid.labels[place]}: {value / 10:.1f} {grid.unit}"
            parts.append(_cell(x, y, column, row, value, heat.darkest, chosen, label))
    return picture(f"{key}-{branch}", title, description, width, bottom + 26, tag("g", *parts, class_=f"heat {branch}"))


def _cell(x: float, y: float, width: float, height: float, value: int, darkest: int, chosen: bool, label: str) -> Markup:
    strong = 1000 * value >= STRONG * darkest
    return tag(
        "g",
        tag("title", label),
        tag("rect", x=x + 1, y=y + 1, width=width - 2, height=height - 2, class_="ground"),
        tag("rect", x=x + 1, y=y + 1, width=width - 2, height=height - 2, fill_opacity=f"{value / darkest:g}"),
        tag(
            "text",
            f"{(value + 5) // 10}" if value >= 10 else "",
            x=x + width / 2,
            y=y + height / 2 + 4,
            class_="middle",
        ),
        class_="cell" + (" strong" if strong else "") + (" chosen" if chosen else ""),
    )


def colour_scale(branch: str, labels: tuple[str, str, str], key: str = "scale") -> Markup:
    """Draws the legend of a heatmap.

    Args:
        branch: "image" or "text".
        labels: the values of the lightest, the middle and the darkest colour.
        key: prefix of the id, unique in the page.
    """
    stops = [tag("stop", offset=f"{100 * share}%", stop_opacity=share) for share in (0, 1)]
    gradient = tag("linearGradient", *stops, id=f"{key}-{branch}-ramp", class_=f"ramp {branch}")
    ground = tag("rect", x=LEFT, y=1, width=160, height=10, class_="ground")
    bar = tag("rect", x=LEFT, y=1, width=160, height=10, fill=f"url(#{key}-{branch}-ramp)", class_="frame")
    marks = [tag("text", label, x=LEFT + 80 * place, y=25, class_="middle") for place, label in enumerate(labels)]
    description = f"The darker a cell (the lighter, on a dark page), the more: from {labels[0]} over {labels[1]} to {labels[2]}."
    title = f"Colour scale of the {branch} branch"
    return picture(f"{key}-{branch}", title, description, WIDTH, 30, gradient, ground, bar, *marks)
