"""Using a finished run: predictions for image files, and its accuracy on its own or other test images."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpl.backbones.loading import PrecisionChoice
from dpl.classifier import ZeroShot
from dpl.data.ahead import while_computing
from dpl.data.collect import collect_images
from dpl.data.images import in_threads, read_image
from dpl.data.subset import Classes, subset
from dpl.data.task import Task, load_task
from dpl.data.transforms import eval_pixels
from dpl.errors import DplError
from dpl.evaluate import BATCH_SIZE, evaluate_side_by_side, most_probable
from dpl.files import read_json
from dpl.methods.method import Method
from dpl.runs import class_features, load_run, read_config

Say = Callable[[str], None]


def predict_files(
    run: Path,
    images: Sequence[str],
    top: int = 3,
    backbone: str | None = None,
    device: str = "auto",
    precision: PrecisionChoice = "auto",
    say: Say = lambda _: None,
) -> list[dict[str, Any]]:
    """The `top` classes of each image file: {"image": path, "classes": [{"name": .., "probability": 0-1}, ..]}.

    `images` are files, folders, or "-" for a list on stdin. An unreadable file is left out and said; `DplError` where none
    is readable.
    """
    if top < 1:
        raise DplError(f"--top {top}: must be at least 1")
    paths = collect_images(images)
    model = load_run(run, backbone, device, precision)
    text, size = class_features(run, model), model.backbone.image_size
    rows: list[dict[str, Any]] = []
    batches = (_read(paths[start : start + BATCH_SIZE], size) for start in range(0, len(paths), BATCH_SIZE))
    for batch in while_computing(model.backbone.device, batches):
        for error in (result for result in batch.values() if isinstance(result, DplError)):
            say(f"left out: {error}")
        pixels = {path: result for path, result in batch.items() if isinstance(result, Tensor)}
        best = most_probable(model, torch.stack([*pixels.values()]), top, text) if pixels else []
        for path, classes in zip(pixels, best, strict=True):
            rows.append({"image": str(path), "classes": [{"name": name, "probability": p} for name, p in classes]})
    if not rows:
        raise DplError(f"none of the {len(paths)} files is a readable image")
    return rows


def _read(paths: Sequence[Path], size: int) -> dict[Path, Tensor | DplError]:
    """The pixels of each file, or what is wrong with it."""

    def read(path: Path) -> Tensor | DplError:
        try:
            return eval_pixels(read_image(path), size)
        except DplError as error:
            return error

    return dict(zip(paths, in_threads(read, paths), strict=True))


def evaluate_run(
    run: Path,
    on: Sequence[str] = (),
    classes: Classes | None = None,
    root: Path | None = None,
    backbone: str | None = None,
    device: str = "auto",
    precision: PrecisionChoice = "auto",
    say: Say = lambda _: None,
) -> list[dict[str, Any]]:
    """Accuracy (0-1) of the run's prompts and of zero-shot on the test images of every data set `on`; of none, on its own.

    Of `classes` only: by default those of the run, on other data all. What belongs to no class takes other classes: their names
    go into the run's template, for zero-shot into the first of the data set's own. What belongs to classes takes those of the
    same name. `root` is where data sets of the catalogue lie, by default as for the run. A base run on the new classes of its
    own data has "base_to_new" beside (see `base_to_new`). Raises `DplError` before anything is evaluated where data are missing,
    or do not fit the run.
    """
    config = read_config(run)
    settings = config.get("settings", {})
    root = root or (Path(settings["root"]) if settings.get("root") else None)
    made_of: Classes = settings.get("classes", "all")
    if not on and "data" not in config:
        raise DplError(f"{run}: has no data of its own; say which with --on")
    model = load_run(run, backbone, device, precision)
    found: list[tuple[str, Task, Method]] = []
    for data in on or [config["data"]]:
        task = load_task(data, root=root, names=Path(settings["names"]) if not on and settings.get("names") else None)
        if not on and subset(task, made_of)[0].class_names != model.class_names:
            raise DplError(f"{run}: the classes in {data} have changed since the run was made")
        task = subset(task, classes or ("all" if on else made_of))[0]
        for note in task.notes:
            say(f"{data}: {note}" if len(on) > 1 else note)
        found.append((data, task, for_task(model, task)))
    results = [
        accuracies(run, fitting, task, task.templates[:1] if on else model.templates[:1]) | {"data": data}
        for data, task, fitting in found
    ]
    if not on and (made_of, classes) == ("base", "new"):
        results[0]["base_to_new"] = base_to_new(read_json(run / "metrics.json"), results[0])
    return results


def for_task(model: Method, task: Task) -> Method:
    """`model` for the classes of `task`; itself where these are its own."""
    return model if task.class_names == model.class_names else model.for_classes(task.class_names)


def accuracies(run: Path, model: Method, task: Task, templates: Sequence[str]) -> dict[str, Any]:
    """What `dpl evaluate` says of a data set: accuracies (0-1) and Wilson intervals of the model of `run` and of zero-shot.

    `model` has the classes of the task. `templates` are those of zero-shot.
    """
    frozen = ZeroShot(model.backbone, task.class_names, templates)
    tuned, plain = evaluate_side_by_side([model, frozen], task.test, known={model: class_features(run, model)})
    return {
        "data": task.name,
        "accuracy": tuned.accuracy,
        "accuracy_interval": tuned.interval,
        "zero_shot_accuracy": plain.accuracy,
        "zero_shot_interval": plain.interval,
        "classes": len(task.class_names),
        "test_images": len(task.test),
    }


def base_to_new(base: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """For "accuracy" and "zero_shot_accuracy" (0-1) the "base", the "new" and their "harmonic_mean"."""
    return {
        key: {"base": base[key], "new": new[key], "harmonic_mean": harmonic_mean(base[key], new[key])}
        for key in ("accuracy", "zero_shot_accuracy")
    }


def harmonic_mean(base: float, new: float) -> float:
    """2 b n / (b + n) of two accuracies, 0 where both are 0."""
    return 2 * base * new / (base + new) if base + new else 0.0
