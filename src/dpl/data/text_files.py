"""Reads text files written by users (labels, class names, templates): UTF-8 with or without a byte order mark."""

import codecs
from pathlib import Path
from typing import Any

from dpl.data.paths import shown
from dpl.utils.errors import DplError

_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: Path, kind: str) -> str:
    """Reads a UTF-8 file; line ends are kept, a byte order mark is removed.

    Args:
        path: the file.
        kind: expected file for the message, such as "a file of class names".

    Returns:
        The text.

    Raises:
        DplError: the file does not exist, cannot be read, or is not UTF-8.
    """
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            raise DplError(f"{shown(path)}: {'is not a file' if path.exists() else 'no such file'}; give {kind}")
        data = path.read_bytes()
    except DplError:
        raise
    except (OSError, ValueError) as error:
        raise DplError(f"cannot read {shown(path)}: {getattr(error, 'strerror', error)}; give {kind}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        is_wide = data.startswith(_WIDE)
        problem = "is UTF-16" if is_wide else f"line {line}: is not UTF-8"
        raise DplError(f"{shown(path)}: {problem}; save it as UTF-8") from None


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Builds a JSON object and rejects duplicate keys; use it as `object_pairs_hook` of `json.loads`.

    Without it, `json` keeps only the last value of a duplicate key.

    Args:
        pairs: entries of the object.

    Returns:
        The entries as a dictionary.

    Raises:
        ValueError: a key occurs more than once.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)!r} is there twice")
    return found
