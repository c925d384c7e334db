"""Replacement of characters that an HTML page or a UTF-8 file cannot contain."""

import re
from typing import Any

# Characters that XML or UTF-8 cannot represent: control characters, and lone surrogates (of undecodable folder names).
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def printable(value: Any) -> Any:
    """Replaces every character that a page cannot contain by U+FFFD.

    Args:
        value: a JSON value; the strings in lists and dicts are replaced too.

    Returns:
        The value with the replacements.
    """
    if isinstance(value, str):
        return _UNPRINTABLE.sub("\ufffd", value)
    if isinstance(value, list):
        return [printable(item) for item in value]
    if isinstance(value, dict):
        return {printable(key): printable(item) for key, item in value.items()}
    return value
