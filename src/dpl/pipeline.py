"""A whole run, from data to a run folder: search, train, evaluate, report, whichever its kind has."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpl.backbones.loading import Backbone, load_backbone
from dpl.classifier import Classifier, ZeroShot, sentences
from dpl.config import FitRun, RunConfig, SearchRun, TrainRun, checked
from dpl.data.fewshot import FewShot, sample
from dpl.data.task import BUILTIN, Augmentation, Task, load_task
from dpl.errors import DplError
from dpl.evaluate import ClassFeatures, evaluate_side_by_side
from dpl.files import write_json
from dpl.prompts.layout import PromptLayout
from dpl.reports.html import write_report
from dpl.runs import (
    check_backbone,
    check_new,
    create,
    found_prompts,
    is_run,
    item_names,
    read_config,
    save_class_features,
    save_found_prompts,
    save_layout,
    save_prompts,
    settings_of,
)
from dpl.search import search_layout
from dpl.stage import OnStep, Stage
from dpl.train import train_prompts

AUGMENTATIONS = {"protocol": Augmentation((0.08, 1.0), flip=True), "none": Augmentation((1.0, 1.0), flip=False)}

Say = Callable[[str], None]


@dataclass(frozen=True)
class _Inputs:
    task: Task
    shots: FewShot
    backbone: Backbone


def fit(config: RunConfig, on_step: OnStep | None = None, say: Say = lambda _: None) -> Path:
    """Does the run that `config` describes and returns its folder; bad input raises `DplError` before anything is written.

    A `FitRun` searches and trains, a `SearchRun` only searches, a `TrainRun` trains in its given layout.
    """
    config = _with_full_paths(checked(config))
    run = config.out or default_folder(config)
    check_new(run, config.overwrite)
    inputs = _load(config)
    _given_layout(config, inputs.backbone)
    for note in (*inputs.task.notes, *inputs.shots.notes):
        say(note)
    create(run, config, inputs.task, inputs.shots, inputs.backbone)
    return _go_on(run, config, inputs, on_step, say)


def resume(run: Path, on_step: OnStep | None = None, say: Say = lambda _: None) -> Path:
    """Goes on with a run that was stopped; the result is that of a run never stopped. A finished run stays as it is."""
    config = settings_of(run)
    made_with = read_config(run)
    # What "auto" meant when the run began; runs from before there was a choice are fp32.
    precision = made_with["backbone"].get("precision", "fp32")
    inputs = _load(replace(config, backbone=made_with["backbone"]["name"], precision=precision))
    check_backbone(run, inputs.backbone)
    if made_with["shots"] != {"train": item_names(inputs.shots.train), "val": item_names(inputs.shots.val)}:
        raise DplError(f"{run}: the images in {config.data} have changed since the run began; start it anew")
    if (run / "report.html").exists() and not (run / "checkpoint").exists():
        say(f"{run} is finished already")
        return run
    return _go_on(run, config, inputs, on_step, say)


def default_folder(config: RunConfig) -> Path:
    """runs/TASK-SHOTSshot-seedSEED."""
    return Path("runs") / f"{Path(config.data).resolve().name}-{config.shots}shot-seed{config.seed}"


def _with_full_paths(config: RunConfig) -> RunConfig:
    """Folders by their full paths, so that the run can go on from anywhere."""
    if config.data not in BUILTIN and Path(config.data).exists():
        config = replace(config, data=str(Path(config.data).resolve()))
    if isinstance(config, TrainRun) and Path(config.layout).exists():
        config = replace(config, layout=str(Path(config.layout).resolve()))
    return config


def _load(config: RunConfig) -> _Inputs:
    task = load_task(config.data, strict=config.strict)
    if config.template:
        task = replace(task, templates=(config.template, *task.templates[1:]))
    if config.augmentation != "task":
        task = replace(task, augmentation=AUGMENTATIONS[config.augmentation])
    shots = sample(task, config.shots, config.seed)
    backbone = load_backbone(config.backbone, config.device, config.precision)
    for template in task.templates:  # a text that is too long is bad input too: say so before anything is written
        backbone.tokenize(sentences(template, task.class_names))
    return _Inputs(task, shots, backbone)


def _given_layout(config: RunConfig, backbone: Backbone) -> PromptLayout | None:
    """The layout that a `TrainRun` names: a file, a run folder, or one length for all layers."""
    if not isinstance(config, TrainRun):
        return None
    given = config.layout
    if given.isdecimal():
        return PromptLayout.uniform(int(given), backbone.image.depth, backbone.text.depth)
    path = Path(given)
    layout = PromptLayout.load(path / "layout.json" if is_run(path) else path)
    if (len(layout.image), len(layout.text)) != (backbone.image.depth, backbone.text.depth):
        raise DplError(
            f"{given}: a layout of {len(layout.image)} image and {len(layout.text)} text layers does not fit {backbone.name},"
            f" which has {backbone.image.depth} and {backbone.text.depth}"
        )
    return layout


def _go_on(run: Path, config: RunConfig, inputs: _Inputs, on_step: OnStep | None, say: Say) -> Path:
    """All that is left to do in `run`; every part can be done again after a kill."""
    task, shots, backbone = inputs.task, inputs.shots, inputs.backbone
    shared: dict[str, Any] = {"prompt_std": config.prompt_std, "seed": config.seed}
    layout = _given_layout(config, backbone)
    if layout is None and (run / "layout.json").exists():
        layout = PromptLayout.load(run / "layout.json")
    if layout is None and isinstance(config, SearchRun | FitRun):
        found = search_layout(backbone, task, shots, config.search, stage=Stage("search", run, on_step), **shared)
        layout = found.layout
        save_found_prompts(run, found.prompts)  # before the layout: where that is, the search is over
    assert layout is not None  # every kind of run has one now
    save_layout(run, layout)
    if isinstance(config, TrainRun | FitRun):
        start = found_prompts(run) if isinstance(config, FitRun) and config.inherit else None
        stage = Stage("train", run, on_step)
        model = train_prompts(backbone, task, shots, layout, config.train, start=start, stage=stage, **shared)
        save_prompts(run, model)
        class_features = save_class_features(run, model)
        write_json(run / "metrics.json", metrics(model, class_features, task, config, on_step))
    write_report(run)
    shutil.rmtree(run / "checkpoint", ignore_errors=True)
    return run


def metrics(
    model: Classifier, class_features: ClassFeatures, task: Task, config: RunConfig, on_step: OnStep | None = None
) -> dict[str, Any]:
    """What metrics.json holds: accuracies (0-1) of the tuned and the frozen model on the test images, and the sizes."""
    frozen = [ZeroShot(model.backbone, task.class_names, templates) for templates in (task.templates[:1], task.templates)]
    tuned, plain, ensemble = evaluate_side_by_side([model, *frozen], task.test, on_step, {model: class_features})
    return {
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
        "gate": model.gate,
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
    }
