"""Where models look, as one figure for print."""

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dpl.explain.overlay import overlay
from dpl.explain.sheet import SIZE, Row, Sheet
from dpl.printable import printable
from dpl.reports.accuracy import percent
from dpl.reports.style import Format, files_of
from dpl.reports.style import sheet as empty

MOST_ROWS = 40
"""Images that a figure holds."""
_INCH, _CHARACTERS = 1.6, 24  # a cell's side; what a line of its caption holds


def figure(sheet: Sheet, kind: Format) -> bytes:
    """The figure as "png", "pdf" or "svg"; the same sheet gives the same bytes."""
    drawn = files_of(lambda: _drawn(sheet), [kind])
    assert drawn is not None
    return drawn.files[kind]


def _drawn(sheet: Sheet) -> Figure:
    wide, high = 1 + len(sheet.columns), len(sheet.rows)
    whole = empty(_INCH * wide, (_INCH + 0.3) * high + 0.2)
    whole.set_layout_engine("compressed")
    cells = whole.subplots(high, wide, squeeze=False)
    for row, axes in zip(sheet.rows, cells, strict=True):
        _draw(row, list(axes))
    for cell, title in zip(cells[0], ("image", *(column.name for column in sheet.columns)), strict=True):
        cell.set_title(_wrapped(title), loc="center")
    return whole


def _draw(row: Row, axes: list[Axes]) -> None:
    said = row.name if row.truth is None else f"{row.name}\n{row.truth}"
    _put(axes[0], row.picture, said)
    for cell, view in zip(axes[1:], row.views, strict=True):
        verdict = row.verdict(view)
        said = f"{view.class_name}\n{percent(view.probability)}" + (f", {verdict}" if verdict else "")
        _put(cell, np.asarray(overlay(row.picture, view.heat, SIZE)), said)


def _put(cell: Axes, picture: np.ndarray, said: str) -> None:
    cell.imshow(picture, interpolation="bicubic" if len(picture) < SIZE else "auto")
    cell.set(xticks=[], yticks=[])
    cell.spines[:].set_visible(False)
    cell.set_xlabel("\n".join(map(_wrapped, said.split("\n"))), fontsize=7)


def _wrapped(text: str) -> str:
    """At most two lines, of a longer text its end."""
    lines = textwrap.wrap(printable(text), _CHARACTERS) or [""]
    return "\n".join(lines if len(lines) <= 2 else [f"…{lines[-2][1:]}", lines[-1]])
