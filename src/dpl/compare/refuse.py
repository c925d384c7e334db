"""What stands in the way of a plan, found before anything is written: other things in its folder, settings that do not fit."""

from dataclasses import asdict, replace

from dpl.backbones.loading import Backbone
from dpl.compare.plan import Plan, PlannedRun
from dpl.data.task import Task
from dpl.errors import DplError
from dpl.files import read_json
from dpl.methods import method_row
from dpl.nested import flat
from dpl.pipeline import load_inputs, with_shots
from dpl.reports.comparison import JSON_NAME
from dpl.runs import check_backbone, is_run, item_names, read_config, settings_of
from dpl.track import check_trackers


def check_plan(plan: Plan, common: tuple[Task, Backbone]) -> None:
    """`DplError` where a run of the plan is there with other settings, or a method's settings do not fit task or backbone."""
    check_trackers(plan.runs[0].config.track)
    for planned in plan.runs:
        _check_run(planned, *common)
    for column in plan.columns:
        _check_method(next(planned for planned in plan.runs if planned.label == column.label), common)


def check_folder(plan: Plan) -> None:
    """`DplError` where the folder is not this comparison's; only what a kill may have left of a file does not count."""
    out = plan.out
    if out.exists() and not out.is_dir():
        raise DplError(f"{out}: is a file; give another --out")
    if not out.exists() or all(path.name.startswith(f".{JSON_NAME}.") for path in out.iterdir()):
        return
    try:
        data = read_json(out / JSON_NAME)["comparison"]["data"]
    except (DplError, KeyError, TypeError):
        raise DplError(f"{out}: holds other files than a comparison; give another --out") from None
    if data != plan.runs[0].config.data:
        raise DplError(f"{out}: holds a comparison on {data}; give another --out")


def _check_run(planned: PlannedRun, task: Task, backbone: Backbone) -> None:
    """`DplError` where the folder holds something else than this very run."""
    run = planned.run
    if not is_run(run):
        if run.exists() and not (run.is_dir() and all(path.name.startswith(".config.json.") for path in run.iterdir())):
            raise DplError(f"{run}: holds other files than a run; give another --out")
        return
    both = (settings_of(run), planned.config)
    there, asked = (flat(asdict(replace(config, out=None, root=None, track=()))) for config in both)
    for name in dict.fromkeys([*there, *asked]):
        if (old := there.get(name)) != (new := asked.get(name)):
            option = name.replace("_", "-")
            old, new = (" ".join(map(str, value)) or "nothing" if isinstance(value, tuple) else value for value in (old, new))
            raise DplError(f"{run}: was made with --{option} {old}, not {new}; ask for the same, or give another --out")
    check_backbone(run, backbone)
    made_with = read_config(run)
    if made_with["backbone"].get("precision") != backbone.precision:
        raise DplError(
            f"{run}: was made in {made_with['backbone'].get('precision')}, not {backbone.precision}; give another --out"
        )
    task, shots = with_shots(task, planned.config)
    images = {"train": item_names(shots.train), "val": item_names(shots.val)}
    if (made_with["shots"], made_with["test_images"]) != (images, len(task.test)):
        raise DplError(f"{run}: the images in {planned.config.data} have changed since the run began; give another --out")


def _check_method(planned: PlannedRun, common: tuple[Task, Backbone]) -> None:
    try:
        method_row(planned.config.method).load().check(planned.config, load_inputs(planned.config, common))
    except DplError as error:
        raise DplError(f"{planned.label}: {error}") from None
