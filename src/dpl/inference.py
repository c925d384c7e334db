"""Use of a finished run: predictions for image files, and accuracy on its own or other test images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpl.backbones.preprocessing import Preprocessing
from dpl.classifier import ZeroShot
from dpl.config import RunLoading
from dpl.data.choices import Classes
from dpl.data.image_paths import collect_images
from dpl.data.load import load_task
from dpl.data.pixels.decode import in_threads, read_image
from dpl.data.pixels.prefetch import while_computing
from dpl.data.pixels.transforms import eval_pixels
from dpl.data.subset import subset
from dpl.data.task import Task
from dpl.evaluate import evaluate_on_task, images_at_once, most_probable
from dpl.methods.method import Method
from dpl.runs import class_features, load_run, read_config
from dpl.utils.callbacks import Notify
from dpl.utils.errors import DplError
from dpl.utils.files import read_json

_AS_MADE = RunLoading()


def predict_files(
    run: Path,
    images: Sequence[str],
    top: int = 3,
    loading: RunLoading = _AS_MADE,
    say: Notify = lambda _: None,
) -> list[dict[str, Any]]:
    """Predicts the most probable classes of image files.

    Args:
        run: the run folder.
        images: files, folders, or "-" for a list on stdin.
        top: number of classes per image, at least 1.
        loading: how the backbone is loaded.
        say: receives notes for the user, such as the names of unreadable files, which are left out.

    Returns:
        For each readable file {"image": path, "classes": [{"name": .., "probability": 0-1}, ..]}, the most probable class first.

    Raises:
        DplError: `top` is below 1, the run cannot be loaded, or no file is readable.
    """
    if top < 1:
        raise DplError(f"--top {top}: must be at least 1")
    paths = collect_images(images)
    model = load_run(run, loading.backbone, **loading.load_options(), say=say)
    text, preprocessing = class_features(run, model), model.backbone.preprocessing
    rows: list[dict[str, Any]] = []
    size = images_at_once(model.backbone)
    batches = (_read(paths[start : start + size], preprocessing) for start in range(0, len(paths), size))
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


def _read(paths: Sequence[Path], preprocessing: Preprocessing) -> dict[Path, Tensor | DplError]:
    """Reads the pixels of each file, or the error of an unreadable one."""

    def read(path: Path) -> Tensor | DplError:
        try:
            return eval_pixels(read_image(path), preprocessing)
        except DplError as error:
            return error

    return dict(zip(paths, in_threads(read, paths), strict=True))


def evaluate_run(
    run: Path,
    on: Sequence[str] = (),
    classes: Classes | None = None,
    root: Path | None = None,
    loading: RunLoading = _AS_MADE,
    say: Notify = lambda _: None,
) -> list[dict[str, Any]]:
    """Evaluates a run and zero-shot on the run's own test images or on those of other data sets.

    Methods without per-class parameters accept new class names and insert them into the run's template; zero-shot on other data
    inserts them into the first template of the data set. Methods with per-class parameters accept only their own classes.

    Args:
        run: the run folder.
        on: data sets to evaluate on; empty: the run's own data.
        classes: evaluate only these classes; by default the run's on its own data, and all on other data.
        root: the folder of the data sets of the catalogue; by default that of the run.
        loading: how the backbone is loaded.
        say: receives notes for the user.

    Returns:
        The result of `accuracies` for each data set. For a base run evaluated on the new classes of its own data it has the
        entry "base_to_new" in addition, as from `base_to_new`.

    Raises:
        DplError: the run or data are missing, or do not fit together. It is raised before anything is evaluated.
    """
    config = read_config(run)
    settings = config.get("settings", {})
    root = root or (Path(settings["root"]) if settings.get("root") else None)
    made_of: Classes = settings.get("classes", "all")
    if not on and "data" not in config:
        raise DplError(f"{run}: has no data of its own; give some with --on")
    model = load_run(run, loading.backbone, **loading.load_options(), say=say)
    found: list[tuple[str, Task, Method]] = []
    for data in on or [config["data"]]:
        task = load_task(data, root=root, names=Path(settings["names"]) if not on and settings.get("names") else None)
        if not on and subset(task, made_of)[0].class_names != model.class_names:
            raise DplError(f"{run}: the classes in {data} have changed since the run was made")
        task = subset(task, classes or ("all" if on else made_of))[0]
        for note in task.notes:
            say(f"{data}: {note}" if len(on) > 1 else note)
        fitting = for_task(model, task)
        if model.head and not fitting.head:
            say(f"{data}: has classes that the head does not know, so these are classified by their texts alone")
        found.append((data, task, fitting))
    results = [
        accuracies(run, fitting, task, task.templates[:1] if on else model.templates[:1], say) | {"data": data}
        for data, task, fitting in found
    ]
    if not on and (made_of, classes) == ("base", "new"):
        results[0]["base_to_new"] = base_to_new(read_json(run / "metrics.json"), results[0])
    return results


def for_task(model: Method, task: Task) -> Method:
    """Returns a model for the classes of a task.

    Args:
        model: the trained method.
        task: the task.

    Returns:
        `model` itself if it has these classes, else a copy with the classes of `task`.

    Raises:
        DplError: the method has per-class parameters, and a class of `task` is not among its own.
    """
    return model if task.class_names == model.class_names else model.for_classes(task.class_names)


def accuracies(run: Path, model: Method, task: Task, templates: Sequence[str], say: Notify = lambda _: None) -> dict[str, Any]:
    """Evaluates the model of a run and zero-shot on the test images of a task.

    Args:
        run: the run folder, which may store the class embeddings.
        model: the run's method, with the classes of the task.
        task: classes and test images.
        templates: the templates of zero-shot.
        say: receives a note on unreadable test images, which are left out.

    Returns:
        By name: accuracies (0-1), their Wilson intervals, and the numbers of classes and test images.
    """
    frozen = ZeroShot(model.backbone, task.class_names, templates)
    task, (tuned, plain) = evaluate_on_task([model, frozen], task, known={model: class_features(run, model)}, say=say)
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
    """Combines the accuracies on base and on new classes.

    Args:
        base: metrics on the base classes, with "accuracy" and "zero_shot_accuracy" (0-1).
        new: the same on the new classes.

    Returns:
        For "accuracy" and "zero_shot_accuracy" the values "base", "new" and "harmonic_mean" (0-1).
    """
    return {
        key: {"base": base[key], "new": new[key], "harmonic_mean": harmonic_mean(base[key], new[key])}
        for key in ("accuracy", "zero_shot_accuracy")
    }


def harmonic_mean(base: float, new: float) -> float:
    """Computes the harmonic mean 2 b n / (b + n) of two accuracies.

    Args:
        base: accuracy on the base classes, 0-1.
        new: accuracy on the new classes, 0-1.

    Returns:
        The mean, 0-1; 0 if both are 0.

    Example:

        >>> harmonic_mean(0.5, 1.0)
        0.6666666666666666
    """
    return 2 * base * new / (base + new) if base + new else 0.0
