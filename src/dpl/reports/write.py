"""`dpl report`: writes the page of one or several runs, and figures for print.

Imports are late here, so that the page of one run does not wait for matplotlib.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dpl.utils.errors import DplError

if TYPE_CHECKING:
    from dpl.reports.style import Format


def report(
    runs: Sequence[Path],
    out: Path | None = None,
    figures: Path | None = None,
    formats: "Sequence[Format]" = ("pdf", "svg", "png"),
    say: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """Writes the page of one or several runs, and optionally their figures.

    Reads and draws everything before it writes the first file.

    Args:
        runs: the run folders, at least one.
        out: the page of several runs; None stands for compare.html. The page of one run is report.html in its folder.
        figures: the folder for the figures; None writes none.
        formats: the formats of the figures.
        say: receives remarks for the user.

    Returns:
        The page, and the folder of the figures if given.

    Raises:
        DplError: a run is broken, `out` is given for one run, or a file cannot be written.
    """
    if len(runs) == 1 and out is not None:
        raise DplError(f"--out {out}: is for the page of several runs; that of one is report.html in its folder")
    drawn = {}
    if figures is not None:
        from dpl.reports.print import check_folder, run_figures
        from dpl.reports.print.runs import runs_figures

        check_folder(figures)
        drawn = run_figures(runs[0], formats) if len(runs) == 1 else runs_figures(runs, formats)
    if len(runs) == 1:
        from dpl.reports.web.html import write_report

        written = [write_report(runs[0])]
    else:
        from dpl.reports.runs import write_side_by_side

        written = [write_side_by_side(runs, out)]
    if figures is not None:
        from dpl.reports.print import write_figures

        for note in write_figures(figures, drawn):
            say(f"{figures}: {note}")
        written.append(figures)
    return written
