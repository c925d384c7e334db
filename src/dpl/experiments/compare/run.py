"""Execution of a plan: its runs, one after another, and tables and pictures of the finished ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import log
from pathlib import Path
from time import perf_counter
from typing import Any

from dpl.backbones.loading import Backbone
from dpl.data.paths import shown
from dpl.data.task import Task
from dpl.experiments.compare.plan import Plan, PlannedRun
from dpl.experiments.compare.validate import check_folder, check_plan
from dpl.pipeline import fit, load_common, resume, with_shots
from dpl.reports.comparison import Comparison, Result, describe, write_comparison
from dpl.runs import is_run, plain_settings
from dpl.utils.callbacks import Notify, StepCallback
from dpl.utils.errors import DplError
from dpl.utils.files import read_json


def compare(
    plan: Plan,
    begin: Callable[[PlannedRun, int], None] = lambda run, number: None,
    on_step: StepCallback | None = None,
    say: Notify = lambda _: None,
    common: tuple[Task, Backbone] | None = None,
) -> Comparison:
    """Does the unfinished runs of `plan`, and writes tables and pictures to its folder after every run.

    Args:
        plan: the plan.
        begin: is called with every run that begins or is resumed, and the number of runs before it.
        on_step: receives the progress of the runs.
        say: receives notes for the user.
        common: as for `fit`.

    Returns:
        The results of all runs.

    Raises:
        DplError: before anything is written, the folder holds other files or runs with other settings, or a method's settings
            do not fit; or a run fails.
    """
    check_folder(plan)
    common = common or load_common(plan.runs[0].config)
    check_plan(plan, common)
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DplError(f"{plan.out}: cannot be made ({error.strerror}); give another --out") from None
    comparison = _empty_comparison(plan, with_shots(common[0], plan.runs[0].config)[0], common[1])
    done = [planned for planned in plan.runs if _is_finished(planned.run)]
    comparison = replace(comparison, results=tuple(map(_result, done)))
    write_comparison(plan.out, comparison)
    if done:
        say(f"{len(done)} of {len(plan.runs)} runs are there already")
    times: list[RunTime] = []
    left = [planned for planned in plan.runs if not _is_finished(planned.run)]
    said: set[str] = set()

    def say_once(text: str) -> None:
        if text not in said:
            said.add(text)
            say(text)

    for number, planned in enumerate(left, start=1):
        begin(planned, len(done) + number - 1)
        start = perf_counter()
        try:
            _begin_or_resume(planned, on_step, say_once, common)
        except DplError as error:
            raise DplError(f"{planned}: {error}") from None
        result, seconds = _result(planned), perf_counter() - start
        learning = min(result.seconds, seconds)  # `result.seconds` of a resumed run includes earlier parts
        times.append(RunTime(planned, learning, seconds - learning))
        comparison = comparison.with_result(result)
        write_comparison(plan.out, comparison)
        rest = f"; about {_duration(time_left(times, left[number:]))} left" if number < len(left) else ""
        counted = f"{len(done) + number} of {len(plan.runs)}"
        say(f"{counted}  {planned}: {result.accuracy:.1%}, {_duration(seconds)}{rest}")
    return comparison


@dataclass(frozen=True)
class RunTime:
    """Duration of a run in seconds: learning, and everything else."""

    run: PlannedRun
    learning: float
    rest: float


def time_left(times: Sequence[RunTime], left: Sequence[PlannedRun]) -> float:
    """Estimates the duration of the remaining runs.

    A run is estimated by the mean of the runs of the same method with the nearest number of shots (by ratio), or of all methods
    if this one has not run yet. The time for learning is proportional to the shots; the rest is constant.

    Args:
        times: durations of the finished runs.
        left: the remaining runs.

    Returns:
        Seconds.
    """
    total = 0.0
    for planned in left:
        wanted, same = planned.config.shots, [one for one in times if one.run.label == planned.label] or times
        nearest = min((one.run.config.shots for one in same), key=lambda shots: abs(log(shots / wanted)))
        similar = [one for one in same if one.run.config.shots == nearest]
        total += sum(one.learning * wanted / nearest + one.rest for one in similar) / len(similar)
    return total


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _is_finished(run: Path) -> bool:
    return is_run(run) and (run / "report.html").exists() and not (run / "checkpoint").exists()


def _begin_or_resume(planned: PlannedRun, on_step: StepCallback | None, say: Notify, common: tuple[Task, Backbone]) -> None:
    """Begins the run, or resumes it."""
    if is_run(planned.run):
        resume(planned.run, on_step, say, common)
        return
    for path in planned.run.glob(".config.json.*"):  # left by a kill while config.json was written
        path.unlink()
    fit(planned.config, on_step, say, common)


def _result(planned: PlannedRun) -> Result:
    metrics = read_json(planned.run / "metrics.json")
    return Result(
        label=planned.label,
        method=planned.config.method,
        shots=planned.config.shots,
        seed=planned.config.seed,
        folder=planned.run.name,
        accuracy=metrics["accuracy"],
        zero_shot_accuracy=metrics["zero_shot_accuracy"],
        trainable_parameters=metrics["trainable_parameters"],
        seconds=metrics["seconds"],
        peak_memory_bytes=metrics.get("peak_memory_bytes"),
    )


def _empty_comparison(plan: Plan, task: Task, backbone: Backbone) -> Comparison:
    first = plan.runs[0].config
    settings: dict[str, dict[str, Any]] = {column.label: {} for column in plan.columns}
    for planned in plan.runs:
        config = plain_settings(planned.config)
        settings[planned.label][str(planned.config.shots)] = {key: config[key] for key in config if key not in ("seed", "out")}
    about = describe(plan.command, backbone, len(task.class_names), len(task.test), (first.template or task.templates)[0])
    return Comparison(
        task=shown(task.name),
        data=first.data,
        labels=tuple(column.label for column in plan.columns),
        shots=plan.shots,
        seeds=plan.seeds,
        reference=plan.reference,
        preset=plan.preset,
        about=about | {"settings": settings},
    )
