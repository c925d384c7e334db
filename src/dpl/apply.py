"""Using a finished run: predictions for image files, and its accuracy on its own or other test images."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpl.backbones.loading import PrecisionChoice
from dpl.classifier import ZeroShot
from dpl.data.ahead import while_computing
from dpl.data.collect import collect_images
from dpl.data.images import in_threads, read_image
from dpl.data.task import load_task
from dpl.data.transforms import eval_pixels
from dpl.errors import DplError
from dpl.evaluate import BATCH_SIZE, evaluate_side_by_side, most_probable
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
    on: str | None = None,
    backbone: str | None = None,
    device: str = "auto",
    precision: PrecisionChoice = "auto",
    say: Say = lambda _: None,
) -> dict[str, Any]:
    """Accuracy (0-1) of the run's prompts and of zero-shot on its own test images, or with `on` on another task's.

    Prompts belong to no class, so another task may have other classes; its names go into the run's template.
    """
    config = read_config(run)
    model = load_run(run, backbone, device, precision)
    data = on or config.get("data")
    if data is None:
        raise DplError(f"{run}: has no data of its own; say which with --on")
    task = load_task(data)
    for note in task.notes:
        say(note)
    if list(task.class_names) != list(model.class_names):
        if on is None:
            raise DplError(f"{run}: the classes in {data} have changed since the run was made")
        model = model.for_classes(task.class_names)
    frozen = ZeroShot(model.backbone, task.class_names, model.templates[:1])
    tuned, plain = evaluate_side_by_side([model, frozen], task.test, known={model: class_features(run, model)})
    return {
        "data": data,
        "accuracy": tuned.accuracy,
        "accuracy_interval": tuned.interval,
        "zero_shot_accuracy": plain.accuracy,
        "zero_shot_interval": plain.interval,
        "classes": len(task.class_names),
        "test_images": len(task.test),
    }
