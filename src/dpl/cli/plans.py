"""The plans of `dpl compare` and `dpl reproduce`, from their arguments: the settings of every method are parsed here."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from dpl.cli.arguments import Compare, Reproduce, parse_run
from dpl.config import PRESETS, NewLoading, RunConfig
from dpl.data.templates import given_templates
from dpl.experiments.compare import Column, Plan, make_plan
from dpl.experiments.reproduce import PROTOCOLS, Grid, Protocol, choose_data
from dpl.methods import method_spec
from dpl.pipeline import data_name
from dpl.utils.errors import DplError

_LOADING = tuple(entry.name for entry in fields(NewLoading))
# The arguments in the order in which the written command names them.
_COMPARE = ("methods", "seeds", "shots", "reference", "preset", "root", "names")
_COMPARE += ("classes", "backbone", "template", "track", "out")
_REPRODUCE = ("root", "data", "source", "methods", "seeds", "shots", "preset", "backbone", "out")
_PART = r"""(?:'[^']*'|"[^"]*"|[^%s'"])+"""  # the text between two separators, quoted or not


def comparison_plan(asked: Compare) -> Plan:
    """Makes the plan of `dpl compare` and checks every setting. Nothing is written.

    Args:
        asked: the arguments of the command line.

    Returns:
        The plan.

    Raises:
        DplError: a setting is wrong; the message names the first one.
    """
    if asked.preset not in PRESETS:
        raise DplError(f"no preset {asked.preset!r}: there are {', '.join(PRESETS)}")
    asked = replace(asked, template=given_templates(asked.template))
    methods = parse_methods(asked.methods)
    seeds, shots = _numbers("seeds", asked.seeds, 0), sorted(_numbers("shots", asked.shots, 1))
    columns = [Column(label, tuple(_config(asked, label, words, count) for count in shots)) for label, words in methods.items()]
    out = asked.out or Path("runs") / f"compare-{data_name(asked.data)}"
    written = replace(asked, methods=tuple(methods), seeds=tuple(map(str, seeds)), shots=tuple(map(str, shots)))
    names = (
        "methods",
        "seeds",
        "shots",
        "reference",
        "preset",
        "root",
        "names",
        "classes",
        "backbone",
        "template",
        "track",
        "out",
    )
    command = _command("compare", asked.data, written, Compare(asked.data, (), seeds=(), shots=()), names)
    return make_plan(columns, seeds, out, asked.reference, asked.preset, command)


def reproduction_grid(asked: Reproduce) -> Grid:
    """Makes the grid of `dpl reproduce` and checks every setting. Nothing is written.

    Args:
        asked: the arguments of the command line.

    Returns:
        The grid.

    Raises:
        DplError: a setting is wrong or data are missing; the message names the first problem.
    """
    protocol = PROTOCOLS[asked.protocol]
    chosen = choose_data(asked.protocol, asked.data, asked.root, asked.source)
    out = asked.out or Path("runs") / f"reproduce-{asked.protocol}"
    plans = {name: comparison_plan(_comparison(asked, protocol, data, out / name)) for name, data in chosen.learned_on.items()}
    command = _command("reproduce", asked.protocol, asked, Reproduce(asked.protocol), _REPRODUCE)
    return Grid(asked.protocol, plans, chosen.targets, chosen.absent, asked.root, out, command)


def _comparison(asked: Reproduce, protocol: Protocol, data: str, out: Path) -> Compare:
    """The arguments of the comparison on one data set of the protocol."""
    return Compare(
        data=data,
        methods=asked.methods,
        seeds=asked.seeds,
        shots=asked.shots or tuple(map(str, protocol.shots)),
        preset="paper-transfer" if protocol.transfers and asked.preset == "paper" else asked.preset,
        backbone=asked.backbone,
        root=asked.root,
        classes=protocol.classes,
        out=out,
        **{name: getattr(asked, name) for name in _LOADING},
    )


