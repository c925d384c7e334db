"""Nested settings as one table."""

from collections.abc import Mapping
from typing import Any


def flat(values: Mapping[str, Any], between: str = ".") -> dict[str, Any]:
    """The values by the names on the way to them, such as train.lr; a mapping without entries leaves nothing."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= {f"{name}{between}{key}": part for key, part in flat(value, between).items()}
        else:
            found[name] = value
    return found
