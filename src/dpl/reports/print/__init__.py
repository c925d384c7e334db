"""Figures of a report for print: PDF, SVG and PNG by matplotlib. The same run gives the same bytes."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from dpl.reports.print import attention_heatmap, classes, cost, curves, gradcam_grid, layout, preference, reliability
from dpl.reports.style import Drawn, Format, files_of
from dpl.schemas.explanation import Explanation, read_explanation
from dpl.schemas.run_folder import RunFolder, read_run
from dpl.utils.errors import DplError
from dpl.utils.files import write_bytes

FORMATS: tuple[Format, ...] = ("pdf", "svg", "png")

Draw = Callable[[RunFolder, Explanation | None], Figure | None]
"""Draws the figure of a run and its explanation (None if it has none); returns None if there is nothing to draw."""

FIGURES: Mapping[str, Draw] = {
    "layout": layout.draw,
    "preference": preference.draw,
    "preference-epochs": preference.draw_epochs,
    "search": curves.draw_search,
    "training": curves.draw_training,
    "classes": classes.draw,
    "confusions": classes.draw_confusions,
    "reliability": reliability.draw,
    "cost": cost.draw,
    "attention": attention_heatmap.draw,
    "gradcam-grid": gradcam_grid.draw,
}
"""The figures by file name; each function draws its figure, or returns None if the run has no data for it."""


def run_figures(run: Path, formats: Sequence[Format] = FORMATS) -> dict[str, Drawn | None]:
    """Draws all `FIGURES` of a run.

    Args:
        run: the run folder.
        formats: the formats of the files.

    Returns:
        The figures by name; None for a figure without data.

    Raises:
        DplError: a file of the run is missing or broken.
    """
    found, explanation = read_run(run), read_explanation(run)
    return {name: files_of(partial(draw, found, explanation), formats) for name, draw in FIGURES.items()}


def check_folder(folder: Path) -> None:
    """Checks that a folder for figures can be made.

    Args:
        folder: the folder; it need not exist.

    Raises:
        DplError: `folder` exists and is not a folder.
    """
    if folder.exists() and not folder.is_dir():
        raise DplError(f"{folder}: is a file; give another folder to --figures")


def write_figures(folder: Path, figures: Mapping[str, Drawn | None]) -> list[str]:
    """Writes NAME.ENDING for each figure and format. Keeps other files of the folder.

    Args:
        folder: the folder; created if missing.
        figures: the figures by name; None for a figure without data.

    Returns:
        Remarks for the user, a line each.

    Raises:
        DplError: the folder cannot be created, or a file cannot be written.
    """
    check_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DplError(f"{folder}: cannot be made ({error.strerror}); give another folder to --figures") from None
    notes = []
    for name, one in figures.items():
        for ending, data in one.files.items() if one else ():
            write_bytes(folder / f"{name}.{ending}", data)
    if absent := [name for name, one in figures.items() if one is None]:
        notes.append(f"no data in the run for: {', '.join(absent)}")
    if lacking := "".join(dict.fromkeys("".join(one.lacking for one in figures.values() if one))):
        notes.append(f"the font of PDF and PNG lacks some characters, drawn as boxes: {lacking[:40]}")
    return notes
