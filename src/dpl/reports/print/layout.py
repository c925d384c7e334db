"""Figure of the prompt layout: a bar per layer with the number of its tokens."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dpl.reports.style import BRANCH, GREY, PAGE, sheet
from dpl.reports.web.figures import plural
from dpl.schemas.explanation import Explanation
from dpl.schemas.run_folder import BRANCHES, RunFolder

_WIDE = 16  # with more layers than this, the branches are stacked vertically


def draw(run: RunFolder, explanation: Explanation | None) -> Figure | None:
    """Draws both branches on one scale; None if no layer has a prompt."""
    if not run.layout.tokens:
        return None
    stacked = max(len(run.layout[branch]) for branch in BRANCHES) > _WIDE
    figure = sheet(PAGE, 3.4 if stacked else 1.9)
    rows, columns = (2, 1) if stacked else (1, 2)
    for axes, branch in zip(figure.subplots(rows, columns, sharey=True, squeeze=False).flat, BRANCHES, strict=True):
        bars(axes, branch, run.layout[branch], max(*run.layout.image, *run.layout.text))
        axes.set_title(f"{branch.capitalize()} branch: {plural(sum(run.layout[branch]), 'token')}")
        axes.set_xlabel("layer")
        axes.set_ylabel("prompt tokens")
        if not stacked:
            axes.label_outer()
    return figure


def bars(axes: Axes, branch: str, lengths: Sequence[int], tallest: int) -> None:
    """Draws the bars of one branch with their numbers.

    Args:
        axes: the axes to draw on.
        branch: "image" or "text".
        lengths: prompt tokens of each layer, from the input to the output.
        tallest: the largest length of all branches on the same scale.
    """
    layers = range(1, len(lengths) + 1)
    drawn = axes.bar(layers, lengths, width=0.7, color=BRANCH[branch])
    axes.bar_label(drawn, [str(length) for length in lengths], padding=1.5, fontsize=6.5)
    for token in range(1, tallest):  # white lines divide each bar into tokens
        axes.axhline(token, color="white", linewidth=0.5, zorder=1.5)
    axes.set_xticks(layers, [str(layer) for layer in layers])
    axes.tick_params(axis="x", length=0, labelsize=7 if len(lengths) <= _WIDE else 6)
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.set_xlim(0.4, len(lengths) + 0.6)
    axes.set_ylim(0, max(tallest, 1) * 1.16)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
