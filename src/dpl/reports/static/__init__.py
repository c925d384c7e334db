"""Every plot of a report as a figure for print: PDF, SVG and PNG by matplotlib, the same bytes for the same run."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from dpl.errors import DplError
from dpl.explain.stored import Explanation, read_explanation
from dpl.files import write_bytes
from dpl.reports.run_folder import RunFolder, read_run
from dpl.reports.static import attention, classes, cost, curves, layout, looking, preference, reliability
from dpl.reports.style import Drawn, Format, files_of

FORMATS: tuple[Format, ...] = ("pdf", "svg", "png")

Draw = Callable[[RunFolder, Explanation | None], Figure | None]

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
    "attention": attention.draw,
    "looking": looking.draw,
}
"""By file name. Each draws its figure, or gives None where the run has nothing for it."""


def run_figures(run: Path, formats: Sequence[Format] = FORMATS) -> dict[str, Drawn | None]:
    """All `FIGURES` of the run folder `run`; None where it has nothing for one. `DplError` where a file of it is broken."""
    told, explanation = read_run(run), read_explanation(run)
    return {name: files_of(partial(draw, told, explanation), formats) for name, draw in FIGURES.items()}


def check_folder(folder: Path) -> None:
    """`DplError` where `folder` is something else than a folder."""
    if folder.exists() and not folder.is_dir():
        raise DplError(f"{folder}: is a file; give another folder to --figures")


def write_figures(folder: Path, figures: Mapping[str, Drawn | None]) -> list[str]:
    """Writes NAME.ENDING of each into `folder`, which is made; what else is there stays. Remarks for the person, a line each.

    Raises `DplError` where that cannot be done.
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
