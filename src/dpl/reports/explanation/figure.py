"""Draws the maps of `dpl explain` as one figure for print."""

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dpl.reports.explanation.grid import SIZE, Row, Sheet
from dpl.reports.overlay import overlay
from dpl.reports.style import Format, files_of
from dpl.reports.style import sheet as empty
from dpl.reports.web.accuracy import percent
from dpl.utils.text import printable

MOST_ROWS = 40
"""Largest number of images in a figure."""
_INCH, _CHARACTERS = 1.6, 24  # side of a cell; characters on a line of its caption


def figure(sheet: Sheet, kind: Format) -> bytes:
    """Draws the figure; the same sheet gives the same bytes.

    Args:
        sheet: the maps, of at most `MOST_ROWS` images.
        kind: the format, "png", "pdf" or "svg".

    Returns:
        The content of the file.
    """
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
    caption = row.name if row.truth is None else f"{row.name}\n{row.truth}"
    _put(axes[0], row.picture, caption)
    for cell, view in zip(axes[1:], row.views, strict=True):
        verdict = row.verdict(view)
        caption = f"{view.class_name}\n{percent(view.probability)}" + (f", {verdict}" if verdict else "")
        _put(cell, np.asarray(overlay(row.picture, view.heat, SIZE)), caption)


def _put(cell: Axes, picture: np.ndarray, caption: str) -> None:
    cell.imshow(picture, interpolation="bicubic" if len(picture) < SIZE else "auto")
    cell.set(xticks=[], yticks=[])
    cell.spines[:].set_visible(False)
    cell.set_xlabel("\n".join(map(_wrapped, caption.split("\n"))), fontsize=7)


def _wrapped(text: str) -> str:
    """Wraps text to at most two lines; keeps the end of a longer text."""
    lines = textwrap.wrap(printable(text), _CHARACTERS) or [""]
    return "\n".join(lines if len(lines) <= 2 else [f"…{lines[-2][1:]}", lines[-1]])
