"""`dpl report A B C`: several runs on one page, with what they say together."""

import os
from collections.abc import Sequence
from pathlib import Path

from dpl.errors import DplError
from dpl.files import write_text
from dpl.reports.side_by_side.maps import looks
from dpl.reports.side_by_side.page import MARK, render
from dpl.reports.side_by_side.told import read_runs

_NAME = "compare.html"
_HEAD = 4000  # characters of a page that its mark stands in


def write_side_by_side(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Writes the page of at least two run folders, whole or not at all, and returns its path.

    That is `out`, by default compare.html in the folder that holds all runs, else in the current one. Raises `DplError`,
    one line, where a run is broken or there twice, or the file is there and not such a page.
    """
    path = default_page(folders) if out is None else out
    check_page(path)
    runs = read_runs(folders)
    write_text(path, render(runs, looks(runs)))
    return path


def default_page(folders: Sequence[Path]) -> Path:
    """compare.html in the folder that holds all of `folders`, else in the current one."""
    parents = {folder.resolve().parent for folder in folders}
    return Path(os.path.relpath(parents.pop())) / _NAME if len(parents) == 1 else Path(_NAME)


def check_page(path: Path) -> None:
    """`DplError` where `path` cannot become a page without harm: no folder to be in, or another file is there."""
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
        raise DplError(f"{path}: is there, and is no page of runs side by side; give another --out")
