"""Style of all matplotlib figures (colours, sizes, fonts), and saving them to PDF, SVG and PNG.

The same numbers give the same bytes. No display is needed.
"""

import io
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from dpl.utils.text import printable

Format = Literal["pdf", "svg", "png"]

# Colours of Okabe and Ito (2008), which colour-blind readers can distinguish, without yellow, which is too pale for print.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)))
GREY, RULE, INK = "#6E6E6E", "#E4E4E4", "#1B1D21"
BRANCH = {"image": "#0072B2", "text": "#D55E00"}  # the report's hues
TUNED, ZERO, FALL = "#009E73", GREY, "#CC79A7"

COLUMN, PAGE = 85 / 25.4, 178 / 25.4  # widths in inches: one column of a journal, and both
DPI = 300

STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "axes.edgecolor": GREY,
    "svg.hashsalt": "dpl",
    "text.parse_math": False,  # a "$" in a class name is a "$"
}
_PAPER = STYLE | {
    "font.family": "sans-serif",  # gives SVG a generic fallback font
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "axes.labelcolor": INK,
    "lines.linewidth": 1.2,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "pdf.fonttype": 42,  # TrueType: text can be searched and edited, as journals ask
    "svg.fonttype": "none",  # text stays text for the same reason; the viewer's fonts may cover scripts that ours lacks
}
_METADATA: dict[Format, dict[str, str | None]] = {
    "pdf": {"CreationDate": None, "Creator": "dpl", "Producer": None},
    "svg": {"Date": None, "Creator": "dpl"},
    "png": {"Software": None},
}
_MISSING = re.compile(r"^Glyph (\d+) .* missing")


@contextmanager
def paper() -> Iterator[None]:
    """Applies the common style to figures made inside, regardless of the machine's matplotlib settings."""
    with matplotlib.style.context(["default", _PAPER]):
        yield


def sheet(width: float, height: float) -> Figure:
    """Creates an empty figure with constrained layout, without a display.

    Args:
        width: width in inches.
        height: height in inches.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def shades(colour: str) -> LinearSegmentedColormap:
    """Returns a colour map from white over `colour` to a dark shade of it.

    Lightness decreases evenly, so that the map is readable in greyscale.
    """
    red, green, blue = to_rgb(colour)
    return LinearSegmentedColormap.from_list(colour, ["#FFFFFF", colour, (0.45 * red, 0.45 * green, 0.45 * blue)])


def percent_axis(axes: Axes, which: Literal["x", "y"]) -> None:
    """Labels the ticks of an axis of 0-1 values in percent.

    Args:
        axes: the axes, changed in place.
        which: "x" or "y".
    """
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))


def shorten(text: str, most: int = 24) -> str:
    """Shortens a name to one line.

    Cuts the middle of a longer name, and replaces characters that a file cannot hold.

    Args:
        text: the name.
        most: largest number of characters.

    Example:

        >>> shorten("a very long name of a class of birds", 20)
        'a very long n… birds'
    """
    line = " ".join(str(printable(text)).split())
    end = (most - 1) // 3
    return line if len(line) <= most else f"{line[: most - 1 - end]}…{line[-end:]}"


def wrapped(text: str, most: int) -> str:
    """Shortens a name (see `shorten`) to at most two lines.

    Args:
        text: the name.
        most: largest number of characters of a line.
    """
    return "\n".join(textwrap.wrap(shorten(text, 2 * most), most)[:2])


@dataclass(frozen=True)
class Drawn:
    """The files of a figure by ending, and the characters that its font lacks: they appear as boxes in PDF and PNG."""

    files: dict[Format, bytes]
    lacking: str


def files_of(draw: Callable[[], Figure | None], formats: Sequence[Format]) -> Drawn | None:
    """Draws a figure in the common style and encodes it in each of `formats`, PNG at 300 dots per inch.

    Args:
        draw: creates the figure; called inside `paper`. Returns None if it has nothing to show.
        formats: "pdf", "svg", "png".

    Returns:
        The files; None if `draw` returned None.
    """
    with paper(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if (figure := draw()) is None:
            return None
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # reuses the layout; computing it for each file would take most of the time
        files: dict[Format, bytes] = {}
        for ending in formats:
            file = io.BytesIO()
            figure.savefig(file, format=ending, dpi=DPI, metadata=_METADATA[ending])
            files[ending] = file.getvalue()
    lacking = [chr(int(found[1])) for one in caught if (found := _MISSING.match(str(one.message)))]
    for one in caught:
        if not _MISSING.match(str(one.message)):
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    return Drawn(files, "".join(dict.fromkeys(lacking)))
