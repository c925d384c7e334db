"""Regularizers that keep a learning model near the frozen one: terms added to cross entropy, and an average over training.

All terms compare unit-length embeddings, or logits, with those of the frozen model for the same images and classes. So they work
with any method, independent of what it learns.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from dpl.backbones.loading import Backbone
from dpl.classifier import ZeroShot
from dpl.config import Penalties


@dataclass(frozen=True)
class Embedded:
    """A model's embeddings and logits of a batch; the embeddings have unit length."""

    images: Float[Tensor, "images dim"]
    texts: Float[Tensor, "classes dim"]
    logits: Float[Tensor, "images classes"]
    image_encoder: object
    """`ClipClassifier.image_encoder` of the model."""


class Regularizer:
    """The weighted sum of the terms of `Penalties`; terms of weight 0 are not computed.

    Embeddings of the model are t for texts and i for images; t0 and i0 are the frozen teacher's. t0 is the normalised mean of the
    text embeddings over all templates, as in PromptSRC, but uses the first template only in KgCoOp's term text_cosine.

        distill      KL(teacher || student) over images and classes: sum / (images classes)     Khattak et al., ICCV 2023
        text_l1      mean |t - t0|, over classes and dimensions                                   Khattak et al., ICCV 2023
        image_l1     mean |i - i0|                                                                Khattak et al., ICCV 2023
        text_cosine  mean of 1 - cos(t, t0) over classes                                          Yao et al., CVPR 2023
    """

    def __init__(self, backbone: Backbone, class_names: Sequence[str], templates: Sequence[str], penalties: Penalties) -> None:
        self._weights = penalties
        self._teacher = ZeroShot(backbone, class_names, templates, normalised=False)
        self._texts = self._teacher.text_features()
        self._first = ZeroShot(backbone, class_names, templates[:1]).text_features() if penalties.text_cosine else self._texts

    @staticmethod
    def of(
        backbone: Backbone, class_names: Sequence[str], templates: Sequence[str], penalties: Penalties
    ) -> "Regularizer | None":
        """Creates the regularizer, if one is needed.

        Args:
            backbone: the frozen backbone.
            class_names: the names of the classes.
            templates: sentences with {} for the class name; the teacher averages over all of them.
            penalties: the weights of the terms.

        Returns:
            The regularizer; None if every weight is 0, so that no teacher runs.
        """
        weights = (penalties.distill, penalties.text_l1, penalties.image_l1, penalties.text_cosine)
        return Regularizer(backbone, class_names, templates, penalties) if any(weights) else None

    def __call__(self, pixels: UInt8[Tensor, "images 3 size size"], student: Embedded) -> Float[Tensor, ""]:
        """Computes the sum to add to the loss of the batch.

        Args:
            pixels: (images, 3, size, size), uint8, of the backbone's image size.
            student: the model's embeddings and logits of the same batch.
        """
        weights, total = self._weights, student.texts.new_zeros(())
        if weights.distill or weights.image_l1:
            shared = student.image_encoder is self._teacher.image_encoder
            images = student.images if shared else self._teacher.image_features(pixels)
            if weights.distill:
                total = total + weights.distill * distillation(student.logits, self._teacher.logits(images, self._texts))
            if weights.image_l1:
                total = total + weights.image_l1 * F.l1_loss(student.images, images)
        if weights.text_l1:
            total = total + weights.text_l1 * F.l1_loss(student.texts, self._texts)
        if weights.text_cosine:
            total = total + weights.text_cosine * (1 - (student.texts * self._first).sum(dim=-1)).mean()
        return total


def distillation(student: Float[Tensor, "images classes"], teacher: Float[Tensor, "images classes"]) -> Float[Tensor, ""]:
    """Computes KL(teacher || student), the sum over images and classes divided by (images * classes).

    This is the scale of the authors' releases (DPL's multiplies it by 0), at temperature 1.

    Args:
        student: logits, (images, classes).
        teacher: logits, (images, classes).

    Returns:
        The divergence, a scalar, at least 0.
    """
    student, teacher = student.log_softmax(dim=-1), teacher.log_softmax(dim=-1)
    return F.kl_div(student, teacher, reduction="sum", log_target=True) / student.numel()


class Aggregate(nn.Module):
    """PromptSRC's Gaussian aggregation: the sum of w_e theta_e over the epochs e = 1..N, theta_e the parameters after epoch e.

    w_e ~ exp(-(e - peak N)^2 / (2 (std N)^2)), normalised to the sum 1. The state is the sum so far: one copy of the parameters.
    """

    def __init__(self, parameters: Sequence[Tensor], peak: float, std: float, epochs: int) -> None:
        """Starts the aggregate at zero.

        Args:
            parameters: the parameters to aggregate.
            peak: the peak of the weights as a part (0-1) of `epochs`.
            std: the standard deviation as a part (0-1) of `epochs`; 0 selects the epoch nearest the peak only.
            epochs: n, the number of epochs.
        """
        super().__init__()
        self._parameters_now = list(parameters)
        self.sums = nn.ParameterList(nn.Parameter(torch.zeros_like(own), requires_grad=False) for own in parameters)
        self.weights = gaussian_weights(peak * epochs, std * epochs, epochs)

    @torch.no_grad()
    def add(self, epoch: int) -> None:
        """Adds the present parameters with the weight of `epoch`, which counts from 0."""
        for total, own in zip(self.sums, self._parameters_now, strict=True):
            total.add_(own, alpha=self.weights[epoch])

    @torch.no_grad()
    def take_over(self) -> None:
        """Replaces the parameters by the sum."""
        for total, own in zip(self.sums, self._parameters_now, strict=True):
            own.copy_(total)


def gaussian_weights(mean: float, std: float, epochs: int) -> list[float]:
    """Computes exp(-(e - mean)^2 / (2 std^2)) for e = 1..epochs, divided by their sum.

    Args:
        mean: the epoch of the largest weight, counted from 1.
        std: standard deviation in epochs; 0 selects the epoch nearest to `mean`, or both nearest with equal weights.
        epochs: number of epochs.

    Returns:
        A weight per epoch; their sum is 1.
    """
    distances = [(epoch - mean) ** 2 for epoch in range(1, epochs + 1)]
    nearest = min(distances)  # subtracting it leaves the weights unchanged and keeps one from underflowing
    if std == 0:
        weights = [float(distance == nearest) for distance in distances]
    else:
        weights = [math.exp((nearest - distance) / (2 * std**2)) for distance in distances]
    return [weight / sum(weights) for weight in weights]
