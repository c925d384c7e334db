"""Annotation files as they come: text lists, JSON, and MATLAB's .mat."""

import json
import re
from pathlib import Path
from typing import Any

from dpl.data.label_text import read_text, unique_keys
from dpl.data.paths import shown
from dpl.errors import DplError

GIVE = "the data set's own file"


def lines(path: Path) -> list[tuple[str, str]]:
    """The lines that are not empty, stripped, each with where it is: ("trainval.txt, line 3", "..."); `DplError` if none."""
    numbered = enumerate(re.split(r"\r\n|\r|\n", read_text(path, GIVE)), 1)
    found = [(f"{shown(path)}, line {number}", line.strip()) for number, line in numbered]
    found = [(at, line) for at, line in found if line]
    if not found:
        raise DplError(f"{shown(path)}: is empty; get the file anew")
    return found


def words(line: str, at: str, least: int, form: str) -> list[str]:
    """The words of a line, `least` or more; `form` says what it should be."""
    parts = line.split()
    if len(parts) < least:
        raise DplError(f"{at}: {shown(line)!r} is not {form}; get the file anew")
    return parts


def number(value: object, at: str) -> int:
    """A whole number, written or as MATLAB has it; `DplError` where it is none."""
    try:
        whole = int(value)  # pyright: ignore[reportArgumentType], what is no number is refused
        if isinstance(value, bool) or whole != float(value):  # pyright: ignore[reportArgumentType]
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise DplError(f"{at}: {shown(repr(value))} is no whole number; get the file anew") from None
    return whole


def json_of(path: Path) -> Any:
    """The JSON in `path`; `DplError` names the file where it is missing or broken."""
    try:
        return json.loads(read_text(path, GIVE), object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise DplError(f"{shown(path)}: is not JSON ({shown(str(error))}); get the file anew") from None


def mat(path: Path, name: str) -> list[Any]:
    """The values of the variable `name` of a .mat file, structs as dictionaries. `DplError` where there is none."""
    from scipy.io import loadmat  # takes a while to import

    if not path.is_file():
        raise DplError(f"{shown(path)}: is missing; put the file there")
    try:
        found = loadmat(path, simplify_cells=True, variable_names=[name])
    except Exception as error:  # broken bytes make it raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DplError(f"{shown(path)}: is no .mat file that can be read ({shown(reason)}); get the file anew") from None
    if name not in found:
        raise DplError(f"{shown(path)}: has no {name}; get the file anew")
    values = found[name]
    values = values.tolist() if hasattr(values, "tolist") else values
    return values if isinstance(values, list) else [values]
