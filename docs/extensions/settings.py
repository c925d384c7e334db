"""Tables of settings, generated from the dataclasses that the command line is made of.

    ```{settings} coop
    ```

shows the settings of a method under two presets, and

    ```{options} dpl.config:Training
    ```

the fields of one dataclass. The meaning of a setting is the docstring of its field, as in `--help`.
"""

from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from importlib import import_module
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

from docs.extensions.markdown import table
from dpl.config import RunConfig, Training, preset
from dpl.methods import METHODS

SHOTS = 16


@dataclass(frozen=True)
class Setting:
    """A setting of the command line."""

    flag: str
    owner: type
    field: Field[Any]

    @property
    def flags(self) -> str:
        """The flag and its shorter aliases, as code."""
        metadata = getattr(self.field.type, "__metadata__", ())
        aliases = [alias for entry in metadata for alias in getattr(entry, "aliases", None) or ()]
        return " ".join(f"`{flag}`" for flag in (f"--{self.flag}", *aliases))

    @property
    def is_common(self) -> bool:
        """Whether all runs, or all trainings, have the setting with the same default."""
        return issubclass(RunConfig, self.owner) or issubclass(Training, self.owner)

    @property
    def meaning(self) -> str:
        """The docstring of the field."""
        return " ".join(_docstrings(self.owner.__module__).get((self.owner.__qualname__, self.field.name), [])).strip()

    @property
    def default(self) -> Any:
        """The default of the dataclass; MISSING: there is none."""
        factory = self.field.default_factory
        return self.field.default if factory is MISSING else factory()


@cache
def _docstrings(module: str) -> dict[tuple[str, str], list[str]]:
    return ModuleAnalyzer.for_module(module).find_attr_docs()


def owner_of(cls: type, name: str) -> type:
    """Finds the class that defines or redefines a field of the dataclass `cls`."""
    return next(base for base in cls.__mro__ if name in base.__dict__.get("__annotations__", {}))


def settings_of(config: type, prefix: str = "") -> Iterator[tuple[tuple[str, ...], Setting]]:
    """Lists the settings of a dataclass of the command line, nested ones in place.

    Args:
        config: the dataclass.
        prefix: what stands before the names in flags, such as "train.".

    Yields:
        The path of attributes from an instance of `config` to the value, and the setting.
    """
    for entry in fields(config):
        owner = owner_of(config, entry.name)
        setting = Setting(prefix + entry.name.replace("_", "-"), owner, entry)
        if is_dataclass(setting.default):
            # An unnamed group (tyro.conf.arg(name="")): its settings are typed without the group's name.
            below = prefix if entry.name in ("design", "loading") else f"{setting.flag}."
            for path, inner in settings_of(type(setting.default), below):
                yield (entry.name, *path), inner
        else:
            yield (entry.name,), setting


def shown(value: Any) -> str:
    """Writes a value as one types it on the command line."""
    if isinstance(value, tuple):
        is_range = len(value) > 3 and value == tuple(range(len(value)))
        return f"0 to {len(value) - 1}" if is_range else " ".join(map(shown, value)) or "none"
    if value is None or value == "":
        return "none"
    return ("no", "yes")[value] if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def method_rows(method: str) -> list[tuple[str, str, str, str]]:
    """The settings of a method: flag, default, value in the paper preset, meaning.

    Settings that all methods share are left out where both presets have the shared default.
    """
    run = METHODS[method].run()
    presets = [preset(run, name, "digits", SHOTS) for name in ("default", "paper")]
    rows = []
    for path, setting in settings_of(run):
        values = []
        for value in presets:
            for name in path:
                value = getattr(value, name)
            values.append(value)
        usual = setting.is_common and all(value == setting.default for value in values)
        if not usual and setting.flag not in ("method", "preset", "data", "shots"):
            rows.append((setting.flags, *map(shown, values), setting.meaning))
    return rows


class _Table(SphinxDirective):
    required_arguments: ClassVar[int] = 1

    def source(self) -> str:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        return [nodes.container("", *self.parse_text_to_nodes(self.source()), classes=["settings"])]


class MethodSettings(_Table):
    """The settings of the method that its argument names."""

    def source(self) -> str:
        """The table as Markdown."""
        rows = method_rows(self.arguments[0])
        if not rows:
            return "There is nothing to set; the presets are the same."
        return table(("setting", "default", "`paper`", "meaning"), rows)


class Options(_Table):
    """The fields of the dataclass that its argument names, as module:Class; with :fields: by their names in Python."""

    option_spec = {"fields": directives.flag}

    def source(self) -> str:
        """The table as Markdown."""
        module, _, name = self.arguments[0].partition(":")
        rows = []
        for path, setting in settings_of(getattr(import_module(module), name)):
            needed = setting.default is MISSING
            name = f"`{'.'.join(path)}`" if "fields" in self.options else setting.flags
            rows.append((name, "required" if needed else shown(setting.default), setting.meaning))
        return table(("setting", "default", "meaning"), rows)


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the directives."""
    app.add_directive("settings", MethodSettings)
    app.add_directive("options", Options)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
