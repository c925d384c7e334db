"""What is to be compared: the runs that the command line asks for, each with its settings and its folder."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpl.arguments import parse_run
from dpl.config import PRESETS, RunConfig, checked
from dpl.data.paths import shown
from dpl.data.templates import given_templates
from dpl.errors import DplError
from dpl.methods import method_row
from dpl.pipeline import data_name, with_full_paths

if TYPE_CHECKING:
    from dpl.arguments import Compare

_PART = r"""(?:'[^']*'|"[^"]*"|[^%s'"])+"""  # what stands between separators, quoted or not


@dataclass(frozen=True)
class Column:
    """A method with settings of its own, `words` as for `dpl fit --method`; the label is what the person has written."""

    label: str
    method: str
    words: tuple[str, ...]

    @property
    def folder(self) -> str:
        """The label as the beginning of a folder's name; two labels have two."""
        plain = re.sub(r"[^A-Za-z0-9._=+-]", "-", self.label.replace(":", "_"))[:80]
        same = plain == self.label.replace(":", "_")
        return plain if same else f"{plain}-{sha256(self.label.encode(errors='backslashreplace')).hexdigest()[:6]}"


@dataclass(frozen=True)
class PlannedRun:
    """One run; its folder is `config.out`."""

    label: str
    config: RunConfig

    def __str__(self) -> str:
        return f"{shown(self.label)}, {self.config.shots} shot{'s' * (self.config.shots > 1)}, seed {self.config.seed}"

    @property
    def run(self) -> Path:
        """The run folder."""
        assert self.config.out is not None
        return self.config.out


@dataclass(frozen=True)
class Plan:
    """All runs, in their order: shots by shots, in each seed by seed."""

    columns: tuple[Column, ...]
    shots: tuple[int, ...]
    seeds: tuple[int, ...]
    reference: str
    preset: str
    out: Path
    command: str
    runs: tuple[PlannedRun, ...]


def make_plan(asked: "Compare") -> Plan:
    """What the command line asks for, every setting checked; `DplError` names the first that is wrong. Nothing is written."""
    if asked.preset not in PRESETS:
        raise DplError(f"no preset {asked.preset!r}: there are {', '.join(PRESETS)}")
    asked = replace(asked, template=given_templates(asked.template))
    columns = columns_of(asked.methods)
    seeds, shots = _numbers("seeds", asked.seeds, 0), tuple(sorted(_numbers("shots", asked.shots, 1)))
    labels = [column.label for column in columns]
    reference = labels[0] if asked.reference is None else asked.reference
    if reference not in labels:
        raise DplError(f"--reference {reference}: is none of the methods {', '.join(labels)}")
    out = asked.out or Path("runs") / f"compare-{data_name(asked.data)}"
    configs = {(column.label, count): _config(asked, column, count) for count in shots for column in columns}
    _refuse_same(columns, configs, shots[0])
    runs = tuple(
        PlannedRun(column.label, replace(config, seed=seed, out=out / f"{column.folder}-{count}shot-seed{seed}"))
        for count in shots
        for seed in seeds
        for column in columns
        for config in [configs[column.label, count]]
    )
    return Plan(columns, shots, seeds, reference, asked.preset, out, _command(asked, columns, seeds, shots), runs)


def columns_of(specifications: Sequence[str]) -> tuple[Column, ...]:
    """Of "NAME:key=value:flag", divided by commas or spaces."""
    columns: list[Column] = []
    for text in specifications:
        try:
            shlex.split(text)
        except ValueError:
            raise DplError(f"--methods {text}: a quotation mark is not closed") from None
        for label in filter(None, map(str.strip, re.findall(_PART % ",", text))):
            name, *settings = re.findall(_PART % ":", label) or [""]
            method_row(name)
            words = [word for setting in settings for word in _words(setting)]
            columns.append(Column(label, name, tuple(words)))
    labels = [column.label for column in columns]
    if not labels:
        raise DplError("--methods: give at least one, such as dpl,coop,zero-shot")
    if twice := _twice(labels):
        raise DplError(f"--methods: {twice} is there twice")
    return tuple(columns)


def _words(setting: str) -> list[str]:
    """key=value as --key value, a value of several words as several unless it is quoted; flag as --flag."""
    key, equals, value = setting.partition("=")
    return [f"--{key}", *(shlex.split(value) if equals else ())]


def _numbers(name: str, given: Sequence[str], least: int) -> tuple[int, ...]:
    words = [word.strip() for text in given for word in text.split(",") if word.strip()]
    for word in words:
        if not (word.isascii() and word.isdecimal()) or int(word) < least:
            raise DplError(f"--{name} {word}: must be whole numbers from {least}, such as 1,2,4")
    if not words:
        raise DplError(f"--{name}: give at least one number, such as 1,2,4")
    if twice := _twice([str(int(word)) for word in words]):
        raise DplError(f"--{name}: {twice} is there twice")
    return tuple(map(int, words))


def _twice(words: Sequence[str]) -> str | None:
    return next((word for word in words if words.count(word) > 1), None)


def _config(asked: "Compare", column: Column, shots: int) -> RunConfig:
    """The settings of a column's runs on so many shots, with a seed and a folder to come."""
    same = {"method": column.method, "shots": shots, "backbone": asked.backbone, "device": asked.device}
    same |= {"precision": asked.precision, "classes": asked.classes}
    same |= {name: value for name in ("root", "names", "template", "track") if (value := getattr(asked, name))}
    shared = [word for name, value in same.items() for word in _option(name, value)]
    preset = () if any(word.split("=")[0] == "--preset" for word in column.words) else ("--preset", asked.preset)
    parsed = parse_run("fit", [asked.data, *shared, *preset, *column.words])
    usual = ("root", "names", "shots_from", "template", "seed", "out", "overwrite", "strict", "track")
    same = {"data": asked.data, **{name: RunConfig.__dataclass_fields__[name].default for name in usual}} | same
    if changed := next((name for name, value in same.items() if getattr(parsed, name) != value), None):
        changed = changed.replace("_", "-")
        raise DplError(f"--methods {column.label}: --{changed} is the same for all methods; give it to dpl compare, if it has it")
    try:
        return with_full_paths(checked(parsed))
    except DplError as error:
        raise DplError(f"{column.label}: {error}") from None


def _refuse_same(columns: Sequence[Column], configs: dict[tuple[str, int], RunConfig], shots: int) -> None:
    seen: list[tuple[str, RunConfig]] = []
    for column in columns:
        config = configs[column.label, shots]
        for label, other in seen:
            if type(other) is type(config) and other == config:
                raise DplError(f"--methods: {label} and {column.label} have the same settings")
        seen.append((column.label, config))


def _command(asked: "Compare", columns: Sequence[Column], seeds: Sequence[int], shots: Sequence[int]) -> str:
    words = ["dpl", "compare", asked.data, "--methods", *(column.label for column in columns)]
    words += ["--seeds", *map(str, seeds), "--shots", *map(str, shots)]
    base = type(asked)(asked.data, asked.methods)
    names = ("reference", "preset", "root", "names", "classes", "backbone", "template", "device", "precision", "track", "out")
    for name in names:
        if getattr(asked, name) != getattr(base, name):
            words += _option(name, getattr(asked, name))
    return shlex.join(words)


def _option(name: str, value: Any) -> list[str]:
    return [f"--{name}", *map(str, value if isinstance(value, tuple) else (value,))]
