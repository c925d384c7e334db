"""Reads the rows of a table of labels as text, from CSV, TSV, JSON, JSON lines or Parquet."""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from dpl.data.paths import listed, shown
from dpl.data.text_files import read_text, unique_keys
from dpl.utils.errors import DplError

COLUMNS = {
    "path": ("path", "image", "file", "file_name", "filename"),
    "label": ("label", "class", "class_name", "category"),
    "split": ("split",),
}
NEEDED = "a table needs a column path (or image, file, file_name) and a column label (or class, class_name, category)"
MARKS = {",": "comma", ";": "semicolon", "\t": "tab"}
EXTRA = "install it with: pip install 'differentiable-prompt-learning[hub]'"


@dataclass(frozen=True)
class Row:
    """One row: its place in the table ("line 7") and its cells as text."""

    place: str
    path: str
    label: str
    split: str | None
    """None if the table has no such column."""


def read_rows(path: Path) -> list[Row]:
    """Reads all rows of a table.

    Args:
        path: table with an ending of `READERS`.

    Returns:
        The rows in their order; only the path keeps surrounding spaces.

    Raises:
        DplError: the file is not a valid table, or a cell is empty; the message names the row.
    """
    return [_row(path, place, cells) for place, cells in READERS[path.suffix.lower()](path)]


Cells = dict[str, Any]  # "path", "label" and maybe "split", of any type


def _row(path: Path, place: str, cells: Cells) -> Row:
    def text(name: str) -> str:
        value = cells[name]
        if isinstance(value, float):  # whole numbers in a column with gaps are stored as floats
            value = "" if math.isnan(value) else str(int(value)) if value.is_integer() else str(value)
        if isinstance(value, bool) or not isinstance(value, str | int | None):
            raise DplError(f"{shown(path)}: {place}: the {name} is no text but {shown(str(value))[:80]}; write it as text")
        value = "" if value is None else str(value)
        if not value.strip() or name != "path" and value.strip().casefold() in ("nan", "<na>"):
            raise DplError(f"{shown(path)}: {place}: the {name} is empty; fill it in or remove the row")
        return value if name == "path" else value.strip()

    return Row(place, text("path"), text("label"), text("split") if "split" in cells else None)


def columns_of(path: Path, names: Sequence[str]) -> dict[str, int]:
    """Finds the columns "path", "label" and, if present, "split" in a header, also by their other names in `COLUMNS`.

    Args:
        path: the table, for messages.
        names: header cells.

    Returns:
        Index of each column in the header, from 0.

    Raises:
        DplError: "path" or "label" is missing, or a column is there twice.
    """
    plain = [name.strip().casefold() for name in names]
    found: dict[str, int] = {}
    for column, aliases in COLUMNS.items():
        places = [place for place, name in enumerate(plain) if name in aliases]
        if len(places) > 1:
            twice = listed(shown(names[place].strip()) for place in places)
            raise DplError(f"{shown(path)}: has {len(places)} columns for the {column}: {twice}; keep one")
        if places:
            found[column] = places[0]
        elif column != "split":
            has = listed((shown(name.strip())[:40] for name in names), most=8) or "nothing"
            raise DplError(f"{shown(path)}: has no column for the {column}, but {has}; {NEEDED}")
    return found


def _delimited(path: Path) -> Iterator[tuple[str, Cells]]:
    text = read_text(path, "a table")
    header = re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]
    delimiter = _delimiter(path, header)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=delimiter != "\t", strict=True)
    names: list[str] | None = None
    columns: dict[str, int] = {}
    line = 1
    try:
        for cells in reader:
            place, line = f"line {line}", reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if names is None:
                names, columns = cells, columns_of(path, cells)
                continue
            if len(cells) != len(names):
                problem = f"has {len(cells)} cell{'s' * (len(cells) != 1)}, but the header {len(names)}"
                raise DplError(f"{shown(path)}: {place}: {problem}; put a cell with a {MARKS[delimiter]} in quotation marks")
            yield place, {column: cells[index] for column, index in columns.items()}
    except csv.Error as error:
        raise DplError(f"{shown(path)}: line {line}: {error}; correct the quotation marks") from None
    if names is None:
        raise DplError(f"{shown(path)}: is empty; {NEEDED}")


