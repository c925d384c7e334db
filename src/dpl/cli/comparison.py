"""Prints a comparison on the terminal: progress of the runs, and the tables at the end."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from dpl.cli.terminal import NAMES
from dpl.reports.comparison.table import Comparison
from dpl.reports.comparison.text import HEAD, cells, explanation
from dpl.utils.callbacks import StepCallback


@dataclass(frozen=True)
class Watch:
    """Callbacks for progress.

    `begin` takes a starting run and the number of runs before it, `on_step` (None without bars) takes the steps of the run,
    and `say` takes a line for the user.
    """

    begin: Callable[[object, int], None]
    on_step: StepCallback | None
    say: Callable[[str], None]


@contextmanager
def comparison_progress(runs: int) -> Iterator[Watch]:
    """Shows progress on stderr: lines, and on a terminal two bars below them for the runs and the steps of the current run.

    Args:
        runs: number of runs.

    Yields:
        The callbacks.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Watch(lambda run, number: None, None, lambda text: print(text, file=sys.stderr, flush=True))
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        whole, current = progress.add_task("runs", total=runs), progress.add_task("", total=None)
        name = ""

        def begin(run: object, number: int) -> None:
            nonlocal name
            name = str(run)
            progress.update(whole, completed=number)
            progress.update(current, description=name, completed=0, total=None)

        def on_step(stage: str, done: int, total: int, losses: object) -> None:
            progress.update(current, description=f"{name}: {NAMES[stage]}", completed=done, total=total)

        yield Watch(begin, on_step, lambda text: console.print(Text(text)))


def print_comparison(comparison: Comparison, out: Path) -> None:
    """Prints the tables, the explanation of their numbers, and the names of the files in `out`."""
    console = Console(width=None if sys.stdout.isatty() else 200)
    for shots, rows in comparison.tables.items():
        of = f"{shots} shot{'s' * (shots > 1)}"
        table = Table(title=Text(f"{comparison.task}, {of}"), title_justify="left", box=None, pad_edge=False)
        for name in HEAD:
            table.add_column(name, justify="left" if name == "method" else "right", overflow="fold")
        for row in rows:
            label, *numbers = cells(row)
            table.add_row(Text(label), *numbers)
        console.print(table, "")
    for sentence in explanation(comparison):
        console.print(Text(sentence))
    console.print(Text(f"\n{out / 'compare.md'}, with .json, .csv, .tex, .svg and .png beside it"), soft_wrap=True)
