"""Reads several run folders, and groups runs that differ in the seed only."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpl.schemas.explanation import Explanation, read_explanation
from dpl.schemas.run import Metrics
from dpl.schemas.run_folder import RunFolder, read_run
from dpl.utils.errors import DplError
from dpl.utils.nested import flat

# Settings that do not distinguish groups: runs that differ in these only belong to one group.
_APART = ("seed", "out", "overwrite", "track")


@dataclass(frozen=True, eq=False)
class ComparedRun:
    """A run of several, with the letter that names it on the page."""

    letter: str
    folder: Path
    run: RunFolder
    explanation: Explanation | None

    @property
    def metrics(self) -> Metrics | None:
        """The run's metrics; None if a layout was only searched."""
        return self.run.metrics

    @property
    def seed(self) -> Any:
        """The run's seed, which determines the shots and every random draw."""
        return self.run.metrics.seed if self.run.metrics else self.run.config.settings.get("seed")


@dataclass(frozen=True, eq=False)
class Group:
    """Runs that differ in the seed only. Statistics over seeds use the first run of each seed."""

    label: str
    members: tuple[ComparedRun, ...]

    @property
    def by_seed(self) -> dict[Any, ComparedRun]:
        """The first run of each seed."""
        found: dict[Any, ComparedRun] = {}
        for one in self.members:
            found.setdefault(one.seed, one)
        return found

    @property
    def twice(self) -> bool:
        """Whether two runs have the same seed."""
        return len(self.by_seed) < len(self.members)


def read_runs(folders: Sequence[Path]) -> list[ComparedRun]:
    """Reads run folders and names them A, B, ... in their order.

    Args:
        folders: the run folders.

    Raises:
        DplError: a run is broken or given twice.
    """
    seen: set[Path] = set()
    for folder in folders:
        if folder.resolve() in seen:
            raise DplError(f"{folder}: is there twice; give every run once")
        seen.add(folder.resolve())
    return [
        ComparedRun(letter(place), folder, read_run(folder), read_explanation(folder)) for place, folder in enumerate(folders)
    ]


def letter(place: int) -> str:
    """Returns the letter of a run.

    Args:
        place: the place of the run, from 0.

    Example:

        >>> [letter(place) for place in (0, 25, 26)]
        ['A', 'Z', 'AA']
    """
    name = ""
    place += 1
    while place:
        place, rest = divmod(place - 1, 26)
        name = chr(ord("A") + rest) + name
    return name


def grouped(runs: Sequence[ComparedRun]) -> list[Group]:
    """Groups runs that differ in the seed only.

    Args:
        runs: the runs.

    Returns:
        The groups in the order of their first runs, with distinct labels.
    """
    found: dict[str, list[ComparedRun]] = {}
    for one in runs:
        found.setdefault(_done(one), []).append(one)
    labels = _labels([members[0] for members in found.values()])
    return [Group(label, tuple(members)) for label, members in zip(labels, found.values(), strict=True)]


def tested_alike(runs: Sequence[ComparedRun]) -> bool:
    """Returns whether all runs have the same data, class names and number of test images."""
    return len({_tested(one) for one in runs}) == 1


def _tested(one: ComparedRun) -> tuple[Any, ...]:
    config = one.run.config
    return config.data, tuple(config.task.class_names), one.metrics.test_images if one.metrics else None


def _done(one: ComparedRun) -> str:
    """Returns everything that distinguishes groups, as JSON: backbone, method, kind, data, classes, templates and settings."""
    config = one.run.config
    made_with = [config.backbone.fingerprint or config.backbone.name, config.method, config.kind, config.data]
    return json.dumps([*made_with, config.task.class_names, config.task.templates, _settings(one)], sort_keys=True)


def _settings(one: ComparedRun) -> dict[str, Any]:
    return {name: value for name, value in one.run.config.settings.items() if name not in _APART}


def _labels(firsts: Sequence[ComparedRun]) -> list[str]:
    """Returns a label per group: the method, the origin of its layout, and the settings that differ between groups.

    Names at most two settings, of those that other groups with the same method have too. Adds the data set and the backbone
    if they differ between groups, and the first run's letter to labels that would still be equal.
    """
    settings = [flat(_settings(one)) for one in firsts]
    labels = []
    for one, own in zip(firsts, settings, strict=True):
        config, parts = one.run.config, []
        others = [theirs for other, theirs in zip(firsts, settings, strict=True) if other.run.config.method == config.method]
        differing = [name for name in own if name != "layout" and any(own[name] != them.get(name, own[name]) for them in others)]
        if layout := own.get("layout"):
            parts.append(f"layout {Path(str(layout)).name}")
        elif one.run.search and not any(name.startswith("search.") for name in differing):
            parts.append("searched")
        parts += [f"{name} {_short(own[name])}" for name in differing[:2]]
        if len(differing) > 2:
            parts.append(f"{len(differing) - 2} more settings")
        for name, value in (("data", config.task.name), ("backbone", config.backbone.name)):
            if len({_named(other, name) for other in firsts}) > 1:
                parts.append(Path(value).name)
        labels.append(", ".join([config.method, *parts]))
    return [
        f"{label} ({first.letter})" if labels.count(label) > 1 else label for label, first in zip(labels, firsts, strict=True)
    ]


def _short(value: Any) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 30 else f"{text[:29]}…"


def _named(one: ComparedRun, what: str) -> str:
    return one.run.config.task.name if what == "data" else one.run.config.backbone.name
