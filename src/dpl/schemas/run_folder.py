"""Reads the files of a run folder that a report needs, and checks that they are consistent."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, get_args

from pydantic import BaseModel

from dpl.prompts.layout import PromptLayout
from dpl.schemas.run import Config, Line, Metrics, SearchEpoch, TrainEpoch
from dpl.utils.errors import DplError
from dpl.utils.text import printable
from dpl.utils.validation import validated

BRANCHES = ("image", "text")
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class RunFolder:
    """A run as read from its folder.

    `metrics` is None if a layout was only searched, or if the library has saved the run. `options` and `search` (epochs of one
    kind) are empty if the run did not search; `train` is empty if the run did not train by steps.
    """

    name: str
    config: Config
    layout: PromptLayout
    metrics: Metrics | None
    options: tuple[int, ...]
    search: tuple[SearchEpoch, ...]
    train: tuple[TrainEpoch, ...]


def read_run(run: Path) -> RunFolder:
    """Reads config.json, layout.json, metrics.json and history.jsonl of a run folder.

    metrics.json may be missing if the run only searched or was saved by the library, history.jsonl if the layout has no prompts.

    Args:
        run: the run folder.

    Returns:
        The run; epochs in order, from 0.

    Raises:
        DplError: a file is missing, malformed or contradicts another; one line that names the file.
    """
    config = _parse(Config, _read(run / "config.json"), str(run / "config.json"))
    layout = _read_layout(run / "layout.json")
    metrics = None
    if config.kind not in ("search", "library") or (run / "metrics.json").exists():
        metrics = _parse(Metrics, _read(run / "metrics.json"), str(run / "metrics.json"))
    search: tuple[SearchEpoch, ...] = ()
    train: tuple[TrainEpoch, ...] = ()
    if layout.tokens or (run / "history.jsonl").exists():  # a given layout of zeros trains nothing
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


def _read_layout(path: Path) -> PromptLayout:
    text = _read(path)
    try:
        return PromptLayout.from_json(text)
    except DplError as error:
        raise DplError(f"{path}: {error}") from None


def _parse(model: type[Model], text: str, where: str) -> Model:
    """Parses `text` (JSON) as a `model`; the error names `where` and the first wrong field."""
    try:
        content = printable(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise DplError(f"{where}: is not JSON ({error})") from None
    return validated(model, content, where)


def _read_history(path: Path) -> tuple[tuple[SearchEpoch, ...], tuple[TrainEpoch, ...]]:
    """Returns the epochs of both stages in order. The last line of an epoch counts, since a resumed run may repeat one."""
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
    """Returns the class of a line of the search, by the field that only its kind has."""
    kinds = {kind.field: kind for kind in get_args(SearchEpoch)}
    found = kinds.keys() & (line.model_extra or {}).keys()
    if len(found) != 1:
        raise DplError(f"{where}: an epoch of the search must have one of {', '.join(kinds)}")
    return kinds[found.pop()]


def _check_shape(line: SearchEpoch, layout: PromptLayout, options: tuple[int, ...], where: str) -> None:
    """Raises `DplError`, starting with `where`, unless the epoch fits the run's layers and options."""
    columns, what = line.columns(options)
    for branch in BRANCHES:
        layers = len(layout[branch])
        if [len(row) for row in line.matrix[branch]] != [columns] * layers:
            raise DplError(f"{where}: {branch} {line.field} must be {layers} layers x {columns} {what}")
        lengths = line.layout[branch] if line.layout else None
        if lengths and (len(lengths) != layers or max(lengths) > max(options)):
            raise DplError(f"{where}: {branch} layout must be {layers} lengths up to {max(options)}, got {lengths}")


def _options(config: Config, path: Path) -> tuple[int, ...]:
    """Returns the context lengths that the search chose from."""
    search = config.settings.get("search")
    options = search.get("options") if isinstance(search, dict) else None
    if not isinstance(options, list) or not options or not all(type(option) is int for option in options):
        raise DplError(f"{path}: settings.search.options must list the searched lengths, like [0, 1, 2]; got {options!r}")
    return tuple(options)
