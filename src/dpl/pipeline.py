"""A whole run, from data to a run folder: the method starts (DPL searches), trains, is evaluated and reported on."""

import re
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from dpl.backbones.loading import Backbone, load_backbone
from dpl.classifier import ZeroShot, sentences
from dpl.config import AugmentedRun, FitRun, RunConfig, SearchRun, TrainRun, checked
from dpl.data.catalog import CATALOG
from dpl.data.chosen import chosen
from dpl.data.fewshot import FewShot, sample
from dpl.data.subset import subset
from dpl.data.task import BUILTIN, Augmentation, Task, load_task
from dpl.data.templates import with_templates
from dpl.errors import DplError
from dpl.evaluate import ClassFeatures, Evaluation, evaluate_side_by_side
from dpl.explain import explain_run
from dpl.explain.calibration import calibration
from dpl.explain.cost import cost
from dpl.files import write_json
from dpl.memory import peak_memory, reset_peak_memory
from dpl.methods import method_row
from dpl.methods.method import Inputs, Method
from dpl.reports.html import write_report
from dpl.runs import (
    check_backbone,
    check_new,
    create,
    item_names,
    read_config,
    save_class_features,
    save_layout,
    save_parameters,
    settings_of,
)
from dpl.stage import OnStep, Stage, read_history
from dpl.track import Tracking, check_trackers, forget
from dpl.train import train

AUGMENTATIONS = {
    "protocol": Augmentation((0.08, 1.0), flip=True),
    "gentle": Augmentation((0.5, 1.0), flip=True),
    "none": Augmentation((1.0, 1.0), flip=False),
}

Say = Callable[[str], None]


def fit(
    config: RunConfig, on_step: OnStep | None = None, say: Say = lambda _: None, common: tuple[Task, Backbone] | None = None
) -> Path:
    """Does the run that `config` describes and returns its folder; bad input raises `DplError` before anything is written.

    Its method decides what that is; a `SearchRun` is over when the layout is found. `common`, of `load_common`, spares many
    runs on the same data and backbone loading them anew.
    """
    config = with_full_paths(checked(config))
    run = config.out or default_folder(config)
    check_new(run, config.overwrite)
    method, inputs = method_row(config.method).load(), load_inputs(config, common)
    method.check(config, inputs)
    check_trackers(config.track)
    for note in (*inputs.task.notes, *inputs.shots.notes):
        say(note)
    forget(run)
    create(run, config, inputs.task, inputs.shots, inputs.backbone)
    return _tracked(run, config, inputs, on_step, say)


def resume(
    run: Path, on_step: OnStep | None = None, say: Say = lambda _: None, common: tuple[Task, Backbone] | None = None
) -> Path:
    """Goes on with a run that was stopped; the result is that of a run never stopped. A finished run stays as it is.

    `common` is as for `fit`, its backbone in the precision that the run began with.
    """
    config = settings_of(run)
    made_with = read_config(run)
    # What "auto" meant when the run began; runs from before there was a choice are fp32.
    precision = made_with["backbone"].get("precision", "fp32")
    config = replace(config, backbone=made_with["backbone"]["name"], precision=precision)
    # The file that the shots came from may have gone: the run has their names too.
    inputs = load_inputs(replace(config, shots_from=config.shots_from and run), common)
    check_backbone(run, inputs.backbone)
    if made_with["shots"] != {"train": item_names(inputs.shots.train), "val": item_names(inputs.shots.val)}:
        raise DplError(f"{run}: the images in {config.data} have changed since the run began; start it anew")
    if (run / "report.html").exists() and not (run / "checkpoint").exists():
        say(f"{run} is finished already")
        return run
    check_trackers(config.track)
    return _tracked(run, config, inputs, on_step, say)


def default_folder(config: RunConfig) -> Path:
    """runs/TASK-SHOTSshot-seedSEED, with the classes and the method behind the task if they are others than all and dpl."""
    parts = [data_name(config.data)]
    parts += [part for part, usual in ((config.classes, "all"), (config.method, "dpl")) if part != usual]
    return Path("runs") / "-".join([*parts, f"{config.shots}shot", f"seed{config.seed}"])


def data_name(data: str) -> str:
    """What runs on `data` are called: a task's or folder's name, a table's without its ending, a hub's without "hf:"."""
    path = Path(data)
    name = path.resolve().stem if path.is_file() else path.resolve().name
    return re.sub(r"[^\w.=+-]", "-", name.removeprefix("hf:"))


def with_full_paths(config: RunConfig) -> RunConfig:
    """Files and folders by their full paths, so that the run can go on from anywhere."""
    given = {name: path.resolve() for name in ("root", "names", "shots_from") if (path := getattr(config, name))}
    config = replace(config, **given)
    if config.data not in BUILTIN and config.data not in CATALOG and Path(config.data).exists():
        config = replace(config, data=str(Path(config.data).resolve()))
    if isinstance(config, TrainRun | FitRun) and config.layout and Path(config.layout).exists():
        config = replace(config, layout=str(Path(config.layout).resolve()))
    return config


