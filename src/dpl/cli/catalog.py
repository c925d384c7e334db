"""Terminal output of `dpl datasets`."""

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dpl.data.paths import shown
from dpl.data.sources.catalog import CATALOG, present
from dpl.data.sources.catalog.check import Checked
from dpl.data.sources.catalog.dataset import Dataset


def print_catalog(root: Path | None) -> None:
    """Prints all data sets with their published sizes.

    Args:
        root: the folder of the data sets; if given, the list shows whether each of them is present.
    """
    numbers = ("classes", "train", "val", "test")
    table = Table(box=None, pad_edge=False)
    for column in ("data set", *numbers, "what", "folder under --root", *(("there",) if root else ())):
        table.add_column(column, justify="right" if column in numbers else "left")
    for name, row in CATALOG.items():
        counts = row.counts
        sizes = ("-" if size is None else str(size) for size in (counts.classes, counts.train, counts.val, counts.test))
        there = (("yes" if present(row, root) else "no"),) if root else ()
        table.add_row(name, *sizes, row.title, f"{row.folder}/", *there)
    show(table)


def print_where(row: Dataset) -> None:
    """Prints the download steps of a data set and the layout of its folder."""
    print(f"{row.title}: dpl fit {row.name} --root ROOT\n" if row.trained_on is None else f"{row.title}\n")
    print("Download")
    for step in row.steps():
        print(f"  {step}")
    print("\nLay out, in the folder ROOT\n")
    print("\n".join(f"  {line}" for line in row.tree().splitlines()))
    if row.trained_on:
        print(f"\nTest images only: train on {row.trained_on}, then dpl evaluate RUN --on {row.name} --root ROOT.")
    print(f"\nThen: dpl datasets check {row.name} --root ROOT")


def print_check(checked: Checked) -> None:
    """Prints the counts beside the published ones, then notes and problems.

    Args:
        checked: the result of the check.
    """
    row = checked.row
    print(f"{row.title} in {shown(checked.folder)}\n")
    if checked.classes is not None:
        table = Table(box=None, pad_edge=False)
        for column in ("part", "images", "published", "missing", "classes", "smallest class", "largest class"):
            table.add_column(column, justify="left" if column == "part" else "right")
        for part in checked.parts:
            published = "-" if part.published is None else str(part.published)
            sizes = (part.missing, part.classes, part.smallest, part.largest)
            table.add_row(part.name, str(part.images), published, *map(str, sizes))
        show(table)
        how = "all" if checked.decoded == checked.images else "a sample; --all decodes every one"
        print(f"\nclasses: {checked.classes}, published {row.counts.classes}")
        print(f"decoded {checked.decoded} of {checked.images} images ({how})")
    for note in checked.notes:
        print(f"note: {note}")
    for problem in checked.problems:
        print(f"problem: {problem}")
    if not checked.problems:
        print("no problems")


def show(table: Table) -> None:
    """Prints the table; without a terminal, at a fixed width of 200 so that lines do not wrap for programs."""
    Console(width=None if sys.stdout.isatty() else 200).print(table)
