"""Figure of the calibration: accuracy as a function of confidence."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dpl.reports.style import GREY, INK, PAGE, TUNED, percent_axis, sheet
from dpl.schemas.explanation import Explanation
from dpl.schemas.run import Calibration
from dpl.schemas.run_folder import RunFolder


def draw(run: RunFolder, explanation: Explanation | None) -> Figure | None:
    """Draws reliability diagrams (Guo et al. 2017) of the zero-shot and the tuned model; None without calibration.

    A histogram below shows the number of images in each bin.
    """
    calibration = run.metrics.calibration if run.metrics else None
    if calibration is None:
        return None
    figure = sheet(PAGE, 2.9)
    upper, lower = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(3, 1))
    named = (("Zero-shot", calibration.zero_shot, GREY), ("Tuned", calibration.tuned, TUNED))
    for above, below, (name, measured, colour) in zip(upper, lower, named, strict=True):
        _diagram(above, measured, colour)
        above.set_title(f"{name}: ECE {100 * measured.ece:.1f} %")
        width = 1 / len(measured.bins)
        edges = np.arange(len(measured.bins)) * width
        below.bar(edges, [one.images for one in measured.bins], width=0.92 * width, align="edge", color=colour, alpha=0.55)
        below.yaxis.set_major_locator(MaxNLocator(2, integer=True))
        below.set_xlabel("confidence: the largest probability")
    upper[0].set_ylabel("accuracy")
    lower[0].set_ylabel("images")
    return figure


def _diagram(axes: Axes, measured: Calibration, colour: str) -> None:
    """Draws each bin's accuracy as a bar and its mean confidence as a dot. On the diagonal, confidence equals accuracy."""
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.7, linestyle=(0, (3, 2)))
    width = 1 / len(measured.bins)
    for place, one in enumerate(measured.bins):
        if one.images and one.accuracy is not None and one.confidence is not None:
            axes.bar(place * width, one.accuracy, width=0.92 * width, align="edge", color=colour, alpha=0.55)
            middle = (place + 0.46) * width
            axes.plot([middle, middle], [one.accuracy, one.confidence], color=INK, linewidth=0.8)
            axes.plot([middle], [one.confidence], color=INK, marker="o", markersize=2.5, linestyle="none")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.03)
    percent_axis(axes, "x")
    percent_axis(axes, "y")
    axes.grid(axis="y")