def parse_methods(specifications: Sequence[str]) -> dict[str, list[str]]:
    """Parses the methods of the command line.

    Args:
        specifications: texts of the form "NAME:key=value:flag", several of them separated by commas.

    Returns:
        The words of `dpl fit` for each method, such as --method coop --train.lr 0.02, by its text.

    Raises:
        DplError: a quotation mark is not closed, a method is unknown or given twice, or there is none.
    """
    methods: dict[str, list[str]] = {}
    for text in specifications:
        try:
            shlex.split(text)
        except ValueError:
            raise DplError(f"--methods {text}: a quotation mark is not closed") from None
        for label in filter(None, map(str.strip, re.findall(_PART % ",", text))):
            name, *settings = re.findall(_PART % ":", label) or [""]
            method_spec(name)
            if label in methods:
                raise DplError(f"--methods: {label} is there twice")
            methods[label] = ["--method", name, *(word for setting in settings for word in _words(setting))]
    if not methods:
        raise DplError("--methods: give at least one, such as dpl,coop,zero-shot")
    return methods


def _words(setting: str) -> list[str]:
    """Turns key=value into --key value and flag into --flag; an unquoted value of several words becomes several arguments."""
    key, equals, value = setting.partition("=")
    return [f"--{key}", *(shlex.split(value) if equals else ())]


def _numbers(name: str, given: Sequence[str], least: int) -> tuple[int, ...]:
    words = [word.strip() for text in given for word in text.split(",") if word.strip()]
    numbers: list[int] = []
    for word in words:
        if not (word.isascii() and word.isdecimal()) or int(word) < least:
            raise DplError(f"--{name} {word}: must be whole numbers from {least}, such as 1,2,4")
        if int(word) in numbers:
            raise DplError(f"--{name}: {int(word)} is there twice")
        numbers.append(int(word))
    if not numbers:
        raise DplError(f"--{name}: give at least one number, such as 1,2,4")
    return tuple(numbers)


def _config(asked: Compare, label: str, words: Sequence[str], shots: int) -> RunConfig:
    """The settings of a method's runs with `shots` shots, without seed and folder."""
    same = {"shots": shots, "backbone": asked.backbone, "classes": asked.classes}
    same |= {name: getattr(asked, name) for name in ("device", "precision", "resize")}
    optional = ("root", "names", "template", "track", "revision", "no_pickle")
    same |= {name: value for name in optional if (value := getattr(asked, name))}
    shared = [word for name, value in same.items() for word in _option(name, value)]
    preset = () if any(word.split("=")[0] == "--preset" for word in words) else ("--preset", asked.preset)
    parsed = parse_run("fit", [asked.data, *shared, *preset, *words])
    usual = ("root", "names", "revision", "no_pickle", "shots_from", "template", "seed", "out", "overwrite", "strict", "track")
    same = {
        "data": asked.data,
        "method": words[1],
        **{name: RunConfig.__dataclass_fields__[name].default for name in usual},
    } | same
    if changed := next((name for name, value in same.items() if getattr(parsed, name) != value), None):
        changed = changed.replace("_", "-")
        raise DplError(f"--methods {label}: --{changed} is the same for all methods; give it to dpl compare, if it has it")
    return parsed


def _command(name: str, subject: str, asked: Any, base: Any, names: Sequence[str]) -> str:
    """The command line with the arguments among `names` and of loading that differ from those of `base`."""
    words = ["dpl", name, subject]
    for argument in (*names, *_LOADING):
        if (value := getattr(asked, argument)) != getattr(base, argument):
            words += _option(argument, value)
    return shlex.join(words)


def _option(name: str, value: Any) -> list[str]:
    """Writes a setting as words of a command line: a flag if it is true, several words if it is a tuple."""
    values = () if value is True else value if isinstance(value, tuple) else (value,)
    return [f"--{name.replace('_', '-')}", *map(str, values)]
