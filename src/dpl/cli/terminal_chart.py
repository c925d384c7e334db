"""Draws a run's layout and the preferences of its search as blocks of characters on a terminal.

Each column is a layer, and the height of a block shows a value. Blocks that the layout keeps are wide and have the branch's
colour; the others are narrow and grey. Numbers stand under the blocks. All colours have a contrast above 4:1 on both black
and white.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import wrap

from rich.console import Console
from rich.text import Text

from dpl.reports.web.alphas import softmax
from dpl.schemas.run import AlphaEpoch, SaliencyEpoch
from dpl.schemas.run_folder import BRANCHES, RunFolder

HUES = {"image": "#2f7dc0", "text": "#bf6216"}  # between the colours of report.css for the light and the dark page
GREY = "#777777"
BARS, ASCII_BARS = " ▁▂▃▄▅▆▇█", " .:-=+*#@"
MOST_ROWS, MOST_COLUMNS = 7, 80
LABELS = 6  # terminal columns for the row names


@dataclass(frozen=True)
class Panel:
    """Blocks of one branch, or of some of its layers: one column per layer, the first of which is layer `first`."""

    branch: str
    heights: list[list[float]]
    """Rows from top to bottom, 0-1."""
    kept: list[list[bool]]
    """Whether the layout keeps the option or prompt of each block."""
    numbers: Sequence[Sequence[int]]
    """Lines of numbers under the blocks."""
    first: int = 1

    @property
    def layers(self) -> int:
        """Number of layers, one per column."""
        return len(self.numbers[0])

    def part(self, start: int, stop: int) -> "Panel":
        """Returns some of the columns.

        Args:
            start: the first column, from 0.
            stop: the column behind the last one.
        """
        heights, kept = [row[start:stop] for row in self.heights], [row[start:stop] for row in self.kept]
        numbers = [row[start:stop] for row in self.numbers]
        return Panel(self.branch, heights, kept, numbers, self.first + start)


@dataclass(frozen=True)
class Picture:
    """Panels of both branches. `axis` heads the row names in `rows`; `numbers` are the names of the lines of numbers."""

    axis: str
    rows: list[str]
    numbers: list[str]
    caption: str
    panels: list[Panel]


def print_blocks(run: RunFolder, console: Console) -> None:
    """Prints the preferences of the search after its last epoch, in at most 80 columns.

    Prints only the layout if the run did not search, and nothing if such a layout has no prompt. The console decides which
    colours it shows.

    Args:
        run: the run.
        console: the terminal.
    """
    if not run.search and not run.layout.tokens:
        return
    bars = ASCII_BARS if console.options.ascii_only else BARS
    width = min(console.width, MOST_COLUMNS) if console.is_terminal else MOST_COLUMNS
    for line in drawn(picture(run), width, bars):
        console.print(line, soft_wrap=True, highlight=False)


@dataclass(frozen=True)
class _Search:
    """Blocks of one kind of search: `values` are (layers x names); a row that stands for several names shows their sum."""

    axis: str
    names: Sequence[int]
    values: dict[str, list[list[float]]]
    keeps: Callable[[int, int], bool]
    """Takes a name and a length; returns whether a layer of this length keeps the option or prompt of this name."""
    height: Callable[[float, float], float]
    """Takes a sum and the largest of all sums; returns the height, 0-1."""
    caption: str


def picture(run: RunFolder) -> Picture:
    """Returns the last epoch of the search, in at most seven rows, together with the layout; without a search the layout only."""
    if not run.search:
        return _given(run)
    last = run.search[-1]
    search = _alphas(run, last) if isinstance(last, AlphaEpoch) else _saliency(run, last)
    count = len(search.names)
    per_row = -(-count // MOST_ROWS)
    # Grouped from the top, so that the lowest row is the one with fewer names: with an odd number of lengths and two per row
    # it is length 0 alone.
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
    """Returns the layout only; the longest layer has height 1."""
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
    """Takes the square root of the saliency, which is a squared change of the loss, so that small changes stay visible."""
    return _Search(
        axis="rank",
        names=range(1, max(run.options) + 1),
        values={branch: [list(row) for row in last.saliency[branch]] for branch in BRANCHES},
        keeps=lambda rank, length: rank <= length,
        height=lambda part, largest: math.sqrt(part / largest) if largest else 0.0,
        caption="Height: root of the saliency, prompts by rank. %: of all saliency, in kept ones.",
    )


def drawn(found: Picture, width: int, bars: str = BARS) -> list[Text]:
    """Renders the picture as lines of at most `width` terminal columns.

    Panels stand side by side if they fit, otherwise below each other; a panel wider than a line is split.

    Args:
        found: the picture.
        width: terminal columns of a line.
        bars: characters of increasing height, the first one blank.
    """
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
    """Renders panels side by side: titles, rows of blocks, lines of numbers."""
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
    """Returns the shortest bar that is at least as high as `height` (0-1); blank for 0."""
    most = len(bars) - 1
    return bars[min(math.ceil(height * most - 1e-9), most)]
