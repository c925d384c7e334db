"""The settings of a method as keyword arguments: `--train.lr` is `train__lr`, `--class-specific` is `class_specific`."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from difflib import get_close_matches
from typing import Any, TypeVar

import numpy as np

from dpl.config import RunConfig
from dpl.utils.errors import DplError

Config = TypeVar("Config", bound=RunConfig)
_COMMON = frozenset(entry.name for entry in fields(RunConfig))


def option_values(config: RunConfig) -> dict[str, Any]:
    """Returns the settings of `config` that belong to its method, by keyword.

    Settings that all runs have, such as `shots` and `backbone`, are not among them.
    """
    return {name: _at(config, path) for name, path in _paths(config).items()}


def with_options(config: Config, options: Mapping[str, Any]) -> Config:
    """Changes settings by keyword. Values are not checked; `dpl.config.checked` does that.

    Args:
        config: the settings of a run.
        options: values by keyword.

    Returns:
        The settings with these values.

    Raises:
        DplError: the method has no such setting; the message names those that it has.
    """
    paths = _paths(config)
    for name, value in options.items():
        if name not in paths:
            raise DplError(_unknown(config, name))
        config = _replaced(config, paths[name], plain(value))
    return config


def plain(value: Any) -> Any:
    """Returns the number of Python for one of numpy, as in the grids of scikit-learn; other values as they are."""
    return value.item() if isinstance(value, np.generic) else value


def _unknown(config: RunConfig, name: str) -> str:
    """Returns the error message for a keyword that the method does not have."""
    names = list(_paths(config))
    if not names:
        return f"{name}: the method {config.method} has no settings"
    near = [known for known in names if known.endswith(f"__{name}")] or get_close_matches(name, names, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"{name}: no setting of the method {config.method}{hint}; there are {', '.join(names)}"


def _paths(config: RunConfig) -> dict[str, tuple[str, ...]]:
    """Returns the path of field names of every setting. Those of a method's design have no prefix, as in the command."""
    paths: dict[str, tuple[str, ...]] = {}
    for entry in fields(config):
        value = getattr(config, entry.name)
        if entry.name in _COMMON:
            continue
        if is_dataclass(value):
            prefix = "" if entry.name == "design" else f"{entry.name}__"
            paths |= {f"{prefix}{inner.name}": (entry.name, inner.name) for inner in fields(value)}
        else:
            paths[entry.name] = (entry.name,)
    return paths


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        value = getattr(value, name)
    return value


def _replaced(config: Any, path: tuple[str, ...], value: Any) -> Any:
    first, *rest = path
    return replace(config, **{first: _replaced(getattr(config, first), tuple(rest), value) if rest else value})
