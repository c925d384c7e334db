"""The runs of a grid, their evaluations beside them, and the tables of what is done."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from dpl.apply import accuracies, for_task
from dpl.backbones.loading import Backbone, load_backbone
from dpl.compare import PlannedRun, compare
from dpl.compare.refuse import check_folder, check_plan
from dpl.data.subset import Classes, subset
from dpl.data.task import Task, load_task
from dpl.errors import DplError
from dpl.files import read_json, write_json
from dpl.methods import method_row
from dpl.pipeline import Say
from dpl.reports.comparison import Result, describe
from dpl.reproduce.grid import Grid
from dpl.reproduce.table import Measured, Reproduction
from dpl.reproduce.text import JSON_NAME, write_reproduction
from dpl.runs import load_run
from dpl.stage import OnStep


def reproduce(
    grid: Grid,
    begin: Callable[[PlannedRun, int], None] = lambda run, number: None,
    on_step: OnStep | None = None,
    say: Say = lambda _: None,
) -> Reproduction:
    """Does what is left to do of `grid`, and writes the tables to its folder after every data set.

    `begin` is told of every run that begins or goes on, and how many are before it. An evaluation on other classes or data is a
    JSON file beside the folder of its run. `DplError`, before anything is written, where data are missing or broken, the folder
    holds other things, or a method cannot do what the protocol asks for.
    """
    _check_folder(grid)
    first = next(iter(grid.plans.values())).runs[0].config
    backbone = load_backbone(first.backbone, first.device, first.precision)
    given = {name: plan.runs[0].config.data for name, plan in grid.plans.items()} | grid.targets
    tasks = {name: load_task(data, root=grid.root) for name, data in given.items()}
    for name, plan in grid.plans.items():
        check_folder(plan)
        check_plan(plan, (tasks[name], backbone))
        _check_classes(grid, name, tasks, backbone)
    for name in grid.absent:
        say(f"{name} is not under --root and left out")
    for name in grid.targets:  # those of the data that are learned on are told with the runs
        for note in tasks[name].notes:
            say(f"{name}: {note}")
    found = _nothing_yet(grid, tasks, backbone)
    _make(grid.out)
    if not (grid.out / JSON_NAME).exists():  # the tables of an earlier time stay until there is more
        write_reproduction(grid.out, found)
    before = 0
    for name, plan in grid.plans.items():

        def begin_next(planned: PlannedRun, number: int, before: int = before) -> None:
            begin(planned, before + number)

        def say_whose(text: str, name: str = name) -> None:
            say(f"{name}: {text}")

        comparison = compare(plan, begin_next, on_step, say_whose, (tasks[name], backbone))
        for result in comparison.results:
            found = found.with_results(_measured(grid, name, result, tasks, backbone, say_whose))
        write_reproduction(grid.out, found)
        before += len(plan.runs)
    return found


def _measured(grid: Grid, name: str, result: Result, tasks: dict[str, Task], backbone: Backbone, say: Say) -> list[Measured]:
    """What a finished run has reached, on its own data and on others: read, or evaluated and written."""
    plan = grid.plans[name]
    place = [column.label for column in plan.columns].index(result.label)
    classes = grid.protocol.classes
    own = Measured(
        data=name,
        role="own",
        classes=classes,
        label=grid.labels[place],
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


def _evaluated(run: Path, file: Path, data: str, task: Task, backbone: Backbone, foreign: bool, say: Say) -> dict[str, Any]:
    """What `file` says, if it is of these parameters, classes and images; else evaluated and written to it."""
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
    """`DplError` where a method learns for each class what the protocol evaluates on other classes."""
    source = subset(tasks[name], grid.protocol.classes)[0]
    others = {target: tasks[target].class_names for target in grid.targets}
    if grid.protocol.classes == "base":
        others[f"the new classes of {name}"] = subset(tasks[name], "new")[0].class_names
    for planned in {planned.label: planned for planned in grid.plans[name].runs}.values():
        design = getattr(planned.config, "design", None)
        if design is None:  # DPL's is known after its search only, and belongs to no class
            continue
        few = method_row(planned.config.method).load()(backbone, source.class_names[:2], source.templates[:1], design)
        for target, names in others.items():
            if few.class_specific and (strange := set(names) - set(source.class_names)):
                raise DplError(
                    f"{planned.label}: what it learns belongs to the classes of {source.name}; {target} has {len(strange)}"
                    " others; leave it out of --methods"
                )


def _check_folder(grid: Grid) -> None:
    """`DplError` where the folder holds other things than this protocol; what a kill may have left of a file does not count."""
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


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DplError(f"{out}: cannot be made ({error.strerror}); give another --out") from None


def _nothing_yet(grid: Grid, tasks: dict[str, Task], backbone: Backbone) -> Reproduction:
    about = describe(grid.command, backbone, 0, 0, "")
    sizes = {name: {"classes": len(task.class_names), "test_images": len(task.test)} for name, task in tasks.items()}
    planned = sum(len(plan.runs) for plan in grid.plans.values())
    kept = {key: about[key] for key in ("command", "backbone", "device", "versions")}
    return Reproduction(
        protocol=grid.name,
        title=grid.protocol.title,
        data=tuple(tasks),
        absent=grid.absent,
        labels=grid.labels,
        methods=grid.methods,
        shots=grid.shots,
        seeds=grid.seeds,
        preset=grid.preset,
        about=kept | {"planned": planned, "data_sets": sizes},
    )
