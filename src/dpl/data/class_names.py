"""Class names: from folders and tables, or renamed by `--names FILE`."""

import csv
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from dpl.data.paths import listed, shown
from dpl.data.task import Task
from dpl.data.text_files import read_text, unique_keys
from dpl.utils.errors import DplError

FORM = "give a line per class such as n01440764: tench"
_CODE = re.compile(r"n\d{8}|\d+")  # a WordNet id, or a number


def spaced(name: str) -> str:
    """Returns a class name with spaces instead of underscores, on one line."""
    return " ".join(name.replace("_", " ").split())


def class_name(text: str) -> str:
    """Converts the text of a folder or table to a class name.

    Args:
        text: name as written.

    Returns:
        The name with spaces instead of underscores, on one line, with composed accents; empty if nothing is left.

    Example:

        >>> class_name("  Red_fox ")
        'Red fox'
    """
    # NFC, because macOS stores accents as separate characters; `shown`, because the tokenizer needs valid text.
    return spaced(shown(unicodedata.normalize("NFC", text)))


def advised(task: Task) -> Task:
    """Adds a note if all class names are numbers or WordNet ids, because a text encoder has not learned their meaning.

    Args:
        task: the task.

    Returns:
        `task` itself, or a copy with the note.
    """
    if not all(_CODE.fullmatch(name) for name in task.class_names):
        return task
    advice = f"classes are called {listed(task.class_names, most=2)}: names that mean something help a lot; --names FILE, {FORM}"
    return replace(task, notes=(*task.notes, advice))


def renamed(task: Task, path: Path) -> Task:
    """Renames classes of `task` by the file `path`; labels and their order stay the same.

    The file has a line "old: new" (or "old,new", or with a tab) per class, and comment lines that start with #; or it is a JSON
    object. Keys match class names regardless of case and underscores.

    Args:
        task: the task.
        path: file of class names.

    Returns:
        A copy with the new names, and with notes on unknown keys and on classes that keep their names.

    Raises:
        DplError: the file cannot be read, has an incomplete or duplicate entry, matches no class, or gives two classes the same
            name.
    """
    given: dict[str, tuple[str, str, str]] = {}  # the key for comparisons -> key, name, place
    for place, key, name in _entries(path):
        plain, name = class_name(key).casefold(), class_name(name)
        if not plain or not name:
            raise DplError(f"{shown(path)}: {place}: the {'name' if plain else 'class'} is missing; {FORM}")
        if plain in given:
            raise DplError(f"{shown(path)}: {place}: {shown(key)} is in {given[plain][2]} already; keep one")
        given[plain] = shown(key), name, place
    classes = {name.casefold(): name for name in task.class_names}
    unknown = [key for plain, (key, *_) in given.items() if plain not in classes]
    kept = [name for plain, name in classes.items() if plain not in given]
    if len(kept) == len(classes):
        some = f"names no class of {task.name}: has {listed(unknown, most=3)}; the classes are {listed(kept, most=3)}"
        raise DplError(f"{shown(path)}: {some if given else f'is empty; {FORM}'}")
    names = [given[name.casefold()][1] if name.casefold() in given else name for name in task.class_names]
    seen: dict[str, str] = {}
    for old, new in zip(task.class_names, names, strict=True):
        if (other := seen.setdefault(new.casefold(), old)) is not old:
            raise DplError(f"{shown(path)}: {shown(other)} and {shown(old)} would both be called {new!r}; give them two names")
    notes = [f"{shown(path.name)} names {len(unknown)} that are no classes: {listed(unknown)}"] if unknown else []
    notes += [f"{shown(path.name)} gives {len(kept)} classes no name, so they keep theirs: {listed(kept)}"] if kept else []
    return replace(task, class_names=tuple(names), notes=(*task.notes, *notes))


def _entries(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yields (place in the file, key, name) of every entry."""
    text = read_text(path, "a file of class names")
    if path.suffix.lower() == ".json" or text.lstrip().startswith("{"):
        for key, name in _object(path, text).items():
            if not isinstance(name, str):
                raise DplError(f"{shown(path)}: the name of {shown(key)} is no text; {FORM}")
            yield f"entry {shown(key)!r}", key, name
        return
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key, name = _pair(line)
        if name is None:
            raise DplError(f"{shown(path)}: line {number}: {shown(line.strip())[:80]!r} has no name; {FORM}")
        yield f"line {number}", key, name


def _pair(line: str) -> tuple[str, str | None]:
    """Splits a line into key and name at the first colon, comma or tab; the key may be in double quotation marks."""
    if line.lstrip().startswith('"'):
        cells = next(csv.reader([line.strip()], skipinitialspace=True))
        return (cells[0], ", ".join(cells[1:])) if len(cells) > 1 else (line, None)
    found = re.search(r"[:,\t]", line)
    if not found:
        return line, None
    return line[: found.start()], line[found.end() :].strip().removeprefix('"').removesuffix('"')


def _object(path: Path, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise DplError(f"{shown(path)}: is no JSON object of names ({shown(str(error))}); {FORM}") from None
    if not isinstance(value, dict):
        raise DplError(f"{shown(path)}: is no JSON object of names; {FORM}")
    return value
