"""Executes a run, from data to a run folder: start the method (DPL searches), train, evaluate, report."""

import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dpl.backbones.devices import choice_line
from dpl.backbones.loading import Backbone, load_backbone
from dpl.classifier import ZeroShot
from dpl.config import AugmentedRun, FitRun, HeadedRun, RunConfig, SearchRun, TrainRun, checked
from dpl.data.fewshot import FewShot, sample
from dpl.data.load import BUILTIN, load_task
from dpl.data.pixels.decode import UnreadableImage
from dpl.data.pixels.store import ImageStore
from dpl.data.shots_from import read_shots
from dpl.data.sources.catalog import CATALOG
from dpl.data.subset import subset
from dpl.data.task import Augmentation, Item, Task
from dpl.data.templates import given_templates, sentences, with_templates
from dpl.data.validate import skipped, without
from dpl.evaluate import ClassFeatures, Evaluation, evaluate_on_task
from dpl.explain import explain_run
from dpl.explain.calibration import calibration
from dpl.explain.cost import cost
from dpl.methods import method_spec
from dpl.methods.method import Inputs, Method, SearchStore
from dpl.optim.stage import Stage, read_history
from dpl.prompts.layout import PromptLayout
from dpl.reports.web.html import write_report
from dpl.runs import (
    ANY_RESIZE,
    FoundInRun,
    check_backbone,
    check_new,
    check_resumable,
    create,
    read_config,
    save_class_features,
    save_head,
    save_layout,
    save_parameters,
    settings_of,
    with_own_preprocessing,
)
from dpl.track import Tracking, check_trackers, forget
from dpl.train import fit_head, train
from dpl.utils.callbacks import Notify, StepCallback
from dpl.utils.errors import DplError
from dpl.utils.files import write_json
from dpl.utils.memory import peak_memory, reset_peak_memory, return_large_blocks

AUGMENTATIONS = {
    "protocol": Augmentation((0.08, 1.0), flip=True),
    "gentle": Augmentation((0.5, 1.0), flip=True),
    "none": Augmentation((1.0, 1.0), flip=False),
}


def fit(
    config: RunConfig,
    on_step: StepCallback | None = None,
    say: Notify = lambda _: None,
    common: tuple[Task, Backbone] | None = None,
) -> Path:
    """Executes a run: search and training as its method needs them, evaluation, report. A `SearchRun` ends with the layout.

    Args:
        config: the settings of the run.
        on_step: receives the progress after every step.
        say: receives notes for the user.
        common: the result of `load_common`, so that many runs on the same data and backbone load them once.

    Returns:
        The run folder.

    Raises:
        DplError: bad input, before anything is written; or a loss is not finite, or a file cannot be written.

    Example:
        >>> import dpl
        >>> run = dpl.fit(dpl.FitRun("digits", shots=1, layout="1", train=dpl.TrainConfig(epochs=1)))
        >>> (run / "report.html").exists()
        True
    """
    config = self_contained(checked(config))
    run = config.out or default_folder(config)
    check_new(run, config.overwrite)
    method, inputs = method_spec(config.method).load(), load_inputs(config, common, on_step)
    method.check(config, inputs)
    check_trackers(config.track)
    for note in (*inputs.task.notes, *inputs.shots.notes, *inputs.backbone.notes):
        say(note)
    _say_choice(config, inputs.backbone, say)
    forget(run)
    create(run, config, inputs.task, inputs.shots, inputs.backbone)
    return _tracked(run, config, inputs, on_step, say)


