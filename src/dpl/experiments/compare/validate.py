"""Checks of a plan before anything is written: other files in its folder, and settings that do not fit."""

from dataclasses import asdict, replace

from dpl.backbones.loading import Backbone
from dpl.data.fewshot import FewShot
from dpl.data.task import Task
from dpl.experiments.compare.plan import Plan, PlannedRun
from dpl.methods import method_spec
from dpl.pipeline import load_inputs, with_shots
from dpl.reports.comparison import JSON_NAME
from dpl.runs import check_backbone, is_run, item_names, read_config, settings_of, with_own_preprocessing
from dpl.track import check_trackers
from dpl.utils.errors import DplError
from dpl.utils.files import read_json
from dpl.utils.nested import flat


def check_plan(plan: Plan, common: tuple[Task, Backbone]) -> None:
    """Checks the runs and methods of a plan.

    Args:
        plan: the plan.
        common: the task and the backbone of its runs.

    Raises:
        DplError: a run of the plan exists with other settings, or a method's settings do not fit the task or the backbone, or
            a tracker is not available.
    """
    check_trackers(plan.runs[0].config.track)
    for planned in plan.runs:
        _check_run(planned, *common)
    for column in plan.columns:
        _check_method(next(planned for planned in plan.runs if planned.label == column.label), common)


def check_folder(plan: Plan) -> None:
    """Checks that the folder of a plan is empty or belongs to a comparison on the same data.

    Temporary files that a kill has left are ignored.

    Raises:
        DplError: the folder is a file, holds other files, or holds a comparison on other data.
    """
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
    """Raises `DplError` if the run's folder holds anything but this run, with the same settings, backbone and images."""
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
    if with_own_preprocessing(run, backbone) is not backbone:
        raise DplError(f"{run}: was made with images resized in another way; ask for the same, or give another --out")
    made_with = read_config(run)
    if made_with["backbone"].get("precision") != backbone.precision:
        raise DplError(
            f"{run}: was made in {made_with['backbone'].get('precision')}, not {backbone.precision}; give another --out"
        )
    part, shots = with_shots(task, planned.config)
    if made_with["shots"] != _names(shots):  # unreadable shots may have been replaced
        shots = load_inputs(planned.config, (task, backbone)).shots
    if (made_with["shots"], made_with["test_images"]) != (_names(shots), len(part.test)):
        raise DplError(f"{run}: the images in {planned.config.data} have changed since the run began; give another --out")


def _names(shots: FewShot) -> dict[str, list[str]]:
    return {"train": item_names(shots.train), "val": item_names(shots.val)}


def _check_method(planned: PlannedRun, common: tuple[Task, Backbone]) -> None:
    try:
        method_spec(planned.config.method).load().check(planned.config, load_inputs(planned.config, common, decode=False))
    except DplError as error:
        raise DplError(f"{planned.label}: {error}") from None
