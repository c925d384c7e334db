"""The plan of a comparison: its runs, each with its settings and folder."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from dpl.config import RunConfig, checked
from dpl.data.paths import shown
from dpl.pipeline import self_contained
from dpl.utils.errors import DplError


@dataclass(frozen=True)
class Column:
    """A method with its own settings.

    `label` is the text that the user has written for it; `configs` are the settings of its runs, one for each number of shots.
    The plan sets seeds and folders.
    """

    label: str
    configs: tuple[RunConfig, ...]

    @property
    def method(self) -> str:
        """The name of the method."""
        return self.configs[0].method

    @property
    def folder(self) -> str:
        """The label as the beginning of a folder's name; different labels have different ones."""
        plain = re.sub(r"[^A-Za-z0-9._=+-]", "-", self.label.replace(":", "_"))[:80]
        same = plain == self.label.replace(":", "_")
        return plain if same else f"{plain}-{sha256(self.label.encode(errors='backslashreplace')).hexdigest()[:6]}"


@dataclass(frozen=True)
class PlannedRun:
    """One run of the plan; its folder is `config.out`."""

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
    """The runs of a comparison, ordered by shots, then seeds, then methods."""

    columns: tuple[Column, ...]
    shots: tuple[int, ...]
    seeds: tuple[int, ...]
    reference: str
    preset: str
    out: Path
    command: str
    runs: tuple[PlannedRun, ...]


def make_plan(
    columns: Sequence[Column],
    seeds: Sequence[int],
    out: Path,
    reference: str | None = None,
    preset: str = "default",
    command: str = "",
) -> Plan:
    """Makes the plan of a comparison and checks every setting. Nothing is written.

    Args:
        columns: the methods, at least one, all with the same numbers of shots.
        seeds: the seeds of the runs.
        out: the folder of the runs and the tables.
        reference: the label of the method that the others are compared with; by default the first.
        preset: the preset of all methods that name no other.
        command: the command line that repeats the comparison.

    Returns:
        The plan.

    Raises:
        DplError: a setting is wrong; the message names the first one.
    """
    labels = [column.label for column in columns]
    reference = labels[0] if reference is None else reference
    if reference not in labels:
        raise DplError(f"--reference {reference}: is none of the methods {', '.join(labels)}")
    columns = tuple(map(_checked, columns))
    _refuse_same(columns)
    runs = tuple(
        PlannedRun(column.label, replace(config, seed=seed, out=out / f"{column.folder}-{config.shots}shot-seed{seed}"))
        for configs in zip(*(column.configs for column in columns), strict=True)
        for seed in seeds
        for column, config in zip(columns, configs, strict=True)
    )
    shots = tuple(config.shots for config in columns[0].configs)
    return Plan(columns, shots, tuple(seeds), reference, preset, out, command, runs)


def _checked(column: Column) -> Column:
    try:
        return replace(column, configs=tuple(self_contained(checked(config)) for config in column.configs))
    except DplError as error:
        raise DplError(f"{column.label}: {error}") from None


def _refuse_same(columns: Sequence[Column]) -> None:
    for place, column in enumerate(columns):
        for other in columns[:place]:
            if other.configs[0] == column.configs[0]:
                raise DplError(f"--methods: {other.label} and {column.label} have the same settings")
