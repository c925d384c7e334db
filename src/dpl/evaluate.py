"""Evaluation: accuracy of a classifier on test images, with confidence intervals, and predictions for single images."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image

from dpl.backbones.loading import Backbone
from dpl.classifier import ClipClassifier
from dpl.data.paths import shown
from dpl.data.pixels.decode import UnreadableImage, convert_image
from dpl.data.pixels.prefetch import while_computing
from dpl.data.pixels.store import ImageStore, Reader
from dpl.data.pixels.transforms import eval_pixels
from dpl.data.task import Item, Task
from dpl.data.validate import skipped
from dpl.utils.callbacks import Notify, StepCallback
from dpl.utils.errors import DplError
from dpl.utils.statistics import wilson_interval

BATCH_SIZE = 128
ACTIVATIONS = 2**30
"""Most bytes that one layer's MLP may take in a forward pass without gradients."""

ClassFeatures = Float[torch.Tensor, "classes dim"]


def images_at_once(backbone: Backbone) -> int:
    """Computes how many images go through `backbone` in one forward pass without gradients.

    Args:
        backbone: the backbone.

    Returns:
        `BATCH_SIZE`, or as many images as keep the input and the output of the MLP's activation in fp32 within `ACTIVATIONS`.
    """
    vision: Any = backbone.clip.vision_model.config
    tokens = (vision.image_size // vision.patch_size) ** 2 + 1
    return max(1, min(BATCH_SIZE, ACTIVATIONS // (2 * 4 * tokens * vision.intermediate_size)))


@dataclass(frozen=True)
class Evaluation:
    """Labels, predictions (both class indices) and confidences of the test images, each of shape (images,)."""

    class_names: tuple[str, ...]
    labels: np.ndarray
    predictions: np.ndarray
    confidences: np.ndarray
    """Probability of each prediction, 0-1, float32: the largest entry of the image's softmax."""

    @cached_property
    def correct(self) -> int:
        """Number of correct predictions."""
        return int((self.labels == self.predictions).sum())

    @property
    def accuracy(self) -> float:
        """Micro top-1 accuracy, 0-1."""
        return self.correct / len(self.labels)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy over test images. It does not cover the variation over shots and seeds."""
        return wilson_interval(self.correct, len(self.labels))

    def class_accuracy(self, label: int) -> float | None:
        """Computes the accuracy on the images of one class.

        Args:
            label: index of the class.

        Returns:
            The accuracy, 0-1; None if the class has no images.
        """
        own = self.labels == label
        return float((self.predictions[own] == label).mean()) if own.any() else None

    def confused_pairs(self, most: int = 10) -> list[tuple[int, int, int]]:
        """Counts the most frequent mistakes.

        Args:
            most: largest number of pairs.

        Returns:
            (index of the true class, index of the predicted class, count), in descending order of the count.
        """
        wrong = self.labels != self.predictions
        pairs = Counter(zip(self.labels[wrong].tolist(), self.predictions[wrong].tolist(), strict=True))
        ranked = sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))[:most]
        return [(true, predicted, count) for (true, predicted), count in ranked]

    def confusions(self, most: int = 10) -> list[dict[str, str | int]]:
        """Counts the most frequent mistakes by class names.

        Args:
            most: largest number of pairs.

        Returns:
            The pairs of `confused_pairs`, each as {"true": name, "predicted": name, "count": count}.
        """
        return [
            {"true": self.class_names[true], "predicted": self.class_names[predicted], "count": count}
            for true, predicted, count in self.confused_pairs(most)
        ]


def evaluate_classifier(model: ClipClassifier, items: Sequence[Item]) -> Evaluation:
    """Predicts the class of every item; computes the class embeddings once.

    Args:
        model: the classifier.
        items: labelled images.

    Returns:
        Labels, predictions and confidences, with accuracy and interval.

    Args:
        model: the classifier.
        items: images with their labels.

    Returns:
        The evaluation.

    Raises:
        DplError: there are no items, or an image cannot be read.

    Example:
        >>> import dpl
        >>> task = dpl.load_task("digits")
        >>> model = dpl.ZeroShot(dpl.load_backbone("tiny"), task.class_names, task.templates[:1])
        >>> dpl.evaluate_classifier(model, task.test[:100]).accuracy > 0.6
        True
    """
    return evaluate_side_by_side([model], items)[0]


def evaluate_on_task(
    models: Sequence[ClipClassifier],
    task: Task,
    on_step: StepCallback | None = None,
    known: Mapping[ClipClassifier, ClassFeatures] | None = None,
    images: ImageStore | None = None,
    say: Notify = lambda _: None,
) -> tuple[Task, list[Evaluation]]:
    """Evaluates several models on the test images of a task by `evaluate_side_by_side`.

    An unreadable test image is an error if `task.strict`. Otherwise it is left out, and a note counts and names such images.

    Args:
        models: the classifiers.
        task: the task.
        on_step: receives the progress.
        known: class embeddings by model; those of other models are computed.
        images: decoded images of the run; by default nothing is kept.
        say: receives the note.

    Returns:
        The task with its readable test images, and an evaluation per model on these images, in their order.

    Raises:
        DplError: there are no readable test images, or `task.strict` is set and one is unreadable.
    """
    bad: dict[Item, str] = {}
    found = evaluate_side_by_side(models, task.test, on_step, known, images, None if task.strict else bad.__setitem__)
    for note in skipped(bad, "test image"):
        say(f"{note}; the results are those of the other {len(task.test) - len(bad)}")
    return (replace(task, test=tuple(item for item in task.test if item not in bad)) if bad else task), found


@torch.no_grad()
def evaluate_side_by_side(
    models: Sequence[ClipClassifier],
    items: Sequence[Item],
    on_step: StepCallback | None = None,
    known: Mapping[ClipClassifier, ClassFeatures] | None = None,
    images: ImageStore | None = None,
    on_unreadable: Callable[[Item, str], None] | None = None,
) -> list[Evaluation]:
    """Evaluates several models with the same classes and preprocessing in one pass over the images.

    Every image is decoded once, and embedded once for all models with the same `image_encoder`. Threads
    decode the images; on a GPU they decode ahead of the models.

    Args:
        models: the classifiers.
        items: the test images.
        on_step: receives the progress.
        known: class embeddings by model; those of other models are computed.
        images: decoded images of the run; by default nothing is kept.
        on_unreadable: receives every unreadable image, which is left out, and the reason; by default it is an error.

    Returns:
        An evaluation per model.

    Raises:
        DplError: there are no (readable) items, or an image cannot be read.
    """
    if not items:
        raise DplError("nothing to evaluate: there are no test images")
    texts = [known[model] if known and model in known else model.text_features() for model in models]
    found: list[list[tuple[torch.Tensor, torch.Tensor]]] = [[] for _ in models]
    labels: list[int] = []
    backbone = models[0].backbone
    reader = (images or ImageStore(evaluation_bytes=0)).evaluation(backbone.preprocessing)
    for done, own_labels, pixels in while_computing(
        backbone.device, _batches(reader, items, images_at_once(backbone), on_unreadable)
    ):
        labels += own_labels
        embedded: dict[int, torch.Tensor] = {}
        for model, text, own in zip(models, texts, found, strict=True):
            key = id(model.image_encoder)
            features = embedded[key] = embedded[key] if key in embedded else model.image_features(pixels)
            logits = checked_logits(model.logits(features, text))
            confidence = logits.softmax(dim=-1).amax(dim=-1).float()
            own.append((logits.argmax(dim=-1).cpu(), confidence.cpu()))
        if on_step:
            on_step("evaluate", done, len(items), {})
    if not labels:
        raise DplError(f"nothing to evaluate: none of the {len(items)} test images can be read, {shown(items[0].name)} first")
    columns = [[torch.cat(column).numpy() for column in zip(*own, strict=True)] for own in found]
    return [Evaluation(model.class_names, np.array(labels), *own) for model, own in zip(models, columns, strict=True)]


def _batches(
    reader: Reader, items: Sequence[Item], size: int, on_unreadable: Callable[[Item, str], None] | None
) -> Iterator[tuple[int, list[int], UInt8[torch.Tensor, "images 3 size size"]]]:
    """Yields the number of items read so far, and the labels and pixels of the readable ones in a batch; at least one."""
    for start in range(0, len(items), size):
        batch = items[start : start + size]
        labels: list[int] = []
        pixels: list[torch.Tensor] = []
        for item, found in zip(batch, reader.attempt(batch), strict=True):
            if not isinstance(found, UnreadableImage):
                labels.append(item.label)
                pixels.append(found)
            elif on_unreadable:
                on_unreadable(item, found.reason)
            else:
                raise found
        if labels:
            yield start + len(batch), labels, torch.stack(pixels)


@torch.no_grad()
def predict(
    model: ClipClassifier, images: Sequence[Image.Image], top: int = 1, text_features: ClassFeatures | None = None
) -> list[list[tuple[str, float]]]:
    """Predicts the most probable classes of images.

    Args:
        model: the classifier.
        images: images of PIL, of any size and mode.
        top: number of classes per image; fewer if the model has fewer.
        text_features: the class embeddings; none: they are computed.

    Returns:
        For each image (class name, probability 0-1), in descending order of the probability.

    Raises:
        DplError: an image cannot be decoded, or the logits are not numbers.

    Example:
        >>> import dpl
        >>> task = dpl.load_task("digits")
        >>> model = dpl.ZeroShot(dpl.load_backbone("tiny"), task.class_names, task.templates)
        >>> ((name, probability),) = dpl.predict(model, [dpl.load_image(task.test[0])])[0]
        >>> name
        '0'
    """
    if not images:
        return []
    named = ((image, f"images[{place}]") for place, image in enumerate(images))
    pixels = torch.stack([eval_pixels(convert_image(image, name), model.backbone.preprocessing) for image, name in named])
    return most_probable(model, pixels, top, model.text_features() if text_features is None else text_features)


@torch.no_grad()
def most_probable(
    model: ClipClassifier, pixels: UInt8[torch.Tensor, "images 3 size size"], top: int, text_features: ClassFeatures
) -> list[list[tuple[str, float]]]:
    """Predicts the most probable classes of preprocessed images.

    Args:
        model: the classifier.
        pixels: uint8 images of the backbone's image size.
        top: number of classes per image; fewer if the model has fewer.
        text_features: the class embeddings.

    Returns:
        For each image (class name, probability 0-1), in descending order of the probability.
    """
    logits = checked_logits(model.logits(model.image_features(pixels), text_features))
    best = logits.softmax(dim=-1).topk(min(top, len(model.class_names)), dim=-1)
    rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [[(model.class_names[i], p) for i, p in zip(indices, values, strict=True)] for indices, values in rows]


def checked_logits(logits: Float[torch.Tensor, "images classes"]) -> Float[torch.Tensor, "images classes"]:
    """Returns logits that are numbers; for others no class would be the most probable.

    Args:
        logits: (images, classes).

    Raises:
        DplError: a logit is NaN.
    """
    if logits.isnan().any():
        raise DplError("the model's logits are not numbers: its parameters are too large, train with a lower --train.lr")
    return logits
