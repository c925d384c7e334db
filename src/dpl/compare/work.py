"""The runs of a plan, one after another, and the tables and pictures of what is done."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import log
from pathlib import Path
from time import perf_counter
from typing import Any

from dpl.backbones.loading import Backbone
from dpl.compare.plan import Plan, PlannedRun
from dpl.compare.refuse import check_folder, check_plan
from dpl.data.paths import shown
from dpl.data.task import Task
from dpl.errors import DplError
from dpl.files import read_json
from dpl.pipeline import Say, fit, load_common, resume, with_shots
from dpl.reports.comparison import Comparison, Result, describe, write_comparison
from dpl.runs import is_run, plain_settings
from dpl.stage import OnStep


def compare(
    plan: Plan,
    begin: Callable[[PlannedRun, int], None] = lambda run, number: None,
    on_step: OnStep | None = None,
    say: Say = lambda _: None,
    common: tuple[Task, Backbone] | None = None,
) -> Comparison:
    """Does what is left to do of `plan`, and writes the tables and pictures to its folder after every run.

    `begin` is told of every run that begins or goes on, and how many are before it. `common` is as for `fit`. `DplError`,
    before anything is written, where the folder holds other things or runs with other settings, and where a method's settings
    do not fit.
    """
    check_folder(plan)
    common = common or load_common(plan.runs[0].config)
    check_plan(plan, common)
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DplError(f"{plan.out}: cannot be made ({error.strerror}); give another --out") from None
    comparison = _nothing_yet(plan, with_shots(common[0], plan.runs[0].config)[0], common[1])
    done = [planned for planned in plan.runs if _is_finished(planned.run)]
    comparison = replace(comparison, results=tuple(map(_result, done)))
    write_comparison(plan.out, comparison)
    if done:
        say(f"{len(done)} of {len(plan.runs)} runs are there already")
    taken: list[Taken] = []
    left = [planned for planned in plan.runs if not _is_finished(planned.run)]
    told: set[str] = set()

    def say_once(text: str) -> None:
        if text not in told:
            told.add(text)
            say(text)

    for number, planned in enumerate(left, start=1):
        begin(planned, len(done) + number - 1)
        since = perf_counter()
        try:
            _do(planned, on_step, say_once, common)
        except DplError as error:
            raise DplError(f"{planned}: {error}") from None
        result, seconds = _result(planned), perf_counter() - since
        learning = min(result.seconds, seconds)  # of a run that went on, a part
        taken.append(Taken(planned, learning, seconds - learning))
        comparison = comparison.with_result(result)
        write_comparison(plan.out, comparison)
        rest = f"; about {_duration(time_left(taken, left[number:]))} left" if number < len(left) else ""
        counted = f"{len(done) + number} of {len(plan.runs)}"
        say(f"{counted}  {planned}: {result.accuracy:.1%}, {_duration(seconds)}{rest}")
    return comparison


@dataclass(frozen=True)
class Taken:
    """Seconds that a run took: learning, and all else."""

    run: PlannedRun
    learning: float
    rest: float


def time_left(taken: Sequence[Taken], left: Sequence[PlannedRun]) -> float:
    """Seconds that the runs `left` may take, by those of the same method that had shots as similar as possible.

    Learning is taken to be proportional to the shots, the rest to be the same. A method not run yet takes as long as all others
    together on average.
    """
    total = 0.0
    for planned in left:
        wanted, same = planned.config.shots, [one for one in taken if one.run.label == planned.label] or taken
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


def _do(planned: PlannedRun, on_step: OnStep | None, say: Say, common: tuple[Task, Backbone]) -> None:
    """Begins the run, or goes on with it."""
    if is_run(planned.run):
        resume(planned.run, on_step, say, common)
        return
    for path in planned.run.glob(".config.json.*"):  # left by a kill before the folder was a run's
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


def _nothing_yet(plan: Plan, task: Task, backbone: Backbone) -> Comparison:
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
