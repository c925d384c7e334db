"""`dpl explain`: writes Grad-CAM maps of the zero-shot model, other runs and a run side by side, as a page or a figure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from dpl.backbones.preprocessing import Preprocessing
from dpl.classifier import ClipClassifier, ZeroShot
from dpl.config import RunLoading
from dpl.data.image_paths import collect_images
from dpl.data.paths import listed, shown
from dpl.data.pixels.decode import read_image
from dpl.data.pixels.transforms import eval_pixels
from dpl.explain.gradcam import see
from dpl.methods.method import Method
from dpl.reports.explanation.figure import MOST_ROWS, figure
from dpl.reports.explanation.grid import Column, Row, Sheet, View
from dpl.reports.explanation.page import page
from dpl.reports.style import Format
from dpl.runs import class_features, load_run, read_config
from dpl.schemas.explanation import read_explanation
from dpl.utils.callbacks import Notify
from dpl.utils.errors import DplError
from dpl.utils.files import write_bytes

_AS_MADE = RunLoading()
FIGURES: Mapping[str, Format] = {".png": "png", ".pdf": "pdf", ".svg": "svg"}


@dataclass(frozen=True, eq=False)
class _Pictures:
    """The images to explain: names, preprocessed pixels, and true classes (None if unknown)."""

    names: Sequence[str]
    pixels: UInt8[Tensor, "images 3 size size"]
    truths: Sequence[str | None]


@dataclass(frozen=True, eq=False)
class _Model:
    """A model with its column of the sheet and its class embeddings, (classes, dim)."""

    column: Column
    classifier: ClipClassifier
    text_features: Tensor


def explain_files(
    run: Path,
    images: Sequence[str] = (),
    beside: Sequence[Path] = (),
    label: str | None = None,
    out: Path | None = None,
    loading: RunLoading = _AS_MADE,
    say: Notify = lambda _: None,
) -> Path:
    """Writes Grad-CAM maps of the zero-shot model, the runs `beside` and `run` for each image.

    Args:
        run: the run folder.
        images: files, folders, or "-" for a list on stdin. None given: the examples stored in the run. Unreadable images are
            left out and reported to `say`.
        beside: other run folders, with the same backbone.
        label: the class of every map; by default the class that each model predicts.
        out: the file, which ends in .html, .png, .pdf or .svg; by default explain.html in the run folder.
        loading: how to load the run.
        say: receives remarks for the user.

    Returns:
        The path of the file.

    Raises:
        DplError: no image is readable, a run has another backbone, another preprocessing or no class `label`, the file has
            another ending, or a figure would have more than `MOST_ROWS` images. Nothing is written in these cases.
    """
    read_config(run)
    path = run / "explain.html" if out is None else out
    _check_path(path)
    paths = collect_images(images) if images else []
    if not images and read_explanation(run) is None:
        raise DplError(f"{run}: keeps no examples of its own; name images: dpl explain {run} IMAGE...")
    model = load_run(run, loading.backbone, **loading.load_options(), say=say)
    runs = {run: model} | {other: load_run(other, model.backbone) for other in beside}
    for other, loaded in runs.items():
        if loaded.backbone.preprocessing != model.backbone.preprocessing:
            raise DplError(f"{other}: resizes images in another way than {run}; explain each by itself")
    tuned = [_tuned(other, runs[other], runs) for other in (*beside, run)]
    asked = [None if label is None else _label(own, label) for own in tuned]
    pictures = _read(paths, model.backbone.preprocessing, say) if paths else _kept(run, model)
    ending = path.suffix.lower()
    if ending in FIGURES and len(pictures.names) > MOST_ROWS:
        raise DplError(f"{path}: a figure holds at most {MOST_ROWS} images, not {len(pictures.names)}; let it end in .html")
    models = [_frozen(model), *tuned]
    views = [_views(own, pictures.pixels, index) for own, index in zip(models, (asked[-1], *asked), strict=True)]
    drawn = pictures.pixels.permute(0, 2, 3, 1).numpy()
    rows = [Row(*row) for row in zip(pictures.names, drawn, pictures.truths, zip(*views, strict=True), strict=True)]
    sheet = Sheet(run.resolve().name, model.backbone.name, label, [own.column for own in models], rows)
    write_bytes(path, figure(sheet, FIGURES[ending]) if ending in FIGURES else page(sheet))
    return path


def _check_path(path: Path) -> None:
    if path.suffix.lower() not in (".html", *FIGURES):
        raise DplError(f"{shown(path)}: the maps go to a file that ends in .html or {', '.join(FIGURES)}")
    if not path.parent.is_dir():
        raise DplError(f"{shown(path)}: there is no folder {shown(path.parent)}; make it, or give another --out")


def _frozen(model: Method) -> _Model:
    frozen = ZeroShot(model.backbone, model.class_names, model.templates[:1])
    return _Model(Column("zero-shot", "the frozen model"), frozen, frozen.text_features())


def _tuned(run: Path, model: Method, runs: Iterable[Path]) -> _Model:
    """Returns a run's model, named by its folder, or by its whole path if another run's folder has the same name."""
    names = [other.resolve().name for other in runs]
    name = run.resolve().name
    name = shown(run.resolve() if names.count(name) > 1 else name)
    tokens = model.layout.tokens
    note = f"{model.name}, {tokens:,} prompt {'token' if tokens == 1 else 'tokens'}" if tokens else model.name
    return _Model(Column(name, note), model, class_features(run, model))


def _label(model: _Model, label: str) -> int:
    names = model.classifier.class_names
    if label not in names:
        raise DplError(f"--label {shown(label)}: {model.column.name} has no such class; it has {listed(map(shown, names))}")
    return names.index(label)


def _read(paths: Sequence[Path], preprocessing: Preprocessing, say: Notify) -> _Pictures:
    """Reads and preprocesses the images; reports unreadable ones to `say`."""
    found: dict[str, Tensor] = {}
    for path in paths:
        try:
            found[shown(path)] = eval_pixels(read_image(path), preprocessing)
        except DplError as error:
            say(f"left out: {error}")
    if not found:
        raise DplError(f"none of the {len(paths)} files is a readable image")
    return _Pictures(list(found), torch.stack([*found.values()]), [None] * len(found))


def _kept(run: Path, model: Method) -> _Pictures:
    """Returns the examples stored in the run."""
    kept = read_explanation(run)
    size = model.backbone.image_size
    if kept is None or not kept.examples or kept.pictures.shape[-1] != size:
        raise DplError(f"{run}: keeps no examples of {size} pixels; name images: dpl explain {run} IMAGE...")
    names, truths = zip(*((example.name, model.class_names[example.label]) for example in kept.examples), strict=True)
    return _Pictures(names, torch.from_numpy(kept.pictures), truths)


def _views(model: _Model, pixels: Tensor, label: int | None) -> list[View]:
    labels = None if label is None else torch.full((len(pixels),), label)
    seen, names = see(model.classifier, pixels, labels, model.text_features), model.classifier.class_names
    probabilities = seen.probabilities.gather(1, seen.labels[:, None])[:, 0].tolist()
    maps: list[np.ndarray] = [*seen.maps.cpu().numpy()]
    return [View(names[i], p, heat) for i, p, heat in zip(seen.labels.tolist(), probabilities, maps, strict=True)]
