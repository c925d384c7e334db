"""Figure of the operations of a layout beside those of the frozen model and of uniform layouts."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dpl.reports.style import GREY, INK, PAGE, TUNED, sheet
from dpl.reports.web.costs import gflops
from dpl.schemas.explanation import Explanation
from dpl.schemas.run_folder import RunFolder


def draw(run: RunFolder, explanation: Explanation | None) -> Figure | None:
    """Draws GFLOPs for one image and for all class texts; None if they were not counted.

    Bars start at 0 to show that prompts add little to the model's operations.
    """
    cost = run.metrics.cost if run.metrics else None
    if cost is None:
        return None
    named = [("frozen", cost.frozen, GREY)]
    named += [(f"{one.length} in every layer", one, "#B9BDB4") for one in sorted(cost.uniform, key=lambda one: one.length)]
    named.append(("this layout", cost, TUNED))
    figure = sheet(PAGE, 0.75 + 0.19 * len(named))
    left, right = figure.subplots(1, 2, sharey=True)
    names, colours = [name for name, _, _ in named], [colour for _, _, colour in named]
    _bars(left, names, [one.image for _, one, _ in named], colours)
    _bars(right, names, [one.classes for _, one, _ in named], colours)
    left.set_title("To embed one image")
    right.set_title("To embed all class texts, once")
    return figure


def _bars(axes: Axes, names: list[str], values: list[float], colours: list[str]) -> None:
    """Draws a bar per value, labelled with the value and its percentage above the first one."""
    drawn = axes.barh(range(len(names)), values, height=0.72, color=colours)
    base = values[0]
    labels = [
        gflops(value) + (f"  (+{100 * (value / base - 1):.1f} %)" if place and base else "") for place, value in enumerate(values)
    ]
    axes.bar_label(drawn, labels, padding=3, fontsize=6.5, color=INK)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, 1.45 * max(values))
    axes.set_xlabel("GFLOPs")
