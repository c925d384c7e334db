"""The models of the demo, independent of the web page: predictions and explanation pictures for image files."""

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
from dpl.data.pixels.decode import read_image
from dpl.data.pixels.transforms import eval_pixels, to_pixels
from dpl.data.task import Encoded
from dpl.demo.wording import Wording, read_wording
from dpl.explain.gradcam import see
from dpl.methods.method import Method
from dpl.reports.overlay import overlay
from dpl.schemas.explanation import read_explanation
from dpl.utils.errors import DplError
from dpl.utils.files import read_json

TOP = 5
WIDTH = 320
"""Pixels per side of a picture on the page."""
KEPT = 8
"""Number of wordings whose class embeddings are cached."""


@dataclass(frozen=True, eq=False)
class Example:
    """A test image of the run: `name`, `title` (the name with its class), and `data` (a PNG file)."""

    name: str
    title: str
    data: bytes


Texts = tuple[ClipClassifier, Tensor]
"""A model and its class embeddings, of shape (classes, dim)."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """Prediction and explanation of one model for an image."""

    classes: list[tuple[int, str, float]]
    """The most probable classes, best first: index among the names, name, and probability, 0-1."""
    label: int
    """Index of the class that the picture explains."""
    picture: Image.Image
    """The image in grey; colours mark the patches that support the class."""


@dataclass(frozen=True, eq=False)
class Answer:
    """Predictions of the models "zero-shot" and "tuned".

    A model that does not accept the class names has a one-line reason in place of its prediction.
    """

    picture: Image.Image
    """The image as the models see it, enlarged."""
    models: dict[str, Prediction | str]


class Demo:
    """A run with its zero-shot and tuned model. The methods are thread-safe; a lock serialises the calls.

    Args:
        name: the name of the run.
        model: the tuned model.
        class_features: its class embeddings, (classes, dim).
        examples: test images of the run.
    """

    def __init__(self, name: str, model: Method, class_features: Tensor, examples: Sequence[Example] = ()) -> None:
        self.name, self.model, self.examples = name, model, tuple(examples)
        self._preprocessed = frozenset(example.data for example in examples)
        self.own = Wording(model.class_names, model.templates[0])
        self._own_texts = model, class_features
        # The models share a backbone, to which only one model's prompts can be attached at a time.
        self._lock = Lock()
        self._zero_shot: Callable[[Wording], Texts] = lru_cache(KEPT)(self._embed)
        self._tuned: Callable[[tuple[str, ...]], Texts | str] = lru_cache(KEPT)(self._move)

    def wording(self, names: str, template: str) -> Wording:
        """Reads the wording of a user and checks it.

        Args:
            names: class names, one per line.
            template: a sentence with {} for the class name.

        Returns:
            The wording.

        Raises:
            DplError: a name or the template cannot be used.
        """
        wording = read_wording(names, template, self.own)
        with self._lock:
            self._zero_shot(wording)
        return wording

    def note(self, wording: Wording) -> str | None:
        """Returns a note for the user about the tuned model.

        Args:
            wording: class names and template.

        Returns:
            One sentence; None if there is nothing to note.
        """
        with self._lock:
            tuned = self._tuned(wording.names)
        if isinstance(tuned, str):
            return f"The tuned model is left out: {tuned}."
        if self.model.head and not tuned[0].head:
            return "The tuned model classifies by the texts alone: its head knows only the run's own classes."
        if wording.template != self.own.template:
            return f"The template is for zero-shot; the tuned model keeps its own, {self.own.template!r}."
        return None

    def answer(self, name: str, data: bytes, wording: Wording, label: int | None = None) -> Answer:
        """Predicts the classes of an image and explains a class by a map.

        Args:
            name: the name of the image file, for messages.
            data: the content of the file.
            wording: class names and template.
            label: index of the class to explain; none: the most probable class of each model.

        Returns:
            The predictions and maps.

        Raises:
            DplError: `label` is out of range, or `data` is not a readable image.
        """
        if label is not None and not 0 <= label < len(wording.names):
            raise DplError(f"class {label}: there are {len(wording.names)}")
        with self._lock:
            pixels = self._pixels(name, data)
            picture = pixels.permute(1, 2, 0).numpy()
            tuned = self._tuned(wording.names)
            return Answer(
                Image.fromarray(picture).resize((WIDTH, WIDTH), Image.Resampling.BICUBIC),
                {
                    "zero-shot": _predicted(self._zero_shot(wording), pixels, picture, label),
                    "tuned": tuned if isinstance(tuned, str) else _predicted(tuned, pixels, picture, label),
                },
            )

    def _pixels(self, name: str, data: bytes) -> Tensor:
        """Returns the preprocessed pixels of an image; examples of the run are resized and cropped already."""
        image = read_image(Encoded(name, lambda: data))
        if data in self._preprocessed:
            return to_pixels(image)
        return eval_pixels(image, self.model.backbone.preprocessing)

    def _embed(self, wording: Wording) -> Texts:
        """Returns the frozen model with its class embeddings."""
        model = ZeroShot(self.model.backbone, wording.names, (wording.template,))
        return model, model.text_features()

    def _move(self, names: tuple[str, ...]) -> Texts | str:
        """Returns the tuned model for these classes, with its own template; or the reason why it does not accept them."""
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
    """Reads the test images that `dpl.explain` has stored for a run.

    Args:
        run: the run folder.

    Returns:
        The examples; an empty list if there are none.
    """
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
    """Encodes `picture` as PNG."""
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