def load_common(config: RunConfig) -> tuple[Task, Backbone]:
    """What all runs on this data and backbone have in common."""
    task = load_task(config.data, root=config.root, names=config.names, strict=config.strict)
    return task, load_backbone(config.backbone, config.device, config.precision)


def load_inputs(config: RunConfig, common: tuple[Task, Backbone] | None = None) -> Inputs:
    """What the run learns from; `DplError` where data or backbone cannot be loaded, or a text is too long."""
    task, backbone = common or load_common(config)
    task = with_templates(task, config.template)
    if isinstance(config, AugmentedRun) and config.augmentation != "task":
        task = replace(task, augmentation=AUGMENTATIONS[config.augmentation])
    task, shots = with_shots(task, config)
    for template in task.templates:  # a text that is too long is bad input too: say so before anything is written
        backbone.tokenize(sentences(template, task.class_names))
    return Inputs(backbone, task, shots)


def with_shots(task: Task, config: RunConfig) -> tuple[Task, FewShot]:
    """The task with the classes that the run is about, and its shots, which are drawn before a half of the classes is taken.

    Raises `DplError` where there is nothing to draw from, no such half (`subset`), or not the shots that are named (`chosen`).
    """
    shots = chosen(task, config.shots_from, config.shots) if config.shots_from else sample(task, config.shots, config.seed)
    return subset(task, config.classes, shots)


def _tracked(run: Path, config: RunConfig, inputs: Inputs, on_step: OnStep | None, say: Say) -> Path:
    """`_go_on`, with the trackers that are asked for."""
    tracking = Tracking(run, config, on_step, say)
    with tracking.opened():
        return _go_on(run, config, inputs, tracking)


def _go_on(run: Path, config: RunConfig, inputs: Inputs, tracking: Tracking) -> Path:
    """All that is left to do in `run`; every part can be done again after a kill."""
    reset_peak_memory(inputs.backbone.device)
    begun, before = time.perf_counter(), sum(record["seconds"] for record in read_history(run))
    model = method_row(config.method).load().start(config, inputs, run, tracking)
    save_layout(run, model.layout)
    tracking.tell_layout(model.layout)
    if not isinstance(config, SearchRun):
        train(model, inputs, config.optimization, config.seed, Stage("train", run, tracking))
        save_parameters(run, model)
        seconds, peak = before + time.perf_counter() - begun, peak_memory(inputs.backbone.device)
        frozen, results = _evaluated(model, save_class_features(run, model), inputs.task, tracking)
        found = metrics(model, inputs.task, config, seconds, *results)
        found |= {"peak_memory_bytes": peak}
        write_json(run / "metrics.json", found)
        tracking.tell_result(found)
        explain_run(run, model, frozen, inputs.task, *results[:2])
    write_report(run)
    shutil.rmtree(run / "checkpoint", ignore_errors=True)
    return run


def _evaluated(
    model: Method, class_features: ClassFeatures, task: Task, on_step: OnStep | None
) -> tuple[ZeroShot, list[Evaluation]]:
    """Zero-shot in the first template, and what the test images give: of the model, of zero-shot, and of zero-shot's ensemble."""
    frozen = [ZeroShot(model.backbone, task.class_names, templates) for templates in (task.templates[:1], task.templates)]
    return frozen[0], evaluate_side_by_side([model, *frozen], task.test, on_step, {model: class_features})


def metrics(
    model: Method,
    task: Task,
    config: RunConfig,
    seconds: float,
    tuned: Evaluation,
    plain: Evaluation,
    ensemble: Evaluation,
) -> dict[str, Any]:
    """What metrics.json holds: accuracies (0-1) of the tuned and the frozen model on the test images, calibration, cost, sizes,
    and seconds."""
    layout_cost = cost(model)
    return {
        "method": model.name,
        "accuracy": tuned.accuracy,
        "accuracy_interval": tuned.interval,
        "zero_shot_accuracy": plain.accuracy,
        "zero_shot_interval": plain.interval,
        "zero_shot_ensemble_accuracy": ensemble.accuracy,
        "classes": len(task.class_names),
        "class_names": task.class_names,
        "shots": config.shots,
        "seed": config.seed,
        "test_images": len(task.test),
        "layout_tokens": model.layout.tokens,
        **model.scalars,
        "seconds": round(seconds, 3),
        "trainable_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "per_class": [
            {
                "name": name,
                "images": int((tuned.labels == label).sum()),
                "accuracy": tuned.class_accuracy(label),
                "zero_shot_accuracy": plain.class_accuracy(label),
            }
            for label, name in enumerate(task.class_names)
        ],
        "confusions": tuned.confusions(),
        "calibration": {"tuned": calibration(tuned), "zero_shot": calibration(plain)},
        **({"cost": layout_cost} if layout_cost else {}),
    }
