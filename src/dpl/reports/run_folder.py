"""Reads the files of a run folder that a report needs, and refuses what does not fit together."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, get_args

from pydantic import BaseModel, ValidationError

from dpl.errors import DplError
from dpl.printable import printable
from dpl.reports.schema import Config, Layout, Line, Metrics, SearchEpoch, TrainEpoch

BRANCHES = ("image", "text")
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class RunFolder:
    """A run as read from its folder.

    `metrics` is None where a layout was only searched; `options` and `search` (all of one kind) are empty where it was given,
    `train` where there was nothing to train.
    """

    name: str
    config: Config
    layout: Layout
    metrics: Metrics | None
    options: tuple[int, ...]
    search: tuple[SearchEpoch, ...]
    train: tuple[TrainEpoch, ...]


def read_run(run: Path) -> RunFolder:
    """Reads config.json, layout.json, metrics.json and history.jsonl of the folder `run`.

    Raises `DplError`, one line that names the file, where one is missing, malformed or contradicts another.
    """
    config = _parse(Config, _read(run / "config.json"), str(run / "config.json"))
    layout = _parse(Layout, _read(run / "layout.json"), str(run / "layout.json"))
    metrics = None
    if config.kind != "search" or (run / "metrics.json").exists():
        metrics = _parse(Metrics, _read(run / "metrics.json"), str(run / "metrics.json"))
    search: tuple[SearchEpoch, ...] = ()
    train: tuple[TrainEpoch, ...] = ()
    if any(layout.image + layout.text) or (run / "history.jsonl").exists():  # a given layout of zeros trains nothing
        search, train = _read_history(run / "history.jsonl")
    for branch in BRANCHES:
        layers = config.backbone.layers[branch] if config.backbone.layers else len(layout[branch])
        if len(layout[branch]) != layers:
            found = len(layout[branch])
            raise DplError(f"{run / 'layout.json'}: {found} {branch} layers, but the backbone of config.json has {layers}")
    options = _options(config, run / "config.json") if search else ()
    for line in search:
        _check_shape(line, layout, options, f"{run / 'history.jsonl'}: search epoch {line.epoch}")
    return RunFolder(printable(run.resolve().name), config, layout, metrics, options, search, train)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DplError(f"{path}: cannot be read ({error.strerror}); a report needs a finished run") from None
    except UnicodeDecodeError:
        raise DplError(f"{path}: is not UTF-8 text") from None


def _parse(model: type[Model], text: str, where: str) -> Model:
    """`text` (JSON) as a `model`; the error names `where` and the first field that is wrong."""
    try:
        return model.model_validate(printable(json.loads(text)))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "content"
        raise DplError(f"{where}: {field}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise DplError(f"{where}: is not JSON ({error})") from None


def _read_history(path: Path) -> tuple[tuple[SearchEpoch, ...], tuple[TrainEpoch, ...]]:
    """The lines of both stages by epoch; the last line of an epoch counts, since a resumed run may repeat one."""
    search: dict[int, SearchEpoch] = {}
    train: dict[int, TrainEpoch] = {}
    for number, text in enumerate(_read(path).split("\n"), start=1):
        if not text.strip():
            continue
        where = f"{path} line {number}"
        start = _parse(Line, text, where)
        if start.stage == "search":
            line = _parse(_kind(start, where), text, where)
            search[line.epoch] = line
        elif start.stage == "train":
            line = _parse(TrainEpoch, text, where)
            train[line.epoch] = line
    if len(kinds := {line.field for line in search.values()}) > 1:
        raise DplError(f"{path}: has search epochs with {' and with '.join(sorted(kinds))}; those of a run are of one kind")
    return tuple(search[epoch] for epoch in sorted(search)), tuple(train[epoch] for epoch in sorted(train))


def _kind(line: Line, where: str) -> type[SearchEpoch]:
    """The kind of a line of the search, by which field is there."""
    kinds = {kind.field: kind for kind in get_args(SearchEpoch)}
    found = kinds.keys() & (line.model_extra or {}).keys()
    if len(found) != 1:
        raise DplError(f"{where}: an epoch of the search must have one of {', '.join(kinds)}")
    return kinds[found.pop()]


def _check_shape(line: SearchEpoch, layout: Layout, options: tuple[int, ...], where: str) -> None:
    """`DplError`, which begins with `where`, unless the epoch fits the run's layers and options."""
    columns, what = line.columns(options)
    for branch in BRANCHES:
        layers = len(layout[branch])
        if [len(row) for row in line.matrix[branch]] != [columns] * layers:
            raise DplError(f"{where}: {branch} {line.field} must be {layers} layers x {columns} {what}")
        lengths = line.layout[branch] if line.layout else None
        if lengths and (len(lengths) != layers or max(lengths) > max(options)):
            raise DplError(f"{where}: {branch} layout must be {layers} lengths up to {max(options)}, got {lengths}")


def _options(config: Config, path: Path) -> tuple[int, ...]:
    """The context lengths the search chose from."""
    search = config.settings.get("search")
    options = search.get("options") if isinstance(search, dict) else None
    if not isinstance(options, list) or not options or not all(type(option) is int for option in options):
        raise DplError(f"{path}: settings.search.options must list the searched lengths, like [0, 1, 2]; got {options!r}")
    return tuple(options)
