"""Figures of the accuracy per class beside zero-shot, and of the most frequent confusions."""

import numpy as np
from matplotlib.figure import Figure

from dpl.reports.style import COLUMN, FALL, GREY, TUNED, ZERO, percent_axis, shades, sheet, shorten
from dpl.reports.web.accuracy import classes
from dpl.schemas.explanation import Explanation
from dpl.schemas.run_folder import RunFolder


def draw(run: RunFolder, explanation: Explanation | None) -> Figure | None:
    """Draws a row per class, from the largest gain to the largest loss; None if no class was tested.

    With many classes it draws only both ends, as the report does.
    """
    table = classes(run.metrics.per_class) if run.metrics else None
    if table is None:
        return None
    rows = [row for group in table["groups"] for row in group]
    figure = sheet(COLUMN, 0.85 + 0.135 * len(rows))
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        if row["zero"] is not None:
            way = TUNED if row["change"] >= 0 else FALL
            dash = "-" if row["change"] >= 0 else (0, (2, 1.2))
            axes.plot([row["zero"], row["accuracy"]], [place, place], color=way, linestyle=dash, linewidth=1.6, zorder=2)
    known = [(row["zero"], place) for place, row in enumerate(rows) if row["zero"] is not None]
    if known:
        axes.scatter(*zip(*known, strict=True), s=14, facecolor="white", edgecolor=ZERO, zorder=3, label="zero-shot")
    axes.scatter([row["accuracy"] for row in rows], range(len(rows)), s=14, color=TUNED, zorder=4, label="tuned")
    if table["hidden"]:
        between = len(table["groups"][0]) - 0.5
        axes.axhline(between, color=GREY, linewidth=0.6, linestyle=(0, (1, 2)))
        axes.text(1.01, between, f"{table['hidden']:,}\nleft out", transform=axes.get_yaxis_transform(), va="center", fontsize=6)
    axes.set_yticks(range(len(rows)), [shorten(row["name"], 20) for row in rows], fontsize=6.5)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(-0.02, 1.02)
    percent_axis(axes, "x")
    axes.grid(axis="x")
    axes.set_xlabel("accuracy on the test images")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return figure


def draw_confusions(run: RunFolder, explanation: Explanation | None) -> Figure | None:
    """Draws the most frequent confused pairs as a matrix; None if there are none.

    An empty cell is a pair outside this list; its count is unknown, not necessarily 0.
    """
    pairs = run.metrics.confusions if run.metrics else []
    if not pairs:
        return None
    order = {name: place for place, name in reversed(list(enumerate(run.config.task.class_names)))}
    true = sorted({pair.true for pair in pairs}, key=lambda name: (order.get(name, len(order)), name))
    taken = sorted({pair.predicted for pair in pairs}, key=lambda name: (order.get(name, len(order)), name))
    counts = np.zeros((len(true), len(taken)))
    for pair in pairs:
        counts[true.index(pair.true), taken.index(pair.predicted)] += pair.count
    figure = sheet(COLUMN, 1.3 + 0.2 * len(true))
    axes = figure.add_subplot()
    shown = np.where(counts > 0, counts, np.nan)
    axes.pcolormesh(shown, cmap=shades(FALL), vmin=0, vmax=counts.max(), edgecolors="white", linewidth=0.5)
    for row, column in np.argwhere(counts > 0):
        dark = counts[row, column] > 0.55 * counts.max()
        number = f"{counts[row, column]:.0f}"
        axes.text(column + 0.5, row + 0.5, number, ha="center", va="center", fontsize=6.5, color="white" if dark else "black")
    turn = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if max(map(len, taken)) > 3 else {}
    axes.set_xticks(np.arange(len(taken)) + 0.5, [shorten(name, 18) for name in taken], fontsize=6.5, **turn)
    axes.set_yticks(np.arange(len(true)) + 0.5, [shorten(name, 18) for name in true], fontsize=6.5)
    axes.tick_params(length=0)
    axes.invert_yaxis()
    axes.set_facecolor("#F6F6F3")
    axes.spines[:].set_visible(False)
    axes.set_xlabel("taken for")
    axes.set_ylabel("true class")
    title = f"The {len(pairs)} most frequent confusions" if len(pairs) > 1 else "The only confusion"
    figure.suptitle(title, x=0.01, ha="left", fontsize=8, fontweight="bold")
    return figure
