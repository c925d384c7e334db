"""Text that a page can hold, of whatever files and people call things."""

import re
from typing import Any

# What neither XML nor a UTF-8 file can hold: control characters and lone surrogates (undecodable folder names).
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def printable(value: Any) -> Any:
    """`value` (from JSON) with U+FFFD for every character that a page cannot hold."""
    if isinstance(value, str):
        return _UNPRINTABLE.sub("\ufffd", value)
    if isinstance(value, list):
        return [printable(item) for item in value]
    if isinstance(value, dict):
        return {printable(key): printable(item) for key, item in value.items()}
    return value
