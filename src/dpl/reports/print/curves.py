"""Figures of the convergence of search and training: lines over epochs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dpl.reports.style import BRANCH, GREY, INK, PAGE, percent_axis, sheet
from dpl.reports.web.charts import by_branch, changed, epochs_of, layers_of
from dpl.reports.web.convergence import settled_epoch
from dpl.reports.web.stages import SECTIONS
from dpl.reports.web.svg import Series
from dpl.schemas.explanation import Explanation
from dpl.schemas.run import AlphaEpoch, SaliencyEpoch
from dpl.schemas.run_folder import RunFolder

_DASHED = (0, (4, 1.5))
# Colour and dashes of each line style of the report.
LINES: Mapping[str, tuple[str, Any]] = {
    "image": (BRANCH["image"], "-"),
    "text": (BRANCH["text"], _DASHED),
    "first": (INK, "-"),
    "second": (GREY, _DASHED),
}


@dataclass(frozen=True)
class Panel:
    """Lines on one pair of axes; `whole` draws counts as steps, `share` labels 0-1 in percent."""

    title: str
    lines: Sequence[Series]
    whole: bool = False
    share: bool = False


def draw_search(run: RunFolder, explanation: Explanation | None) -> Figure | None:
    """Draws the losses of the search and the convergence of the layout; None if the run did not search."""
    if not run.search:
        return None
    layouts, epochs = SECTIONS[type(run.search[0])](run, run.search).layouts, epochs_of(run)
    panels = [
        Panel(
            "Loss in the search stage",
            [
                Series("training", tuple(line.train_loss for line in run.search), "first"),
                Series("validation", tuple(line.validation_loss for line in run.search), "second"),
            ],
        ),
        *PANELS[type(run.search[0])](run),
        Panel(f"Layers whose length changed (of {layers_of(run)})", changed(layouts), whole=True),
        Panel("Tokens of the layout so far", by_branch(lambda branch: (sum(one[branch]) for one in layouts)), whole=True),
    ]
    return _panels(panels, epochs, settled_epoch(epochs, layouts))


def draw_training(run: RunFolder, explanation: Explanation | None) -> Figure | None:
    """Draws loss and accuracy on the training batches; None if the run did not train by steps."""
    if not run.train:
        return None
    loss, accuracy = (tuple(getattr(line, name) for line in run.train) for name in ("loss", "accuracy"))
    panels = [
        Panel("Loss in the training stage", [Series("training", loss, "first")]),
        Panel("Accuracy on the training batches", [Series("training", accuracy, "first")], share=True),
    ]
    return _panels(panels, [line.epoch + 1 for line in run.train], None)


def _of_mixture(run: RunFolder) -> list[Panel]:
    lines = [line for line in run.search if isinstance(line, AlphaEpoch)]
    difference = by_branch(lambda branch: (line.alpha_difference[branch] for line in lines))
    dominants = by_branch(lambda branch: (line.dominants[branch] for line in lines))
    counted = f"Number of dominants (of {layers_of(run)})"
    return [Panel("Alpha difference", difference), Panel(counted, dominants, whole=True)]


def _of_pruning(run: RunFolder) -> list[Panel]:
    lines = [line for line in run.search if isinstance(line, SaliencyEpoch)]
    parts = by_branch(lambda branch: (sum(map(sum, line.saliency[branch])) for line in lines))
    return [Panel("Part of the saliency", parts, share=True)]


# Panels for the values that only one kind of search records, beside losses and layout.
PANELS: Mapping[type, Callable[[RunFolder], list[Panel]]] = {AlphaEpoch: _of_mixture, SaliencyEpoch: _of_pruning}


def _panels(panels: Sequence[Panel], epochs: Sequence[int], moment: int | None) -> Figure:
    """Draws two panels per row, with a dotted line at epoch `moment` at which the layout settled, unless it is None."""
    rows = -(-len(panels) // 2)
    figure = sheet(PAGE, 0.2 + 1.6 * rows)
    grid = list(figure.subplots(rows, 2, squeeze=False).flat)
    for axes, panel in zip(grid, panels, strict=False):
        _draw(axes, panel, epochs)
        if moment is not None:
            axes.axvline(moment, color=INK, linewidth=0.9, linestyle=(0, (1, 1.5)), label=f"settled after epoch {moment}")
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    named = {label: handle for axes in grid for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if len(named) > 1:
        figure.legend(list(named.values()), list(named), loc="outside upper right", ncols=len(named))
    return figure


def _draw(axes: Axes, panel: Panel, epochs: Sequence[int]) -> None:
    for line in panel.lines:
        values = np.array([np.nan if value is None else value for value in line.values], float)
        values[~np.isfinite(values)] = np.nan
        colour, dash = LINES[line.style]
        drawing = "steps-mid" if panel.whole else "default"
        dot = "o" if np.isfinite(values).sum() < 2 else None  # a line needs two values
        axes.plot(epochs, values, color=colour, linestyle=dash, label=line.name, drawstyle=drawing, marker=dot, markersize=3)
    axes.set_title(panel.title)
    axes.set_xlabel("epochs completed")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_ylim(0, 1.02 if panel.share else None)
    axes.grid(axis="y")
    if panel.whole:
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    if panel.share:
        percent_axis(axes, "y")
