"""What the demo does with an image, apart from the page: bytes and words in, predictions and pictures out."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dpl.classifier import ClipClassifier, ZeroShot
from dpl.data.images import Encoded, read_image
from dpl.data.transforms import eval_pixels
from dpl.demo.wording import Wording, read_wording
from dpl.errors import DplError
from dpl.explain.gradcam import see
from dpl.explain.overlay import overlay
from dpl.explain.stored import read_explanation
from dpl.files import read_json
from dpl.methods.method import Method

TOP = 5
WIDTH = 320
"""Pixels of a picture's side, as the page has it."""
KEPT = 8
"""So many wordings are remembered with their class embeddings."""


@dataclass(frozen=True, eq=False)
class Example:
    """A test image of the run: its name, that with its class, and a PNG file."""

    name: str
    title: str
    data: bytes


Texts = tuple[ClipClassifier, Tensor]
"""A model and its class embeddings, of shape (classes, dim)."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model makes of an image."""

    classes: list[tuple[int, str, float]]
    """The most probable: place among the names, name and probability, 0-1; best first."""
    label: int
    """The class that is looked for, by its place."""
    picture: Image.Image
    """The image in grey, with colours where the model sees something of that class."""


@dataclass(frozen=True, eq=False)
class Answer:
    """Predictions by model, "zero-shot" and "tuned"; of a model that cannot take the class names, one line that says why."""

    picture: Image.Image
    """The image as the models see it, enlarged."""
    models: dict[str, Prediction | str]


class Demo:
    """A run and what may be asked of it; threads may ask at the same time, and wait for each other."""

    def __init__(self, name: str, model: Method, class_features: Tensor, examples: Sequence[Example] = ()) -> None:
        self.name, self.model, self.examples = name, model, tuple(examples)
        self.own = Wording(model.class_names, model.templates[0])
        self._own_texts = model, class_features
        # The models share a backbone that carries the prompts of one at a time.
        self._lock = Lock()
        self._zero_shot: Callable[[Wording], Texts] = lru_cache(KEPT)(self._embed)
        self._tuned: Callable[[tuple[str, ...]], Texts | str] = lru_cache(KEPT)(self._move)

    def wording(self, names: str, template: str) -> Wording:
        """`names`, a line per class, and `template` as they are used; `DplError` in one line for what cannot be used."""
        wording = read_wording(names, template, self.own)
        with self._lock:
            self._zero_shot(wording)
        return wording

    def note(self, wording: Wording) -> str | None:
        """What a person should know of the tuned model under this wording."""
        with self._lock:
            tuned = self._tuned(wording.names)
        if isinstance(tuned, str):
            return f"The tuned model is left out: {tuned}."
        if wording.template != self.own.template:
            return f"The template is for zero-shot; the tuned model keeps its own, {self.own.template!r}."
        return None

    def answer(self, name: str, data: bytes, wording: Wording, label: int | None = None) -> Answer:
        """The predictions for an image file called `name`, and where the models look for the class `label`.

        That is a place among the names; by default the class that each model thinks most probable. Raises `DplError` where
        `data` is no image that can be read.
        """
        if label is not None and not 0 <= label < len(wording.names):
            raise DplError(f"class {label}: there are {len(wording.names)}")
        with self._lock:
            pixels = eval_pixels(read_image(Encoded(name, lambda: data)), self.model.backbone.image_size)
            picture = pixels.permute(1, 2, 0).numpy()
            tuned = self._tuned(wording.names)
            return Answer(
                Image.fromarray(picture).resize((WIDTH, WIDTH), Image.Resampling.BICUBIC),
                {
                    "zero-shot": _predicted(self._zero_shot(wording), pixels, picture, label),
                    "tuned": tuned if isinstance(tuned, str) else _predicted(tuned, pixels, picture, label),
                },
            )

    def _embed(self, wording: Wording) -> Texts:
        """The frozen model."""
        model = ZeroShot(self.model.backbone, wording.names, (wording.template,))
        return model, model.text_features()

    def _move(self, names: tuple[str, ...]) -> Texts | str:
        """The tuned model for classes of these names, in its own template; or why there is none."""
        if names == self.own.names:
            return self._own_texts
        try:
            model = self.model.for_classes(names)
        except DplError as error:
            return str(error)
        model.eval()
        with torch.no_grad():
            return model, model.text_features()


def examples(run: Path) -> list[Example]:
    """The test images that `dpl.explain` has kept of `run`; none where it has kept none."""
    kept = read_explanation(run)
    if kept is None:
        return []
    names = read_json(run / "config.json")["task"]["class_names"]
    pictures = [Image.fromarray(picture.transpose(1, 2, 0)) for picture in kept.pictures]
    return [
        Example(example.name, f"{example.name}: {names[example.label]}", png(picture))
        for example, picture in zip(kept.examples, pictures, strict=True)
    ]


def png(picture: Image.Image) -> bytes:
    """`picture` as a PNG file."""
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=3)
    return file.getvalue()


def _predicted(texts: Texts, pixels: Tensor, picture: np.ndarray, label: int | None) -> Prediction:
    model, features = texts
    seen = see(model, pixels[None], None if label is None else torch.tensor([label]), features)
    best = seen.probabilities[0].topk(min(TOP, len(model.class_names)))
    places = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return Prediction(
        [(place, model.class_names[place], probability) for place, probability in places],
        int(seen.labels[0]),
        overlay(picture, seen.maps[0].cpu().numpy(), WIDTH),
    )