def resume(
    run: Path, on_step: StepCallback | None = None, say: Notify = lambda _: None, common: tuple[Task, Backbone] | None = None
) -> Path:
    """Resumes a stopped run, with the same result as without the stop. A finished run stays as it is.

    Args:
        run: the run folder.
        on_step: receives the progress after every step.
        say: receives notes for the user.
        common: as for `fit`; its backbone must have the precision that the run began with.

    Returns:
        The run folder.

    Raises:
        DplError: `run` cannot be resumed, its images have changed, or its backbone is another one.
    """
    check_resumable(run)
    config, made_with = settings_of(run), read_config(run)
    # The precision that "auto" chose when the run began; old runs do not store one and are fp32.
    precision = made_with["backbone"].get("precision", "fp32")
    config = replace(config, backbone=made_with["backbone"]["name"], precision=precision)
    config = replace(config, revision=made_with["backbone"].get("commit"), resize=ANY_RESIZE)
    task, backbone = common or load_common(config, on_step)
    for note in (*backbone.notes, *check_backbone(run, backbone)):
        say(note)
    same_shots = replace(config, shots_from=run)  # found by their names, even if other images were added or removed
    try:
        has_classes = list(with_shots(task, same_shots)[0].class_names) == made_with["task"]["class_names"]
    except DplError:
        has_classes = False
    if not has_classes:
        raise DplError(f"{run}: the images in {config.data} have changed since the run began; start it anew")
    inputs = load_inputs(same_shots, (task, with_own_preprocessing(run, backbone)))
    if (run / "report.html").exists() and not (run / "checkpoint").exists():
        say(f"{run} is finished already")
        return run
    check_trackers(config.track)
    _say_choice(config, inputs.backbone, say)
    return _tracked(run, config, inputs, on_step, say)


def default_folder(config: RunConfig) -> Path:
    """Returns the default run folder of some settings.

    Args:
        config: the settings of the run.

    Returns:
        runs/TASK-SHOTSshot-seedSEED; the classes and the method follow the task unless they are all and dpl.

    Example:

        >>> default_folder(FitRun("digits", shots=4)).as_posix()
        'runs/digits-4shot-seed1'
    """
    parts = [data_name(config.data)]
    parts += [part for part, usual in ((config.classes, "all"), (config.method, "dpl")) if part != usual]
    return Path("runs") / "-".join([*parts, f"{config.shots}shot", f"seed{config.seed}"])


def data_name(data: str) -> str:
    """Returns the name of a data set for folder names.

    Args:
        data: the data, as on the command line.

    Returns:
        The task or folder, a file without its suffix, a hub name without "hf:".

    Example:

        >>> data_name("hf:owner/birds")
        'birds'
    """
    path = Path(data)
    name = path.resolve().stem if path.is_file() else path.resolve().name
    return re.sub(r"[^\w.=+-]", "-", name.removeprefix("hf:"))


def self_contained(config: RunConfig) -> RunConfig:
    """Returns settings that do not depend on the working folder, so that the run can be resumed from any folder.

    Args:
        config: the settings.

    Returns:
        The settings with absolute paths and the contents of template files.

    Raises:
        DplError: a template or a file of templates is wrong.
    """
    config = replace(config, template=given_templates(config.template))
    given = {name: path.resolve() for name in ("root", "names", "shots_from") if (path := getattr(config, name))}
    config = replace(config, **given)
    if config.data not in BUILTIN and config.data not in CATALOG and Path(config.data).exists():
        config = replace(config, data=str(Path(config.data).resolve()))
    if isinstance(config, TrainRun | FitRun) and config.layout and Path(config.layout).exists():
        config = replace(config, layout=str(Path(config.layout).resolve()))
    return config


def load_common(config: RunConfig, on_step: StepCallback | None = None) -> tuple[Task, Backbone]:
    """Loads the task and the backbone, which runs on the same data and backbone share.

    Args:
        config: the settings of a run.
        on_step: receives the progress of downloads, in megabytes.

    Returns:
        The task and the backbone.

    Raises:
        DplError: the data or the backbone cannot be loaded.
    """

    def on_fetch(name: str, done: int, total: int) -> None:
        if on_step:
            on_step(f"fetching {name}, MB", done, total, {})

    task = load_task(config.data, root=config.root, names=config.names, strict=config.strict)
    return task, load_backbone(config.backbone, **config.load_options(), on_fetch=on_fetch)


