"""Figure of the examples with their Grad-CAM maps, as a contact sheet."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dpl.reports.overlay import overlay
from dpl.reports.style import FALL, PAGE, TUNED, sheet, shorten
from dpl.reports.web.pixels import square
from dpl.schemas.explanation import Explanation
from dpl.schemas.run_folder import RunFolder

_SIZE = 224  # pixels per side of a tile, about its size in print at 300 dots per inch


def draw(run: RunFolder, explanation: Explanation | None) -> Figure | None:
    """Draws two examples per row: the picture, then each model's map of its predicted class; None without examples."""
    if explanation is None or not explanation.examples:
        return None
    across = 1 + len(explanation.models)
    rows = -(-len(explanation.examples) // 2)
    wide = PAGE / (2 * across + 0.3)
    figure = sheet(PAGE, rows * (wide + 0.42))
    grid = figure.add_gridspec(rows, 2 * across + 1, width_ratios=[*[1] * across, 0.15, *[1] * across])
    names = run.config.task.class_names
    for place, example in enumerate(explanation.examples):
        start = (place % 2) * (across + 1)
        picture = square(explanation.pictures[place])
        axes = _tile(figure.add_subplot(grid[place // 2, start]), picture)
        axes.set_title(f"{shorten(names[example.label], 15)}", fontsize=7)
        axes.set_xlabel("the picture", fontsize=6)
        for model, prediction in enumerate(example.predictions):
            heat = overlay(picture, explanation.maps[place, model], _SIZE)
            axes = _tile(figure.add_subplot(grid[place // 2, start + 1 + model]), heat)
            right = prediction.label == example.label
            mark = "✓" if right else "✗"
            axes.set_title(f"{mark} {shorten(names[prediction.label], 13)}", fontsize=7, color=TUNED if right else "#8C4F79")
            axes.set_xlabel(f"{explanation.models[model]}, {100 * prediction.probability:.0f} %", fontsize=6)
            axes.spines[:].set_color(TUNED if right else FALL)
    return figure


def _tile(axes: Axes, picture: object) -> Axes:
    axes.imshow(picture, interpolation="nearest")  # pyright: ignore[reportArgumentType]
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(True)
    return axes
