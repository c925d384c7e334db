"""`dpl report`: the page of a run, or of several, and figures for print. All is read and drawn before anything is written."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dpl.errors import DplError

if TYPE_CHECKING:
    from dpl.reports.style import Format


def report(
    runs: Sequence[Path],
    out: Path | None = None,
    figures: Path | None = None,
    formats: "Sequence[Format]" = ("pdf", "svg", "png"),
    say: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """Writes the page of `runs`, and with `figures` their figures into that folder; returns the page and that folder.

    A run's page is its report.html, that of several (one at least) goes to `out`. Remarks go to `say`. Raises `DplError`, one
    line, where a run is broken or a file cannot be written.
    """
    if len(runs) == 1 and out is not None:
        raise DplError(f"--out {out}: is for the page of several runs; that of one is report.html in its folder")
    drawn = {}
    if figures is not None:
        from dpl.reports.static import check_folder, run_figures
        from dpl.reports.static.runs import runs_figures

        check_folder(figures)
        drawn = run_figures(runs[0], formats) if len(runs) == 1 else runs_figures(runs, formats)
    if len(runs) == 1:
        from dpl.reports.html import write_report

        written = [write_report(runs[0])]
    else:
        from dpl.reports.side_by_side import write_side_by_side

        written = [write_side_by_side(runs, out)]
    if figures is not None:
        from dpl.reports.static import write_figures

        for note in write_figures(figures, drawn):
            say(f"{figures}: {note}")
        written.append(figures)
    return written
