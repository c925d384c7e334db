"""Output of a reproduction on the terminal."""

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dpl.experiments.reproduce.table import Reproduction
from dpl.experiments.reproduce.text import PUBLISHED, explanation, lines_of, published


def print_reproduction(found: Reproduction, out: Path) -> None:
    """Prints the tables, an explanation of their numbers, the published figures, and the paths of the files."""
    console = Console(width=None if sys.stdout.isatty() else 200)
    for panel in found.panels:
        console.print(Text(f"{found.title}, {panel.title}", style="italic"))
        table = Table(box=None, pad_edge=False)
        for name in ("data", *panel.columns):
            table.add_column(Text(name), justify="left" if name == "data" else "right", overflow="fold")
        for name, *cells in lines_of(found, panel):
            table.add_row(Text(name), *map(Text, cells), style="dim" if name == PUBLISHED else "")
        console.print(table, "")
    for sentence in explanation(found):
        console.print(Text(sentence))
    console.print("\nPublished, not measured here:")
    for sentence in published(found):
        console.print(Text(f"  {sentence}"))
    console.print(Text(f"\n{out / 'reproduce.md'}, with .json and .csv beside it"), soft_wrap=True)
