"""Evaluation: what a classifier gets right on images it has not seen, and how sure one can be of it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from scipy.stats import binomtest

from dpl.classifier import ClipClassifier
from dpl.data.ahead import while_computing
from dpl.data.task import Item
from dpl.data.transforms import decode, eval_pixels
from dpl.errors import DplError
from dpl.stage import OnStep

BATCH_SIZE = 128

ClassFeatures = Float[torch.Tensor, "classes dim"]


@dataclass(frozen=True)
class Evaluation:
    """Predictions beside labels, both class indices of shape (images,)."""

    class_names: tuple[str, ...]
    labels: np.ndarray
    predictions: np.ndarray
    confidences: np.ndarray
    """The probability of each prediction, 0-1, float32: the largest of the image's softmax; 0 where that is no number."""

    @cached_property
    def correct(self) -> int:
        """How many predictions are right."""
        return int((self.labels == self.predictions).sum())

    @property
    def accuracy(self) -> float:
        """Micro top-1 accuracy, 0-1."""
        return self.correct / len(self.labels)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy over test images; it does not cover other shots or seeds."""
        bounds = binomtest(self.correct, len(self.labels)).proportion_ci(method="wilson")
        return bounds.low, bounds.high

    def class_accuracy(self, label: int) -> float | None:
        """Accuracy on the images of one class, none where it has no images."""
        own = self.labels == label
        return float((self.predictions[own] == label).mean()) if own.any() else None

    def confused_pairs(self, most: int = 10) -> list[tuple[int, int, int]]:
        """The most frequent mistakes: index of the true class, of the predicted one, count; largest first."""
        wrong = self.labels != self.predictions
        pairs = Counter(zip(self.labels[wrong].tolist(), self.predictions[wrong].tolist(), strict=True))
        ranked = sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))[:most]
        return [(true, predicted, count) for (true, predicted), count in ranked]

    def confusions(self, most: int = 10) -> list[dict[str, str | int]]:
        """`confused_pairs` by the names of the classes."""
        return [
            {"true": self.class_names[true], "predicted": self.class_names[predicted], "count": count}
            for true, predicted, count in self.confused_pairs(most)
        ]


def evaluate_classifier(model: ClipClassifier, items: Sequence[Item]) -> Evaluation:
    """Predicts the class of every item; class embeddings are computed once. `DplError` where there are no items."""
    return evaluate_side_by_side([model], items)[0]


@torch.no_grad()
def evaluate_side_by_side(
    models: Sequence[ClipClassifier],
    items: Sequence[Item],
    on_step: OnStep | None = None,
    known: Mapping[ClipClassifier, ClassFeatures] | None = None,
) -> list[Evaluation]:
    """`evaluate_classifier` of several models of the same classes and image size, in one pass over the images.

    Every image is decoded once, in threads that run ahead of the models, and embedded once for all models that embed it
    alike. `known` are class embeddings that need not be computed.
    """
    if not items:
        raise DplError("nothing to evaluate: there are no test images")
    texts = [known[model] if known and model in known else model.text_features() for model in models]
    found: list[list[tuple[torch.Tensor, torch.Tensor]]] = [[] for _ in models]
    starts = range(0, len(items), BATCH_SIZE)
    backbone = models[0].backbone
    batches = (decode(items[start : start + BATCH_SIZE], backbone.image_size) for start in starts)
    for start, pixels in zip(starts, while_computing(backbone.device, batches), strict=True):
        embedded: dict[int, torch.Tensor] = {}
        for model, text, own in zip(models, texts, found, strict=True):
            key = id(model.image_encoder)
            images = embedded[key] = embedded[key] if key in embedded else model.image_features(pixels)
            logits = model.logits(images, text)
            confidence = logits.softmax(dim=-1).amax(dim=-1).float().nan_to_num(0.0)
            own.append((logits.argmax(dim=-1).cpu(), confidence.cpu()))
        if on_step:
            on_step("evaluate", min(start + BATCH_SIZE, len(items)), len(items), {})
    labels = np.array([item.label for item in items])
    columns = [[torch.cat(column).numpy() for column in zip(*own, strict=True)] for own in found]
    return [Evaluation(model.class_names, labels, *own) for model, own in zip(models, columns, strict=True)]


@torch.no_grad()
def predict(
    model: ClipClassifier, images: Sequence[Image.Image], top: int = 1, text_features: ClassFeatures | None = None
) -> list[list[tuple[str, float]]]:
    """The `top` most probable classes of each RGB image with their probabilities, best first.

    `text_features` are the class embeddings, where they are known; computed otherwise.
    """
    if not images:
        return []
    pixels = torch.stack([eval_pixels(image, model.backbone.image_size) for image in images])
    return most_probable(model, pixels, top, model.text_features() if text_features is None else text_features)


@torch.no_grad()
def most_probable(
    model: ClipClassifier, pixels: UInt8[torch.Tensor, "images 3 size size"], top: int, text_features: ClassFeatures
) -> list[list[tuple[str, float]]]:
    """`predict` of pixels as the backbone takes them."""
    logits = model.logits(model.image_features(pixels), text_features)
    best = logits.softmax(dim=-1).topk(min(top, len(model.class_names)), dim=-1)
    rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [[(model.class_names[i], p) for i, p in zip(indices, values, strict=True)] for indices, values in rows]
