"""ProGrad: CoOp's context, trained without the part of the gradient that opposes the frozen model's predictions.

Zhu et al., "Prompt-aligned Gradient for Prompt Tuning", ICCV 2023; github.com/BeierZhu/Prompt-align.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import tyro
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from dpl.classifier import ZeroShot
from dpl.config import FIELD, HeadedRun, Optimization, Protocol, Rate, RateOrZero
from dpl.methods.coop import CoOp, CoOpConfig, epochs_for
from dpl.methods.method import Objective
from dpl.optim.regularization import Regularizer


@dataclass(frozen=True)
class ProGradConfig(CoOpConfig):
    """The context of CoOp, and the projection of its gradient."""

    temperature: Rate = 1.0
    """Temperature T of both models' probabilities in the general direction."""
    projection: RateOrZero = 1.0
    """Factor of the removed gradient against the general direction: 1 removes it, 0 removes nothing, which is CoOp."""


@dataclass(frozen=True)
class ProGradRun(HeadedRun):
    """ProGrad: CoOp's context, trained without the part of the gradient that opposes the frozen model's predictions."""

    method: str = "prograd"
    design: Annotated[ProGradConfig, tyro.conf.arg(name="")] = field(default_factory=ProGradConfig)
    train: Optimization = field(default_factory=lambda: Optimization(epochs=27))

    @classmethod
    def paper_settings(cls, protocol: Protocol) -> dict[str, Any]:
        """Returns the authors' settings: 16 tokens; 50 epochs with 1 shot, 100 with up to 4, 200 with more.

        The context starts at N(0, .02^2), or with --init at words. The settings of the authors' release start it at the words of
        a template with zeros in front of them; the scripts of the release differ from that.
        """
        train = Optimization(epochs=epochs_for(protocol.shots), batch_size=32, lr=2e-3, **FIELD)
        return {**super().paper_settings(protocol), "train": train}


@dataclass(frozen=True, eq=False)
class AlignedObjective(Objective):
    """Cross entropy with a gradient that is projected where it opposes the gradient of `general`."""

    general: Float[Tensor, ""]
    """The distance from the frozen model, whose descent is the general direction."""
    projection: float
    """Lambda."""

    def backward(self, parameters: list[Tensor]) -> None:
        """Sets the gradient of every parameter to g - lambda (g . h^) h^ where g . h < 0, else to g.

        g and h are the gradients of `loss` and `general`, and h^ = h / |h|.

        Args:
            parameters: the parameters whose `grad` is written.
        """
        own = torch.autograd.grad(self.loss, parameters, retain_graph=True)
        general = torch.autograd.grad(self.general, parameters)
        for parameter, g, h in zip(parameters, own, general, strict=True):
            direction = F.normalize(h.flatten(), dim=0).view_as(h)
            parameter.grad = g - self.projection * (g * direction).sum().clamp(max=0) * direction


class ProGrad(CoOp):
    """CoOp trained without the part of its gradient that opposes the general direction.

    The general direction is the descent direction of KL(softmax(z0 / T) || softmax(z / T)) over the batch, where z0 are the
    logits of the frozen model with the task's first template. Its length does not matter, so distillation's factor T^2 is left
    out.
    """

    name = "prograd"
    Config = ProGradConfig
    regularizable = False  # the general direction replaces the regularizer

    @cached_property
    def _teacher(self) -> ZeroShot:
        return ZeroShot(self.backbone, self.class_names, self.templates[:1])

    def objective(
        self,
        pixels: UInt8[Tensor, "images 3 size size"],
        labels: Int[Tensor, "images"],
        regularizer: Regularizer | None = None,
    ) -> Objective:
        """Computes cross entropy on a batch, and the KL term of the general direction.

        Args:
            pixels: uint8 images of the backbone's image size.
            labels: class indices.
            regularizer: not used.

        Returns:
            The loss, the logits and the KL term.
        """
        images, temperature = self.image_features(pixels), self.design.temperature
        logits = self.logits(images, self.text_features())
        teacher = self._teacher.logits(images, self._teacher.text_features())
        student = (logits / temperature).log_softmax(dim=-1)
        general = F.kl_div(student, (teacher / temperature).softmax(dim=-1), reduction="batchmean")
        return AlignedObjective(F.cross_entropy(logits, labels), logits, general, self.design.projection)
