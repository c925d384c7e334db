"""Text files that people write: labels, class names, templates. UTF-8 with or without a byte order mark."""

import codecs
from pathlib import Path
from typing import Any

from dpl.data.paths import shown
from dpl.errors import DplError

_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: Path, kind: str) -> str:
    """The text of the file `path`, its line ends as they are, without a byte order mark.

    Raises `DplError` where there is no such file or it is not UTF-8; `kind` says what was expected, as "a file of ...".
    """
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            raise DplError(f"{shown(path)}: {'is not a file' if path.exists() else 'no such file'}; give {kind}")
        data = path.read_bytes()
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
    """A JSON object's entries; `ValueError` where a key is there twice, as JSON itself would keep the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)!r} is there twice")
    return found
