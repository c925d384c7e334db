"""Execution of a grid: its runs, their evaluations on other classes or data, and the tables of the results so far."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from dpl.backbones.loading import Backbone, load_backbone
from dpl.data.choices import Classes
from dpl.data.load import load_task
from dpl.data.subset import subset
from dpl.data.task import Task
from dpl.experiments.compare import PlannedRun, compare
from dpl.experiments.compare.validate import check_folder, check_plan
from dpl.experiments.reproduce.grid import Grid
from dpl.experiments.reproduce.table import Measured, Reproduction
from dpl.experiments.reproduce.text import JSON_NAME, write_reproduction
from dpl.inference import accuracies, for_task
from dpl.methods import method_spec
from dpl.reports.comparison import Result, describe
from dpl.runs import load_run
from dpl.utils.callbacks import Notify, StepCallback
from dpl.utils.errors import DplError
from dpl.utils.files import read_json, write_json


def reproduce(
    grid: Grid,
    begin: Callable[[PlannedRun, int], None] = lambda run, number: None,
    on_step: StepCallback | None = None,
    say: Notify = lambda _: None,
) -> Reproduction:
    """Does the unfinished runs and evaluations of `grid`, and writes the tables to its folder after every data set.

    An evaluation on other classes or data is stored in a JSON file beside the folder of its run.

    Args:
        grid: the grid of a protocol.
        begin: is called with every run that begins or is resumed, and the number of runs before it.
        on_step: receives the progress of the runs.
        say: receives notes for the user.

    Returns:
        The results of all runs.

    Raises:
        DplError: before anything is written, data are missing or broken, the folder holds other files, or a method does not fit
            the protocol; or a run fails.
    """
    _check_folder(grid)
    first = grid.first.runs[0].config
    backbone = load_backbone(first.backbone, **first.load_options())
    given = {name: plan.runs[0].config.data for name, plan in grid.plans.items()} | grid.targets
    tasks = {name: load_task(data, root=grid.root) for name, data in given.items()}
    for name, plan in grid.plans.items():
        check_folder(plan)
        check_plan(plan, (tasks[name], backbone))
        _check_classes(grid, name, tasks, backbone)
    for name in grid.absent:
        say(f"{name} is not under --root and left out")
    for name in grid.targets:  # `compare` reports the notes of the data learned on
        for note in tasks[name].notes:
            say(f"{name}: {note}")
    found = _empty_reproduction(grid, tasks, backbone)
    _make_folder(grid.out)
    if not (grid.out / JSON_NAME).exists():  # earlier tables stay until a data set is finished
        write_reproduction(grid.out, found)
    before = 0
    for name, plan in grid.plans.items():

        def begin_next(planned: PlannedRun, number: int, before: int = before) -> None:
            begin(planned, before + number)

        def say_with_name(text: str, name: str = name) -> None:
            say(f"{name}: {text}")

        comparison = compare(plan, begin_next, on_step, say_with_name, (tasks[name], backbone))
        for result in comparison.results:
            found = found.with_results(_measured(grid, name, result, tasks, backbone, say_with_name))
        write_reproduction(grid.out, found)
        before += len(plan.runs)
    return found


def _measured(grid: Grid, name: str, result: Result, tasks: dict[str, Task], backbone: Backbone, say: Notify) -> list[Measured]:
    """The accuracies of a finished run on its own and on other data; missing evaluations are done and stored."""
    plan, classes = grid.plans[name], grid.protocol.classes
    own = Measured(
        data=name,
        role="own",
        classes=classes,
        label=result.label,
        method=result.method,
        shots=result.shots,
        seed=result.seed,
        accuracy=result.accuracy,
        zero_shot_accuracy=result.zero_shot_accuracy,
        learned_on=name,
        folder=f"{name}/{result.folder}",
    )
    others: list[tuple[str, str, Classes, str]] = []
    if classes == "base":
        others.append((name, "new", "new", f"{result.folder}.new.json"))
    others.extend((target, "target", "all", f"{result.folder}.on-{target}.json") for target in grid.targets)
    measured = [own]
    for data, role, half, file in others:
        task, run = subset(tasks[data], half)[0], plan.out / result.folder
        reached = _evaluated(run, plan.out / file, data, task, backbone, role == "target", say)
        scores = {key: reached[key] for key in ("accuracy", "zero_shot_accuracy")}
        measured.append(replace(own, data=data, role=role, classes=half, **scores))
    return measured


def _evaluated(run: Path, file: Path, data: str, task: Task, backbone: Backbone, foreign: bool, say: Notify) -> dict[str, Any]:
    """Reads the evaluation in `file` if it belongs to these parameters, classes and images; else evaluates and writes it."""
    digest = hashlib.sha256((run / "prompts.safetensors").read_bytes())
    for part in (*task.class_names, *(item.name for item in task.test)):
        digest.update(b"\0" + part.encode(errors="surrogatepass"))
    of = digest.hexdigest()
    try:
        kept = read_json(file)
        if isinstance(kept, dict) and kept.get("of") == of:
            return kept
    except DplError:
        pass
    model = load_run(run, backbone)
    templates = task.templates[:1] if foreign else model.templates[:1]
    found = accuracies(run, for_task(model, task), task, templates) | {"data": data, "of": of}
    write_json(file, found)
    say(f"{run.name} on {task.name}: {found['accuracy']:.1%}")
    return found


def _check_classes(grid: Grid, name: str, tasks: dict[str, Task], backbone: Backbone) -> None:
    """Raises `DplError` for a method with per-class parameters if the protocol evaluates on other classes."""
    source = subset(tasks[name], grid.protocol.classes)[0]
    others = {target: tasks[target].class_names for target in grid.targets}
    if grid.protocol.classes == "base":
        others[f"the new classes of {name}"] = subset(tasks[name], "new")[0].class_names
    for planned in {planned.label: planned for planned in grid.plans[name].runs}.values():
        design = getattr(planned.config, "design", None)
        if design is None:  # DPL: its layout is known only after the search, and it has no per-class parameters
            continue
        few = method_spec(planned.config.method).load()(backbone, source.class_names[:2], source.templates[:1], design)
        for target, names in others.items():
            if few.class_specific and (strange := set(names) - set(source.class_names)):
                raise DplError(
                    f"{planned.label}: what it learns belongs to the classes of {source.name}; {target} has {len(strange)}"
                    " others; leave it out of --methods"
                )


def _check_folder(grid: Grid) -> None:
    """Raises `DplError` if the folder holds anything but this protocol; temporary files left by a kill are ignored."""
    out = grid.out
    if out.exists() and not out.is_dir():
        raise DplError(f"{out}: is a file; give another --out")
    if not out.exists() or all(path.name.startswith(f".{JSON_NAME}.") for path in out.iterdir()):
        return
    try:
        there = read_json(out / JSON_NAME)["reproduction"]["protocol"]
    except (DplError, KeyError, TypeError):
        raise DplError(f"{out}: holds other files than a reproduction; give another --out") from None
    if there != grid.name:
        raise DplError(f"{out}: holds {there}; give another --out")


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DplError(f"{out}: cannot be made ({error.strerror}); give another --out") from None


def _empty_reproduction(grid: Grid, tasks: dict[str, Task], backbone: Backbone) -> Reproduction:
    about = describe(grid.command, backbone, 0, 0, "")
    sizes = {name: {"classes": len(task.class_names), "test_images": len(task.test)} for name, task in tasks.items()}
    planned = sum(len(plan.runs) for plan in grid.plans.values())
    kept = {key: about[key] for key in ("command", "backbone", "device", "versions")}
    return Reproduction(
        protocol=grid.name,
        title=grid.protocol.title,
        data=tuple(tasks),
        absent=grid.absent,
        labels=tuple(column.label for column in grid.first.columns),
        methods=tuple(column.method for column in grid.first.columns),
        shots=grid.first.shots,
        seeds=grid.first.seeds,
        preset=grid.first.preset,
        about=kept | {"planned": planned, "data_sets": sizes},
    )
