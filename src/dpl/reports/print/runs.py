"""Figures of several runs: layouts, accuracies with intervals, and agreement of the searched layouts."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dpl.reports.runs.group_statistics import agreements, over_seeds
from dpl.reports.runs.runs_table import Group, grouped, read_runs
from dpl.reports.style import (
    BRANCH,
    COLUMN,
    GREY,
    INK,
    PAGE,
    RULE,
    TUNED,
    Drawn,
    Format,
    files_of,
    percent_axis,
    sheet,
    shorten,
    wrapped,
)
from dpl.reports.web.accuracy import accuracy_interval
from dpl.schemas.run_folder import BRANCHES
from dpl.utils.statistics import Agreed


def runs_figures(folders: Sequence[Path], formats: Sequence[Format]) -> dict[str, Drawn | None]:
    """Draws all `FIGURES` of several runs.

    Args:
        folders: the run folders.
        formats: the formats of the files.

    Returns:
        The figures by name; None for a figure without data.

    Raises:
        DplError: a run is broken or given twice.
    """
    groups = grouped(read_runs(folders))
    return {name: files_of(partial(draw, groups), formats) for name, draw in FIGURES.items()}


def draw_layouts(groups: Sequence[Group]) -> Figure | None:
    """Draws a row per run and a column per branch, all bars on one scale; None if no run has a prompt in a layer."""
    runs = [(group, one) for group in groups for one in group.members]
    tallest = max(max(*one.run.layout.image, *one.run.layout.text) for _, one in runs)
    if not tallest:
        return None
    figure = sheet(PAGE, 0.45 + 0.55 * len(runs))
    grid = figure.subplots(len(runs), 2, squeeze=False, sharey=True)
    for row, (group, one) in zip(grid, runs, strict=True):
        for axes, branch in zip(row, BRANCHES, strict=True):
            lengths = one.run.layout[branch]
            places = range(1, len(lengths) + 1)
            bars = axes.bar(places, lengths, width=0.7, color=BRANCH[branch])
            axes.bar_label(bars, [str(length) for length in lengths], padding=1, fontsize=6)
            axes.set_xlim(0.4, len(lengths) + 0.6)
            axes.set_ylim(0, 1.35 * tallest)
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
            axes.set_xticks(places, [str(place) for place in places] if one is runs[-1][1] else [""] * len(lengths))
            axes.tick_params(axis="x", length=0)
        name = f"{one.letter}, seed {one.seed}\n{wrapped(group.label, 26)}"
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=6.5)
    for axes, branch in zip(grid[0], BRANCHES, strict=True):
        axes.set_title(f"{branch.capitalize()} branch, tokens per layer")
    for axes in grid[-1]:
        axes.set_xlabel("layer")
    return figure


def draw_accuracies(groups: Sequence[Group]) -> Figure | None:
    """Draws each run's accuracy with its 95 % Wilson interval; None if no run has an accuracy.

    Below a group with several seeds it draws the mean over seeds with its t interval.
    """
    figure = sheet(COLUMN, 0.8 + 0.17 * sum(len(group.members) + 2 for group in groups))
    axes, place, ticks = figure.add_subplot(), 0, []
    for group in groups:
        axes.text(
            0.01,
            place,
            shorten(group.label, 44),
            transform=axes.get_yaxis_transform(),
            va="center",
            fontweight="bold",
            fontsize=7,
        )
        for one in group.members:
            if one.metrics:
                place += 1
                accuracy = one.metrics.accuracy
                low, high = accuracy_interval(one.metrics)
                _mark(axes, accuracy, low, high, place, GREY, "o")
                ticks.append((place, f"{one.letter}, seed {one.seed}"))
        mean = over_seeds(group)
        if mean and mean.half is not None:
            place += 1
            _mark(axes, mean.mean, mean.mean - mean.half, mean.mean + mean.half, place, TUNED, "D")
            ticks.append((place, f"mean of {mean.count} seeds"))
        place += 1
    if not axes.lines:
        return None
    axes.set_yticks([tick for tick, _ in ticks], [label for _, label in ticks], fontsize=6.5)
    axes.set_ylim(place - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    percent_axis(axes, "x")
    axes.set_xlabel("test accuracy, 95 % intervals")
    handles = [_key("o", GREY, "a run, over test images")]
    if any("mean" in label for _, label in ticks):
        handles.append(_key("D", TUNED, "mean, over seeds"))
    figure.legend(handles=handles, loc="outside upper right", ncols=2)
    return figure


def draw_agreement(groups: Sequence[Group]) -> Figure | None:
    """Draws the measured agreement of layouts beside the middle 95 % of chance; None without two searched layouts to compare."""
    rows = agreements(groups)
    if not rows:
        return None
    named = [(label, branch, found[branch]) for label, found in rows for branch in BRANCHES]
    figure = sheet(PAGE, 0.95 + 0.24 * len(named))
    panels: list[tuple[str, str]] = [
        ("equal", "Layers of the same length"),
        ("distance", "Distance, tokens"),
        ("rank", "Rank correlation"),
    ]
    for place, (axes, (measure, title)) in enumerate(zip(figure.subplots(1, 3, sharey=True), panels, strict=True)):
        for row, (_, branch, agreed) in enumerate(named):
            _found(axes, agreed, measure, row, BRANCH[branch])
        axes.set_title(title)
        axes.grid(axis="x")
        axes.set_ylim(len(named) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        if place == 0:
            axes.set_yticks(range(len(named)), [f"{wrapped(label, 28)}, {branch}" for label, branch, _ in named], fontsize=6.5)
            percent_axis(axes, "x")
            axes.set_xlim(0, 1)
        elif measure == "rank":
            axes.set_xlim(-1, 1)
        else:
            axes.set_xlim(0, None)
    handles = [
        _key("o", INK, "found, mean over pairs"),
        Line2D([], [], color="#C4C7BE", linewidth=5, label="chance, middle 95 %"),
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=2)
    return figure


def _mark(axes: Axes, value: float, low: float, high: float, place: int, colour: str, marker: str) -> None:
    axes.plot([low, high], [place, place], color=colour, linewidth=1.4, solid_capstyle="butt")
    axes.plot([value], [place], color=colour, marker=marker, markersize=4.5, linestyle="none")


def _found(axes: Axes, agreed: Agreed, measure: str, row: int, colour: str) -> None:
    found, low, high, chance = (getattr(one, measure) for one in (agreed.found, agreed.low, agreed.high, agreed.chance))
    if low is not None:
        axes.plot([low, high], [row, row], color="#C4C7BE", linewidth=5, solid_capstyle="butt")
        axes.plot([chance], [row], color=RULE, marker="|", markersize=6, markeredgecolor=GREY, linestyle="none")
    axes.plot([np.nan if found is None else found], [row], color=colour, marker="o", markersize=4.5, linestyle="none")


def _key(marker: str, colour: str, label: str) -> Line2D:
    return Line2D([], [], color=colour, marker=marker, markersize=4.5, linestyle="none", label=label)


FIGURES: Mapping[str, Callable[[Sequence[Group]], Figure | None]] = {
    "layouts": draw_layouts,
    "accuracies": draw_accuracies,
    "agreement": draw_agreement,
}
"""The figures by file name; each function draws its figure, or returns None if the runs have no data for it."""