def _delimiter(path: Path, header: str) -> str:
    """Returns the delimiter that gives the header a path and a label column, else the most frequent one."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    for delimiter in MARKS:
        plain = [name.strip(' "').casefold() for name in header.split(delimiter)]
        if all(any(name in COLUMNS[column] for name in plain) for column in ("path", "label")):
            return delimiter
    return max(MARKS, key=header.count)


def _json(path: Path) -> Iterator[tuple[str, Cells]]:
    text = read_text(path, "a table")
    if not text.lstrip().startswith("["):
        yield from _json_lines(path, text)
        return
    for number, value in enumerate(_parsed(path, text, "", list), start=1):
        yield f"row {number}", _cells(path, f"row {number}", value)


def _json_lines(path: Path, text: str) -> Iterator[tuple[str, Cells]]:
    if not text.strip():
        raise DplError(f"{shown(path)}: is empty; {NEEDED}")
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        if line.strip():
            yield f"line {number}", _cells(path, f"line {number}", _parsed(path, line, f"line {number}: ", dict))


def _parsed(path: Path, text: str, place: str, kind: type) -> Any:
    try:
        value = json.loads(text, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise DplError(
            f"{shown(path)}: {place}is not JSON ({shown(str(error))}); give a list of objects, or one a line"
        ) from None
    if not isinstance(value, kind):
        raise DplError(
            f"{shown(path)}: {place}is no {'list' if kind is list else 'object'}; give a list of objects, or one a line"
        )
    return value


def _cells(path: Path, place: str, value: Any) -> Cells:
    if not isinstance(value, dict):
        raise DplError(f"{shown(path)}: {place}: is no object; {NEEDED}")
    names = list(value)
    try:
        columns = columns_of(path, names)
    except DplError as error:
        raise DplError(str(error).replace(f"{shown(path)}: ", f"{shown(path)}: {place}: ", 1)) from None
    return {column: value[names[index]] for column, index in columns.items()}


def _parquet(path: Path) -> Iterator[tuple[str, Cells]]:
    file = open_parquet(path)
    names = list(file.schema_arrow.names)
    columns = columns_of(path, names)
    try:
        table = file.read([names[index] for index in columns.values()])
        values = {column: table.column(names[index]).to_pylist() for column, index in columns.items()}
    except Exception as error:  # for a broken file, pyarrow raises many types
        _broken(path, error)
    for index in range(table.num_rows):
        yield f"row {index + 1}", {column: cells[index] for column, cells in values.items()}


def open_parquet(path: Path) -> Any:
    """Opens a Parquet file.

    Args:
        path: the file.

    Returns:
        The `pyarrow.parquet.ParquetFile`.

    Raises:
        DplError: the file is not Parquet, or pyarrow is not installed.
    """
    try:
        from pyarrow import parquet  # late: an optional package
    except ImportError:
        raise DplError(f"{shown(path)}: Parquet needs the package pyarrow; {EXTRA}") from None
    try:
        return parquet.ParquetFile(path)
    except Exception as error:  # for a broken file, pyarrow raises many types
        _broken(path, error)


def _broken(path: Path, error: Exception) -> NoReturn:
    reason = shown(" ".join(str(error).split()))[:200]
    raise DplError(f"{shown(path)}: cannot be read as Parquet ({reason}); write it anew") from None


READERS: dict[str, Callable[[Path], Iterator[tuple[str, Cells]]]] = {
    ".csv": _delimited,
    ".tsv": _delimited,
    ".json": _json,
    ".jsonl": _json,
    ".ndjson": _json,
    ".parquet": _parquet,
}
