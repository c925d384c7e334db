"""What keeps a model that learns near the frozen one: terms added to cross entropy, and an average over training.

All compare embeddings of unit length, or logits, with those of the frozen model on the same images and classes. So they serve
any method, as DPL decides no more than lengths.
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
    """A batch as a model sees it; embeddings of unit length."""

    images: Float[Tensor, "images dim"]
    texts: Float[Tensor, "classes dim"]
    logits: Float[Tensor, "images classes"]
    image_encoder: object
    """`ClipClassifier.image_encoder` of the model."""


class Regularizer:
    """The sum of the terms of `Penalties`, each with its weight; those of weight 0 are not computed.

    The teacher's texts are the normalised mean of its embeddings over all templates, t0, as PromptSRC has them, but of the
    first template alone for KgCoOp's term.

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
        """None where every weight is 0, so that no teacher runs."""
        weights = (penalties.distill, penalties.text_l1, penalties.image_l1, penalties.text_cosine)
        return Regularizer(backbone, class_names, templates, penalties) if any(weights) else None

    def __call__(self, pixels: UInt8[Tensor, "images 3 size size"], student: Embedded) -> Float[Tensor, ""]:
        """What is to be added to the loss of the batch."""
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
    """KL(teacher || student) of two batches of logits, over images and classes: sum / (images * classes).

    The scale of the authors' releases (DPL's multiplies it by 0), at temperature 1.
    """
    student, teacher = student.log_softmax(dim=-1), teacher.log_softmax(dim=-1)
    return F.kl_div(student, teacher, reduction="sum", log_target=True) / student.numel()


class Aggregate(nn.Module):
    """PromptSRC's Gaussian aggregation: the sum of w_e theta_e over the epochs e = 1..N, theta_e the parameters after epoch e.

    w_e ~ exp(-(e - peak N)^2 / (2 (std N)^2)), of sum 1. The state is the sum so far: one copy of the parameters.
    """

    def __init__(self, parameters: Sequence[Tensor], peak: float, std: float, epochs: int) -> None:
        """`peak` and `std` are parts (0-1) of the `epochs`; a `std` of 0 takes the epoch nearest the peak alone."""
        super().__init__()
        self._parameters_now = list(parameters)
        self.sums = nn.ParameterList(nn.Parameter(torch.zeros_like(own), requires_grad=False) for own in parameters)
        self.weights = gaussian_weights(peak * epochs, std * epochs, epochs)

    @torch.no_grad()
    def add(self, epoch: int) -> None:
        """Adds the parameters as they are after `epoch`, from 0."""
        for total, own in zip(self.sums, self._parameters_now, strict=True):
            total.add_(own, alpha=self.weights[epoch])

    @torch.no_grad()
    def take_over(self) -> None:
        """Sets the parameters to the sum."""
        for total, own in zip(self.sums, self._parameters_now, strict=True):
            own.copy_(total)


def gaussian_weights(mean: float, std: float, epochs: int) -> list[float]:
    """exp(-(e - mean)^2 / (2 std^2)) for e = 1..epochs, divided by their sum."""
    distances = [(epoch - mean) ** 2 for epoch in range(1, epochs + 1)]
    nearest = min(distances)  # taken off all: the weights stay the same, and one of them is above 0
    if std == 0:
        weights = [float(distance == nearest) for distance in distances]
    else:
        weights = [math.exp((nearest - distance) / (2 * std**2)) for distance in distances]
    return [weight / sum(weights) for weight in weights]