def load_inputs(
    config: RunConfig,
    common: tuple[Task, Backbone] | None = None,
    on_step: StepCallback | None = None,
    *,
    decode: bool = True,
) -> Inputs:
    """Loads the inputs of a run. Of the images it decodes the shots only (`with_shots`).

    Args:
        config: the settings of the run.
        common: the result of `load_common`; none: they are loaded.
        on_step: receives the progress of downloads, in megabytes.
        decode: whether the shots are decoded; a check of the settings does not need it.

    Returns:
        The backbone, the task with the run's classes and templates, and the shots with their decoded images.

    Raises:
        DplError: data or backbone cannot be loaded, the shots cannot be drawn or read, or a text is too long.
    """
    task, backbone = common or load_common(config, on_step)
    task = with_templates(task, config.template)
    if isinstance(config, AugmentedRun) and config.augmentation != "task":
        task = replace(task, augmentation=AUGMENTATIONS[config.augmentation])
    images = ImageStore()
    task, shots = with_shots(task, config, _unreadable_shots(config, task, backbone, images) if decode else _none)
    for template in task.templates:  # tokenizing finds texts that are too long, before anything is written
        backbone.tokenize(sentences(template, task.class_names))
    return Inputs(backbone, task, shots, images)


FindUnreadable = Callable[[FewShot], Mapping[Item, UnreadableImage]]


def _none(shots: FewShot) -> Mapping[Item, UnreadableImage]:
    return {}


def _unreadable_shots(config: RunConfig, task: Task, backbone: Backbone, images: ImageStore) -> FindUnreadable:
    """Returns a function that decodes shots in the forms that the run needs, and returns the unreadable ones."""
    evaluation = images.evaluation(backbone.preprocessing)
    training = images.training(backbone.preprocessing, task.augmentation, backbone.device)
    train = training if isinstance(config, AugmentedRun) else evaluation
    return lambda shots: {**train.unreadable(shots.train), **evaluation.unreadable(shots.val)}


def with_shots(task: Task, config: RunConfig, unreadable: FindUnreadable = _none) -> tuple[Task, FewShot]:
    """Draws the shots and selects the classes of a run. The shots are drawn first, from all classes.

    Unreadable shots are left out of the pools with a note, and all shots are drawn anew. They are an error if the task is strict,
    or if the shots are those of another run.

    Args:
        task: the task with all classes.
        config: the settings of the run.
        unreadable: returns the unreadable ones of the shots; by default all are taken as readable, and nothing is decoded.

    Returns:
        The task with the run's classes, and the shots of these classes.

    Raises:
        DplError: there are no images to draw from, the task has no such half of the classes (`subset`), the shots of
            --shots-from are missing (`read_shots`), or a shot cannot be read and cannot be replaced.
    """
    bad: dict[Item, str] = {}
    named = config.shots_from
    while True:
        shots = read_shots(task, named, config.shots) if named else sample(task, config.shots, config.seed)
        part, shots = subset(task, config.classes, shots)
        found = unreadable(shots)
        if not found:
            return part, replace(shots, notes=(*shots.notes, *skipped(bad)))
        if task.strict or named:
            raise next(iter(found.values()))
        bad |= {item: error.reason for item, error in found.items()}
        task = without(task, bad)


def _say_choice(config: RunConfig, backbone: Backbone, say: Notify) -> None:
    """Reports the device and precision that "auto" has chosen, if one of them is "auto"."""
    if line := choice_line(config.device, config.precision, backbone.device, backbone.precision):
        say(f"{backbone.name} {line}")


def _tracked(run: Path, config: RunConfig, inputs: Inputs, on_step: StepCallback | None, say: Notify) -> Path:
    """Runs `_execute` with the trackers of --track."""
    tracking = Tracking(run, config, on_step, say)
    with tracking.opened():
        return _execute(run, config, inputs, tracking, say)


