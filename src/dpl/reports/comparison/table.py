"""The numbers of a comparison: means over seeds and their intervals, and differences to the reference seed by seed."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np
from scipy.stats import t

from dpl.backbones.loading import Backbone


@dataclass(frozen=True)
class Interval:
    """A mean of `count` values and the half width of its t-based 95 % interval; None of a single value."""

    mean: float
    half: float | None
    count: int


def interval(values: Sequence[float]) -> Interval:
    """Of the mean of at least one independent value: t(0.975, n - 1) s / sqrt(n), s the standard deviation of the values."""
    count = len(values)
    half = float(t.ppf(0.975, count - 1) * np.std(values, ddof=1) / count**0.5) if count > 1 else None
    return Interval(float(np.mean(values)), half, count)


@dataclass(frozen=True)
class Result:
    """What a run has reached; accuracies 0-1 on the test images, seconds and bytes of learning."""

    label: str
    method: str
    shots: int
    seed: int
    folder: str
    accuracy: float
    zero_shot_accuracy: float
    trainable_parameters: int
    seconds: float
    peak_memory_bytes: int | None


@dataclass(frozen=True)
class Row:
    """A method with so many shots: mean accuracy (0-1) and difference to the reference over seeds, mean costs.

    The difference, of the seeds that both have, is None for the reference itself and where no seed has both.
    """

    label: str
    accuracy: Interval
    difference: Interval | None
    trainable_parameters: float
    seconds: float
    peak_memory_bytes: float | None


@dataclass(frozen=True)
class Comparison:
    """What was asked, and the results until now, in the order of the plan."""

    task: str
    data: str
    labels: tuple[str, ...]
    shots: tuple[int, ...]
    seeds: tuple[int, ...]
    reference: str
    preset: str
    about: dict[str, Any] = field(default_factory=dict)
    results: tuple[Result, ...] = ()

    def with_result(self, result: Result) -> "Comparison":
        """And one more."""
        return replace(self, results=tuple(sorted((*self.results, result), key=self._place)))

    def _place(self, result: Result) -> tuple[int, int, int]:
        return self.shots.index(result.shots), self.seeds.index(result.seed), self.labels.index(result.label)

    @property
    def planned(self) -> int:
        """How many runs there are to be."""
        return len(self.labels) * len(self.shots) * len(self.seeds)

    @cached_property
    def tables(self) -> dict[int, list[Row]]:
        """By shots, the rows of the methods that have results, in their order; no table without any."""
        tables = {shots: [row for label in self.labels if (row := self._row(label, shots))] for shots in self.shots}
        return {shots: rows for shots, rows in tables.items() if rows}

    def _row(self, label: str, shots: int) -> Row | None:
        own, other = self._by_seed(label, shots), self._by_seed(self.reference, shots)
        if not own:
            return None
        differences = [own[seed].accuracy - other[seed].accuracy for seed in own if seed in other]
        memory = [one.peak_memory_bytes for one in own.values() if one.peak_memory_bytes is not None]
        return Row(
            label=label,
            accuracy=interval([one.accuracy for one in own.values()]),
            difference=interval(differences) if differences and label != self.reference else None,
            trainable_parameters=float(np.mean([one.trainable_parameters for one in own.values()])),
            seconds=float(np.mean([one.seconds for one in own.values()])),
            peak_memory_bytes=float(np.mean(memory)) if memory else None,
        )

    def _by_seed(self, label: str, shots: int) -> dict[int, Result]:
        return {one.seed: one for one in self.results if (one.label, one.shots) == (label, shots)}


def describe(command: str, backbone: Backbone, classes: int, test_images: int, template: str) -> dict[str, Any]:
    """What compare.json says beside numbers and settings."""
    return {
        "command": command,
        "classes": classes,
        "test_images": test_images,
        "template": template,
        "backbone": {"name": backbone.name, "fingerprint": backbone.fingerprint, "precision": backbone.precision},
        "device": _device(backbone),
        "versions": {
            "dpl": version("differentiable-prompt-learning"),
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "transformers")},
        },
    }


def _device(backbone: Backbone) -> str:
    import torch

    return torch.cuda.get_device_name(backbone.device) if backbone.device.type == "cuda" else str(backbone.device)
