"""Time and peak memory of search and training steps: ours, the paper's formulation, and two plain floors.

    python -m benchmarks step --model vit-b/16 --classes 10 100 --options 6

On random weights of the true shapes, nothing is downloaded. What is compared: `benchmarks.subjects`. Results are saved as they
come; the same command goes on where it was stopped.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.clips import SHAPES
from benchmarks.counts import step_work
from benchmarks.memory import Setup, peak_memory
from benchmarks.subjects import SUBJECTS, Case, Stage, Subject, differences, make_step
from benchmarks.timing import markdown, medians, ratio, rounds, session
from dpl.backbones.choices import Precision
from dpl.backbones.loading import Backbone
from dpl.utils.errors import DplError
from dpl.utils.files import read_json, write_json


@dataclass(frozen=True)
class Settings:
    """What to measure."""

    model: Literal["vit-b/16", "vit-l/14", "tiny"] = "vit-b/16"
    """Shapes of the CLIP; tiny is for trying the command out."""
    stage: tuple[Stage, ...] = ("search", "train")
    """Which steps."""
    classes: tuple[int, ...] = (10, 40, 100, 397, 1000)
    """Numbers of classes."""
    options: tuple[int, ...] = (2, 6, 16)
    """Search: largest context length; 6 stands for the options 0..6."""
    layout: int = 4
    """Training: context length in every layer."""
    what: tuple[Subject, ...] = SUBJECTS
    """What to compare."""
    runs: int = 5
    """Timed steps of each; the table shows medians."""
    warm_up: int = 1
    """Steps of each before that."""
    memory: bool = True
    """Measure peak memory, in a process for each. Without, only an estimate keeps out what does not fit."""
    memory_limit: float = 0
    """GiB that a process may take; 0: nine tenths of what is free."""
    precision: Precision = "fp32"
    """What the layers compute in."""
    device: str = "cpu"
    """cpu or cuda."""
    threads: int = 0
    """Threads of PyTorch on the CPU; 0: its own choice."""
    seed: int = 1
    """Of weights, prompts and images."""
    out: Path | None = None
    """The JSON with all timings; by default runs/benchmark/step-MODEL-PRECISION-DEVICE.json."""
    overwrite: bool = False
    """Begin anew instead of going on with what is in it."""

    @property
    def setup(self) -> Setup:
        """The backbone."""
        return Setup(self.model, self.precision, self.device, self.threads, self.seed)

    @property
    def cases(self) -> list[Case]:
        """From the cheap to the dear."""
        longest = {"search": self.options, "train": (self.layout,)}
        return [Case(stage, classes, length) for classes in self.classes for stage in self.stage for length in longest[stage]]

    @property
    def file(self) -> Path:
        """Where the results go."""
        name = f"step-{self.model.replace('/', '-')}-{self.precision}-{self.device.replace(':', '-')}.json"
        return self.out or Path("runs/benchmark") / name


class Results:
    """The JSON file: `sessions`, `setup`, `equality` by stage, and `cases`, each with what `_measure` adds to it."""

    def __init__(self, settings: Settings) -> None:
        self.file = settings.file
        setup = {**asdict(settings.setup), "what": list(settings.what), "warm_up": settings.warm_up}
        self.data: dict[str, Any] = {"setup": setup, "sessions": [], "equality": {}, "cases": {}}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        if self.file.exists() and not settings.overwrite:
            self.data = read_json(self.file)
            if self.data["setup"] != setup:
                raise DplError(f"{self.file}: was measured with {self.data['setup']}; give another --out, or --overwrite")
            print(f"going on with {self.file}: {len(self.data['cases'])} cases are there")
        self.data["sessions"].append(session(torch.device(settings.device)))
        self.save()

    def case(self, case: Case) -> dict[str, Any]:
        """What is known of `case`: `memory` by subject, `rounds` of seconds by subject; changed in place."""
        return self.data["cases"].setdefault(case.key, {"case": asdict(case), "memory": {}, "rounds": []})

    def save(self) -> None:
        """Writes it whole."""
        write_json(self.file, self.data)


def main(settings: Settings) -> None:
    """Prints a line per case, then the tables."""
    if min(settings.classes) < 2 or settings.layout < 1 or min(settings.options) < 1:
        raise DplError("--classes must be 2 or more, --layout and --options 1 or more")
    backbone, results = settings.setup.backbone(), Results(settings)
    for case in settings.cases:
        _measure(settings, case, backbone, results)
        print(f"{case.key}: {_line(results.case(case))}", flush=True)
    chosen = [case for case in settings.cases if results.case(case)["rounds"]]
    print("\n".join(tables(chosen, results.data, settings)))
    print(f"\nAll timings: {settings.file}")


def _measure(settings: Settings, case: Case, backbone: Backbone, results: Results) -> None:
    """Peak memory of each, then alternating times of those that fit; what is there already is not measured again."""
    entry, shape = results.case(case), SHAPES[settings.model]
    entry["work"] = {name: asdict(step_work(name, case, shape, _element(settings))) for name in settings.what}
    for name in settings.what:
        if not entry["memory"].get(name):  # {}: only estimated
            entry["memory"][name] = _memory(name, settings, case)
            results.save()
    fitting: list[Subject] = [name for name in settings.what if "does_not_fit" not in entry["memory"][name]]
    if {"naive", "ours"} <= set(fitting) and case.stage not in results.data["equality"]:
        found = differences(case, backbone, shape, settings.seed)
        results.data["equality"][case.stage] = {"case": case.key, **found}
        print(f"ours against naive, {case.key}: " + ", ".join(f"{name} {value:.1e}" for name, value in found.items()), flush=True)
        results.save()
    missing = settings.runs - len(entry["rounds"])
    if missing > 0 and fitting:
        steps: dict[str, Callable[[], float]] = {name: make_step(name, case, backbone, shape, settings.seed) for name in fitting}
        for measured in rounds(steps, missing, backbone.device, settings.warm_up):
            entry["rounds"].append(measured)
            results.save()


def _memory(name: Subject, settings: Settings, case: Case) -> dict[str, Any]:
    limit = int(settings.memory_limit * 2**30) or None
    return peak_memory(name, case, settings.setup, limit, only_estimate=not settings.memory)


def _element(settings: Settings) -> int:
    return 2 if settings.precision == "bf16" else 4


def _line(entry: dict[str, Any]) -> str:
    times = medians(entry["rounds"])
    shown = (f"{name} " + (f"{1e3 * times[name]:.0f} ms" if name in times else "does not fit") for name in entry["memory"])
    return ", ".join(shown)


def tables(cases: list[Case], data: dict[str, Any], settings: Settings) -> Iterator[str]:
    """Times and ratios, then memory, then the work done, in Markdown."""
    entries = [(case, data["cases"][case.key]) for case in cases]
    timed = [(case, entry, medians(entry["rounds"])) for case, entry in entries]
    first = ["stage", "classes", "lengths"]
    begin = {case: [case.stage, case.classes, f"0..{case.longest}" if case.stage == "search" else case.longest] for case in cases}

    pairs = (("naive", "ours"), ("eager", "ours"), ("ours", "plain"), ("ours", "ideal"))
    ratios = [pair for pair in pairs if set(pair) <= set(settings.what)]
    yield f"\n{settings.model}, {settings.precision}, {settings.device}, medians of {settings.runs} steps:\n"
    yield markdown(
        [*first, *(f"{name}, ms" for name in settings.what), *(" / ".join(pair) for pair in ratios)],
        [
            [
                *begin[case],
                *(_shown(times, name) for name in settings.what),
                *(ratio(times, *pair) for pair in ratios),
            ]
            for case, _, times in timed
        ],
    )
    if settings.memory:
        yield "\nPeak memory of a step above the loaded model, MiB, a process each:\n"
        yield markdown(
            [*first, *settings.what],
            [[*begin[case], *(_mib(entry["memory"][name]) for name in settings.what)] for case, entry in entries],
        )
    yield "\nTokens of the text branch in a pass; operations of a step, GFLOP; GFLOP/s reached:\n"
    work_header = [f"{name}, {unit}" for unit in ("tokens", "GFLOP", "GFLOP/s") for name in settings.what]
    yield markdown([*first, *work_header], [[*begin[case], *_work(entry, times)] for case, entry, times in timed])
    for stage, found in data["equality"].items():
        values = ", ".join(f"{name} {value:.1e}" for name, value in found.items() if name != "case")
        yield f"\nours against naive, {stage} ({found['case']}), relative: {values}"


def _shown(times: dict[str, float], name: str) -> str:
    return f"{1e3 * times[name]:.0f}" if name in times else "does not fit"


def _mib(memory: dict[str, Any]) -> str:
    if "does_not_fit" in memory:
        return "does not fit"
    return f"{memory['step_mib']:.0f}" if memory else ""


def _work(entry: dict[str, Any], times: dict[str, float]) -> list[str]:
    work = entry["work"]
    tokens = [str(one["text_tokens"]) for one in work.values()]
    flops = [f"{one['flops'] / 1e9:.0f}" for one in work.values()]
    return [*tokens, *flops, *(f"{one['flops'] / times[name] / 1e9:.0f}" if name in times else "" for name, one in work.items())]
