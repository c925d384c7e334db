"""`dpl report A B C`: compares several runs on one page, with statistics over all of them."""

import os
from collections.abc import Sequence
from pathlib import Path

from dpl.reports.runs.maps import shared_maps
from dpl.reports.runs.page import MARK, render
from dpl.reports.runs.runs_table import read_runs
from dpl.utils.errors import DplError
from dpl.utils.files import write_text

_NAME = "compare.html"
_HEAD = 4000  # number of characters at the start of a page among which `MARK` is searched


def write_side_by_side(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Writes the page of several runs, atomically.

    Args:
        folders: at least two run folders.
        out: the file; by default that of `default_page`.

    Returns:
        The path of the page.

    Raises:
        DplError: a run is broken or given twice, the folder of the page does not exist, or the file exists and is not such a
            page.
    """
    path = default_page(folders) if out is None else out
    check_page(path)
    runs = read_runs(folders)
    write_text(path, render(runs, shared_maps(runs)))
    return path


def default_page(folders: Sequence[Path]) -> Path:
    """Returns the default path of the page of several runs.

    Args:
        folders: the run folders.

    Returns:
        compare.html in their common parent, or in the current folder if they have different parents.
    """
    parents = {folder.resolve().parent for folder in folders}
    return Path(os.path.relpath(parents.pop())) / _NAME if len(parents) == 1 else Path(_NAME)


def check_page(path: Path) -> None:
    """Checks that a page of several runs can be written without loss of another file.

    Args:
        path: the page.

    Raises:
        DplError: the folder of `path` does not exist, or `path` exists and is not a page of several runs.
    """
    if not path.parent.is_dir():
        raise DplError(f"{path}: there is no folder {path.parent}; make it, or give another --out")
    if not path.exists():
        return
    try:
        with path.open(encoding="utf-8") as file:
            known = MARK in file.read(_HEAD)
    except (OSError, UnicodeDecodeError):
        known = False
    if not known:
        raise DplError(f"{path}: exists, and is not a page of runs side by side; give another --out")
