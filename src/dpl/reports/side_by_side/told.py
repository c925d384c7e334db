"""Several runs as read from their folders, and which of them differ in nothing but the seed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpl.errors import DplError
from dpl.explain.stored import Explanation, read_explanation
from dpl.nested import flat
from dpl.reports.run_folder import RunFolder, read_run
from dpl.reports.schema import Metrics

# Settings that do not say what was done: runs that differ in these only are told apart by their seed.
_APART = ("seed", "out", "overwrite", "track")


@dataclass(frozen=True, eq=False)
class Told:
    """A run among others, which the page calls by a letter."""

    letter: str
    folder: Path
    run: RunFolder
    explanation: Explanation | None

    @property
    def metrics(self) -> Metrics | None:
        """None where a layout was only searched."""
        return self.run.metrics

    @property
    def seed(self) -> Any:
        """Decides the shots and every random draw."""
        return self.run.metrics.seed if self.run.metrics else self.run.config.settings.get("seed")


@dataclass(frozen=True, eq=False)
class Group:
    """Runs that differ in the seed only; of two with the same seed the first counts in what is said over seeds."""

    label: str
    members: tuple[Told, ...]

    @property
    def by_seed(self) -> dict[Any, Told]:
        """One for each seed."""
        found: dict[Any, Told] = {}
        for one in self.members:
            found.setdefault(one.seed, one)
        return found

    @property
    def twice(self) -> bool:
        """Whether two have the same seed."""
        return len(self.by_seed) < len(self.members)


def read_runs(folders: Sequence[Path]) -> list[Told]:
    """Reads the run folders; `DplError` where one is broken or there twice."""
    seen: set[Path] = set()
    for folder in folders:
        if folder.resolve() in seen:
            raise DplError(f"{folder}: is there twice; give every run once")
        seen.add(folder.resolve())
    return [Told(letter(place), folder, read_run(folder), read_explanation(folder)) for place, folder in enumerate(folders)]


def letter(place: int) -> str:
    """A, B, ..., Z, AA, AB, ..."""
    name = ""
    place += 1
    while place:
        place, rest = divmod(place - 1, 26)
        name = chr(ord("A") + rest) + name
    return name


def grouped(runs: Sequence[Told]) -> list[Group]:
    """The runs by what was done, in the order of their first ones, under labels that tell them apart."""
    found: dict[str, list[Told]] = {}
    for one in runs:
        found.setdefault(_done(one), []).append(one)
    labels = _labels([members[0] for members in found.values()])
    return [Group(label, tuple(members)) for label, members in zip(labels, found.values(), strict=True)]


def tested_alike(runs: Sequence[Told]) -> bool:
    """Whether all were tested on the same images of the same classes, as far as their files say."""
    return len({_tested(one) for one in runs}) == 1


def _tested(one: Told) -> tuple[Any, ...]:
    config = one.run.config
    return config.data, tuple(config.task.class_names), one.metrics.test_images if one.metrics else None


def _done(one: Told) -> str:
    """What decides a run apart from its seed."""
    config = one.run.config
    made_with = [config.backbone.fingerprint or config.backbone.name, config.method, config.kind, config.data]
    return json.dumps([*made_with, config.task.class_names, config.task.templates, _settings(one)], sort_keys=True)


def _settings(one: Told) -> dict[str, Any]:
    return {name: value for name, value in one.run.config.settings.items() if name not in _APART}


def _labels(firsts: Sequence[Told]) -> list[str]:
    """The method, where the layout is from, and of the settings that others of the method have too those that differ."""
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


def _named(one: Told, what: str) -> str:
    return one.run.config.task.name if what == "data" else one.run.config.backbone.name
