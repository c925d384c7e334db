"""The Jinja environment of every page."""

from collections.abc import Callable
from functools import cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def environment(*folders: str, **filters: Callable[..., Any]) -> Environment:
    """Returns the environment of the templates in some folders of the package.

    Values are escaped, and an undefined name is an error. Compiled templates are kept for as long as the environment is.

    Args:
        folders: folders below `dpl`, such as "reports/web"; the first one that has a template provides it.
        filters: filters of the templates, by name.

    Returns:
        A new environment.
    """
    made = Environment(loader=ChoiceLoader(list(map(_loader, folders))), autoescape=True, undefined=StrictUndefined)
    made.filters |= filters
    return made


def source(environment: Environment, name: str) -> str:
    """Returns the text of a file in the folders of an environment.

    Args:
        environment: the Jinja environment.
        name: the file, such as a style sheet.
    """
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


@cache
def _loader(folder: str) -> PackageLoader:
    return PackageLoader("dpl", folder)
