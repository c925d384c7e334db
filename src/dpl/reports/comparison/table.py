"""Numbers of a comparison: means over seeds with intervals, and differences to the reference, paired by seed."""

import platform
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from dpl.backbones.loading import Backbone
from dpl.utils.statistics import Interval, mean_interval


@dataclass(frozen=True)
class Result:
    """Result of one run: accuracies (0-1) on the test images, seconds and peak memory of learning."""

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
    """A method at one number of shots: mean accuracy (0-1), difference to the reference, and costs, as means over seeds.

    The difference is paired over the seeds that both have. It is None for the reference itself, and if no seed has both.
    """

    label: str
    accuracy: Interval
    difference: Interval | None
    trainable_parameters: float
    seconds: float
    peak_memory_bytes: float | None


@dataclass(frozen=True)
class Comparison:
    """Planned runs (`labels` x `shots` x `seeds`) and the results so far, in the order of the plan."""

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
        """Returns a copy with `result` added."""
        return replace(self, results=tuple(sorted((*self.results, result), key=self._place)))

    def _place(self, result: Result) -> tuple[int, int, int]:
        return self.shots.index(result.shots), self.seeds.index(result.seed), self.labels.index(result.label)

    @property
    def planned(self) -> int:
        """Number of planned runs."""
        return len(self.labels) * len(self.shots) * len(self.seeds)

    @cached_property
    def tables(self) -> dict[int, list[Row]]:
        """The rows of the methods with results, in the order of `labels`, for each number of shots with results."""
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
            accuracy=mean_interval([one.accuracy for one in own.values()]),
            difference=mean_interval(differences) if differences and label != self.reference else None,
            trainable_parameters=float(np.mean([one.trainable_parameters for one in own.values()])),
            seconds=float(np.mean([one.seconds for one in own.values()])),
            peak_memory_bytes=float(np.mean(memory)) if memory else None,
        )

    def _by_seed(self, label: str, shots: int) -> dict[int, Result]:
        return {one.seed: one for one in self.results if (one.label, one.shots) == (label, shots)}


def describe(command: str, backbone: Backbone, classes: int, test_images: int, template: str) -> dict[str, Any]:
    """Returns the provenance for compare.json: command, data sizes, template, backbone, device and versions.

    Args:
        command: the command line.
        backbone: the loaded backbone.
        classes: number of classes.
        test_images: number of test images.
        template: the prompt template.
    """
    return {
        "command": command,
        "classes": classes,
        "test_images": test_images,
        "template": template,
        "backbone": {
            "name": backbone.name,
            "commit": backbone.commit,
            "fingerprint": backbone.fingerprint,
            "precision": backbone.precision,
        },
        "device": _device(backbone),
        "versions": {
            "dpl": version("differentiable-prompt-learning"),
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "transformers")},
        },
    }


def _device(backbone: Backbone) -> str:
    return torch.cuda.get_device_name(backbone.device) if backbone.device.type == "cuda" else str(backbone.device)