def _execute(run: Path, config: RunConfig, inputs: Inputs, tracking: Tracking, say: Notify) -> Path:
    """Does the remaining work of `run`. Every part can be repeated after a kill."""
    return_large_blocks()
    reset_peak_memory(inputs.backbone.device)
    begun, before = time.perf_counter(), sum(record["seconds"] for record in read_history(run))

    def keep_layout(layout: PromptLayout) -> None:
        save_layout(run, layout)
        tracking.log_layout(layout)

    model = learn(config, inputs, lambda name: Stage(name, run, tracking), FoundInRun(run), keep_layout)
    if not isinstance(config, SearchRun):
        save_head(run, model)
        save_parameters(run, model)
        seconds, peak = before + time.perf_counter() - begun, peak_memory(inputs.backbone.device)
        try:
            frozen, task, (tuned, plain, ensemble) = _evaluated(model, save_class_features(run, model), inputs, tracking, say)
        except UnreadableImage as error:
            raise DplError(f"{error}, then go on with --resume {run}") from None
        found = metrics(model, task, config, seconds, tuned, plain, ensemble)
        found |= {"peak_memory_bytes": peak, "head": model.head_choice.record()}
        write_json(run / "metrics.json", found)
        tracking.log_result(found)
        explain_run(run, model, frozen, task, tuned, plain, inputs.images)
    write_report(run)
    shutil.rmtree(run / "checkpoint", ignore_errors=True)
    return run


def learn(
    config: RunConfig,
    inputs: Inputs,
    stage: Callable[[str], Stage] = Stage,
    found: SearchStore | None = None,
    on_layout: Callable[[PromptLayout], None] = lambda _: None,
) -> Method:
    """Builds the method of a run, which may search, trains it and fits its head. A `SearchRun` is not trained.

    Args:
        config: the settings of the run.
        inputs: the backbone, the task and the shots.
        stage: makes a stage from its name; by default the stages stay in memory.
        found: keeps the result of the search for a stopped run.
        on_layout: receives the layout before training.

    Returns:
        The method.

    Raises:
        DplError: a loss is not finite, or a setting does not fit.
    """
    model = method_spec(config.method).load().start(config, inputs, stage, found)
    on_layout(model.layout)
    if not isinstance(config, SearchRun):
        train(model, inputs, config.optimization, config.seed, stage("train"))
    if isinstance(config, HeadedRun):
        fit_head(model, inputs, config.head, config.seed)
    return model


def _evaluated(
    model: Method, class_features: ClassFeatures, inputs: Inputs, on_step: StepCallback, say: Notify
) -> tuple[ZeroShot, Task, list[Evaluation]]:
    """Evaluates the model, zero-shot with the first template, and zero-shot with all templates.

    Returns:
        Zero-shot with the first template, the task with its readable test images, and the three evaluations.
    """
    task = inputs.task
    frozen = [ZeroShot(model.backbone, task.class_names, templates) for templates in (task.templates[:1], task.templates)]
    return frozen[0], *evaluate_on_task([model, *frozen], task, on_step, {model: class_features}, inputs.images, say)


def metrics(
    model: Method,
    task: Task,
    config: RunConfig,
    seconds: float,
    tuned: Evaluation,
    plain: Evaluation,
    ensemble: Evaluation,
) -> dict[str, Any]:
    """Assembles metrics.json, except the peak memory.

    Args:
        model: the tuned model.
        task: the task with the run's classes and the evaluated test images.
        config: the settings of the run.
        seconds: duration of the search and the training.
        tuned: evaluation of `model` on the test images.
        plain: evaluation of zero-shot with the first template.
        ensemble: evaluation of zero-shot with all templates.

    Returns:
        Accuracies (0-1) and their intervals, calibration, cost, sizes and seconds, by name.
    """
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
        "trainable_parameters": sum(parameter.numel() for parameter in model.parameters())
        + (model.head.residual.numel() if model.head else 0),
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
