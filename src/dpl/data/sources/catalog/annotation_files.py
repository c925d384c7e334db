"""Reads annotation files: text lists, JSON, and MATLAB's .mat."""

import json
import re
from pathlib import Path
from typing import Any

from dpl.data.paths import shown
from dpl.data.text_files import read_text, unique_keys
from dpl.utils.errors import DplError

GIVE = "the data set's own file"


def lines(path: Path) -> list[tuple[str, str]]:
    """Reads the non-empty lines of a text file.

    Args:
        path: the file.

    Returns:
        (place, stripped line) pairs, such as ("trainval.txt, line 3", "...").

    Raises:
        DplError: the file cannot be read, or has no such lines.
    """
    numbered = enumerate(re.split(r"\r\n|\r|\n", read_text(path, GIVE)), 1)
    found = [(f"{shown(path)}, line {number}", line.strip()) for number, line in numbered]
    found = [(at, line) for at, line in found if line]
    if not found:
        raise DplError(f"{shown(path)}: is empty; get the file anew")
    return found


def words(line: str, at: str, least: int, form: str) -> list[str]:
    """Splits a line into words.

    Args:
        line: the line.
        at: place of the line, for the message.
        least: minimum number of words.
        form: expected content, for the message.

    Returns:
        The words.

    Raises:
        DplError: there are fewer than `least` words.
    """
    parts = line.split()
    if len(parts) < least:
        raise DplError(f"{at}: {shown(line)!r} is not {form}; get the file anew")
    return parts


def number(value: object, at: str) -> int:
    """Converts text or a number of a .mat file to an integer.

    Args:
        value: text or number.
        at: place of the value, for the message.

    Returns:
        The integer.

    Raises:
        DplError: the value is not a whole number.
    """
    try:
        whole = int(value)  # pyright: ignore[reportArgumentType], other types raise TypeError
        if isinstance(value, bool) or whole != float(value):  # pyright: ignore[reportArgumentType]
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise DplError(f"{at}: {shown(repr(value))} is no whole number; get the file anew") from None
    return whole


def json_of(path: Path) -> Any:
    """Parses a JSON file.

    Args:
        path: the file.

    Returns:
        The parsed value.

    Raises:
        DplError: the file is missing, is not JSON, or has a duplicate key.
    """
    try:
        return json.loads(read_text(path, GIVE), object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise DplError(f"{shown(path)}: is not JSON ({shown(str(error))}); get the file anew") from None


def mat(path: Path, name: str) -> list[Any]:
    """Reads a variable of a .mat file.

    Args:
        path: the file.
        name: name of the variable.

    Returns:
        The values, with structs as dictionaries; a single value as a list of one.

    Raises:
        DplError: the file is missing or cannot be read, or does not have the variable.
    """
    from scipy.io import loadmat  # late: it takes a while to import

    if not path.is_file():
        raise DplError(f"{shown(path)}: is missing; put the file there")
    try:
        found = loadmat(path, simplify_cells=True, variable_names=[name])
    except Exception as error:  # for broken bytes, SciPy raises many types
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DplError(f"{shown(path)}: is no .mat file that can be read ({shown(reason)}); get the file anew") from None
    if name not in found:
        raise DplError(f"{shown(path)}: has no {name}; get the file anew")
    values = found[name]
    values = values.tolist() if hasattr(values, "tolist") else values
    return values if isinstance(values, list) else [values]
