"""Nested settings as a flat mapping."""

from collections.abc import Mapping
from typing import Any


def flat(values: Mapping[str, Any], between: str = ".") -> dict[str, Any]:
    """Flattens nested mappings; an empty mapping adds no entry.

    Args:
        values: mappings of any depth.
        between: separates the names in the new keys.

    Returns:
        The values by their joined names, such as train.lr.

    Example:

        >>> flat({"seed": 1, "train": {"lr": 0.01}})
        {'seed': 1, 'train.lr': 0.01}
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= {f"{name}{between}{key}": part for key, part in flat(value, between).items()}
        else:
            found[name] = value
    return found
