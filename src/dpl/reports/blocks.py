"""A run's layout, and what its search preferred, as blocks of characters for a terminal.

The height of a block is its number, its column a layer. What the layout keeps is wide and has the colour of the branch, the
rest is narrow and grey; numbers stand under the blocks. The colours have a contrast above 4:1 on black as on white.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import wrap

from rich.console import Console
from rich.text import Text

from dpl.reports.alphas import softmax
from dpl.reports.run_folder import BRANCHES, RunFolder
from dpl.reports.schema import AlphaEpoch, SaliencyEpoch

HUES = {"image": "#2f7dc0", "text": "#bf6216"}  # of report.css, between its light and its dark page
GREY = "#777777"
BARS, ASCII_BARS = " ▁▂▃▄▅▆▇█", " .:-=+*#@"
MOST_ROWS, MOST_COLUMNS = 7, 80
LABELS = 6  # columns for the names of the rows


@dataclass(frozen=True)
class Panel:
    """The blocks of a branch, or of some of its layers; a column per layer, which count from `first`."""

    branch: str
    heights: list[list[float]]
    """Rows from top to bottom, 0-1."""
    kept: list[list[bool]]
    """Whether the layout keeps what a block stands for."""
    numbers: list[list[int]]
    """Lines of numbers under the blocks."""
    first: int = 1

    @property
    def layers(self) -> int:
        """How many columns there are."""
        return len(self.numbers[0])

    def part(self, start: int, stop: int) -> "Panel":
        """Its columns from `start` to before `stop`."""
        heights, kept = [row[start:stop] for row in self.heights], [row[start:stop] for row in self.kept]
        numbers = [row[start:stop] for row in self.numbers]
        return Panel(self.branch, heights, kept, numbers, self.first + start)


@dataclass(frozen=True)
class Picture:
    """The panels of both branches, what their rows are, the names of rows and of lines of numbers, and what is to be seen."""

    axis: str
    rows: list[str]
    numbers: list[str]
    caption: str
    panels: list[Panel]


def print_blocks(run: RunFolder, console: Console) -> None:
    """Prints what the search preferred at its end, in at most 80 columns; of a layout that was given the layout alone.

    What colours there are, and whether any, is the console's matter. Nothing is printed where there is no prompt.
    """
    if not run.search and not any(run.layout.image + run.layout.text):
        return
    bars = ASCII_BARS if console.options.ascii_only else BARS
    width = min(console.width, MOST_COLUMNS) if console.is_terminal else MOST_COLUMNS
    for line in drawn(picture(run), width, bars):
        console.print(line, soft_wrap=True, highlight=False)


@dataclass(frozen=True)
class _Search:
    """What the blocks of a kind of search are: `values` are (layers x names), those of names that share a row are summed."""

    axis: str
    names: Sequence[int]
    values: dict[str, list[list[float]]]
    keeps: Callable[[int, int], bool]
    """Of a name and a length: whether a layer of this length keeps what has the name."""
    height: Callable[[float, float], float]
    """Of a sum and of the largest of all: 0-1."""
    caption: str


def picture(run: RunFolder) -> Picture:
    """The last epoch of the search, with at most seven rows, and the layout."""
    if not run.search:
        return _given(run)
    last = run.search[-1]
    search = _alphas(run, last) if isinstance(last, AlphaEpoch) else _saliency(run, last)
    count = len(search.names)
    per_row = -(-count // MOST_ROWS)
    # From the top, so that it is the lowest row that has fewer: no token at all, of an odd number of lengths.
    groups = [range(max(stop - per_row, 0), stop) for stop in range(count, 0, -per_row)]
    names = [[search.names[place] for place in group] for group in groups]
    sums = {branch: [[sum(row[g.start : g.stop]) for row in search.values[branch]] for g in groups] for branch in BRANCHES}
    largest = max(max(row) for rows in sums.values() for row in rows)
    panels = []
    for branch in BRANCHES:
        lengths, layers = run.layout[branch], search.values[branch]
        heights = [[search.height(part, largest) for part in row] for row in sums[branch]]
        kept = [[any(search.keeps(name, length) for name in group) for length in lengths] for group in names]
        parts = [
            sum(value for value, name in zip(row, search.names, strict=True) if search.keeps(name, length))
            for row, length in zip(layers, lengths, strict=True)
        ]
        panels.append(Panel(branch, heights, kept, [lengths, [min(round(100 * part), 99) for part in parts]]))
    labels = [f"{group[0]}-{group[-1]}" if len(group) > 1 else str(group[0]) for group in names]
    return Picture(search.axis, labels, ["tokens", "%"], search.caption, panels)


def _given(run: RunFolder) -> Picture:
    """The layout alone; the longest layer is full."""
    longest = max(run.layout.image + run.layout.text)
    panels = []
    for branch in BRANCHES:
        lengths = run.layout[branch]
        panels.append(Panel(branch, [[length / longest for length in lengths]], [[True] * len(lengths)], [lengths]))
    return Picture("", [""], ["tokens"], "", panels)


def _alphas(run: RunFolder, last: AlphaEpoch) -> _Search:
    return _Search(
        axis="length",
        names=run.options,
        values={branch: [softmax(row) for row in last.alphas[branch]] for branch in BRANCHES},
        keeps=lambda option, length: option == length,
        height=lambda part, _largest: part,
        caption="Height: probability, softmax of alphas. %: that of the layout's, at most 99.",
    )


def _saliency(run: RunFolder, last: SaliencyEpoch) -> _Search:
    """Saliency is a squared change of the loss; its root, as high as the change, leaves small ones to be seen."""
    return _Search(
        axis="rank",
        names=range(1, max(run.options) + 1),
        values={branch: [list(row) for row in last.saliency[branch]] for branch in BRANCHES},
        keeps=lambda rank, length: rank <= length,
        height=lambda part, largest: math.sqrt(part / largest) if largest else 0.0,
        caption="Height: root of the saliency, prompts by rank. %: of all saliency, in kept ones.",
    )


def drawn(found: Picture, width: int, bars: str = BARS) -> list[Text]:
    """The picture in lines of at most `width` columns: panels stand side by side, or below each other, or are cut into parts."""
    column = 1 + max(2, *(len(str(number)) for panel in found.panels for line in panel.numbers for number in line))
    most = max(1, (width - LABELS) // column)
    panels = [panel.part(start, start + most) for panel in found.panels for start in range(0, panel.layers, most)]
    beside: list[list[Panel]] = []
    left = -1
    for panel in panels:
        needed = _width(panel, column)
        if needed > left:
            beside.append([])
            left = width - LABELS
        beside[-1].append(panel)
        left -= needed + 1
    lines = [line for group in beside for line in _lines(found, group, column, bars)]
    return lines + [Text(line, style=GREY) for line in wrap(found.caption, width)]


def _width(panel: Panel, column: int) -> int:
    return max(column * panel.layers, len(_title(panel)) + 1)


def _title(panel: Panel) -> str:
    last = panel.first + panel.layers - 1
    return f"{panel.branch} layout, {panel.first}-{last}" if panel.first > 1 else f"{panel.branch} layout"


def _lines(found: Picture, panels: list[Panel], column: int, bars: str) -> list[Text]:
    """Titles, rows of blocks, lines of numbers, of panels side by side."""
    lines = [Text(found.axis.rjust(LABELS), style=GREY)] + [Text(name.rjust(LABELS), style=GREY) for name in found.rows]
    numbers = [Text(name.rjust(LABELS), style=GREY) for name in found.numbers]
    for place, panel in enumerate(panels):
        gap, hue, own = " " * (place > 0), HUES[panel.branch], _width(panel, column)
        lines[0].append(gap + f" {_title(panel)}".ljust(own), style=f"bold {hue}")
        for line, heights, kept in zip(lines[1:], panel.heights, panel.kept, strict=True):
            line.append(gap)
            for height, is_kept in zip(heights, kept, strict=True):
                bar = _bar(height, bars)
                line.append(" " + (bar * (column - 1) if is_kept else bar.ljust(column - 1)), style=hue if is_kept else GREY)
            line.append(" " * (own - column * panel.layers))
        for line, row in zip(numbers, panel.numbers, strict=True):
            line.append((gap + "".join(f"{number:{column}}" for number in row)).ljust(own), style="default")
    for line in (*lines, *numbers):
        line.rstrip()
    return lines + numbers


def _bar(height: float, bars: str) -> str:
    """The shortest bar that is no shorter than `height`; blank for nothing."""
    most = len(bars) - 1
    return bars[min(math.ceil(height * most - 1e-9), most)]
