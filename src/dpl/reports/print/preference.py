"""Figures of the preferences of the search as heatmaps, after the last epoch and over the epochs.

A heatmap has a column per layer and a row per choice.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dpl.reports.style import BRANCH, INK, PAGE, RULE, shades, sheet
from dpl.reports.web.charts import epochs_of
from dpl.reports.web.preference import Preference
from dpl.reports.web.stages import SECTIONS
from dpl.schemas.explanation import Explanation
from dpl.schemas.run_folder import BRANCHES, RunFolder

_MULTIPLES = 8  # largest number of epochs to draw; of more epochs, evenly spaced ones


def draw(run: RunFolder, explanation: Explanation | None) -> Figure | None:
    """Draws both branches after the last epoch; None if the run did not search."""
    if not run.search:
        return None
    preference = _preference(run)
    figure = sheet(PAGE, 0.8 + 0.13 * max(len(preference.grid.names), 8))
    for axes, branch in zip(figure.subplots(1, 2), BRANCHES, strict=True):
        mesh = _heat(axes, run, preference, branch, len(run.search) - 1)
        axes.set_title(preference.titles[branch])
        bar = figure.colorbar(mesh, ax=axes, pad=0.02, aspect=30)
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
        bar.ax.set_title(preference.grid.unit, loc="left", fontsize=7, fontweight="normal")
    return figure


def draw_epochs(run: RunFolder, explanation: Explanation | None) -> Figure | None:
    """Draws small multiples of epochs from the first to the last; None if the search has fewer than two epochs."""
    if len(run.search) < 2:
        return None
    preference, epochs = _preference(run), epochs_of(run)
    chosen = np.unique(np.linspace(0, len(epochs) - 1, _MULTIPLES).round().astype(int)).tolist()
    figure = sheet(PAGE, 2 * (0.35 + 0.075 * max(len(preference.grid.names), 8)) + 0.2)
    grid = figure.subplots(2, len(chosen), sharey=True, squeeze=False)
    for row, branch in zip(grid, BRANCHES, strict=True):
        for axes, place in zip(row, chosen, strict=True):
            _heat(axes, run, preference, branch, place, few=True)
            if branch == BRANCHES[0]:
                axes.set_title(f"epoch {epochs[place]}", fontsize=7, fontweight="normal")
            axes.label_outer()
        row[0].set_ylabel(f"{branch} branch\n{preference.grid.axis}")
    relative = "" if len(set(preference.darkest)) == 1 else "; the darkest shade is the largest share of each epoch"
    figure.supxlabel(f"layer{relative}", fontsize=8)
    return figure


def _preference(run: RunFolder) -> Preference:
    return SECTIONS[type(run.search[0])](run, run.search)


def _heat(axes: Axes, run: RunFolder, preference: Preference, branch: str, place: int, few: bool = False) -> QuadMesh:
    """Draws the cells after the epoch at `place`, with those of its layout outlined.

    After the last epoch it outlines the run's actual layout, as the report does.
    """
    values = np.array(preference.values[branch][place]).T / 10
    top = Normalize(0, preference.darkest[place] / 10)
    mesh = axes.pcolormesh(values, cmap=shades(BRANCH[branch]), norm=top, edgecolors=RULE, linewidth=0.3)
    layout = run.layout if place == len(run.search) - 1 else preference.layouts[place]
    for layer, length in enumerate(layout[branch]):
        for row, outlined in enumerate(preference.outlined(length)):
            if outlined:
                axes.add_patch(Rectangle((layer, row), 1, 1, fill=False, edgecolor=INK, linewidth=0.4 if few else 0.8))
    rows, layers = values.shape
    step = 1 if not few and rows <= 16 else -(-rows // 4)
    axes.set_yticks(np.arange(0, rows, step) + 0.5, [str(preference.grid.names[row]) for row in range(0, rows, step)])
    stride = -(-layers // (3 if few else 16))
    axes.set_xticks(np.arange(0, layers, stride) + 0.5, [str(layer + 1) for layer in range(0, layers, stride)])
    axes.tick_params(length=0, pad=2, labelsize=6 if few else 7)
    axes.spines[:].set_visible(False)
    if not few:
        axes.set_xlabel("layer")
        axes.set_ylabel(preference.grid.axis)
    return mesh
