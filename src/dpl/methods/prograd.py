"""ProGrad: CoOp's context, never against the frozen model's opinion.

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
from dpl.config import FIELD, AugmentedRun, Occasion, Optimization, Rate, RateOrZero
from dpl.methods.coop import CoOp, CoOpDesign, epochs_for
from dpl.methods.method import Objective
from dpl.regularization import Regularizer


@dataclass(frozen=True)
class ProGradDesign(CoOpDesign):
    """The context of CoOp, and how its gradient is bent."""

    temperature: Rate = 1.0
    """Temperature T of both models' opinions in the general direction."""
    projection: RateOrZero = 1.0
    """How much of the part against the general direction is taken away: 1 all of it, 0 nothing, which is CoOp."""


@dataclass(frozen=True)
class ProGradRun(AugmentedRun):
    """ProGrad: CoOp's context, never against the frozen model's opinion."""

    method: str = "prograd"
    design: Annotated[ProGradDesign, tyro.conf.arg(name="")] = field(default_factory=ProGradDesign)
    train: Optimization = field(default_factory=lambda: Optimization(epochs=27))

    @classmethod
    def published(cls, occasion: Occasion) -> dict[str, Any]:
        """16 tokens; 50 epochs with 1 shot, 100 with up to 4, 200 with more.

        The context starts at N(0, .02^2), or with --init at words. The release's settings start it at the words of a template
        with zeros in front of them; its scripts differ.
        """
        train = Optimization(epochs=epochs_for(occasion.shots), batch_size=32, lr=2e-3, **FIELD)
        return {"augmentation": "protocol", "train": train}


@dataclass(frozen=True, eq=False)
class AlignedObjective(Objective):
    """Cross entropy, whose gradient gives way where it is against that of `general`."""

    general: Float[Tensor, ""]
    """The distance from the frozen model, whose descent is the general direction."""
    projection: float
    """Lambda."""

    def backward(self, parameters: list[Tensor]) -> None:
        """g - lambda (g . h^) h^ where g . h < 0, else g, for every parameter; g, h of `loss` and `general`, h^ = h / |h|."""
        own = torch.autograd.grad(self.loss, parameters, retain_graph=True)
        general = torch.autograd.grad(self.general, parameters)
        for parameter, g, h in zip(parameters, own, general, strict=True):
            direction = F.normalize(h.flatten(), dim=0).view_as(h)
            parameter.grad = g - self.projection * (g * direction).sum().clamp(max=0) * direction


class ProGrad(CoOp):
    """CoOp that learns by the part of its gradient which does not go against the general direction.

    That is down KL(softmax(z0 / T) || softmax(z / T)) over the batch, z0 the logits of the frozen model with the task's first
    template. Only its direction counts: the T^2 of distillation would change nothing.
    """

    name = "prograd"
    Design = ProGradDesign
    regularizable = False  # the general direction is in its place

    @cached_property
    def _teacher(self) -> ZeroShot:
        return ZeroShot(self.backbone, self.class_names, self.templates[:1])

    def objective(
        self,
        pixels: UInt8[Tensor, "images 3 size size"],
        labels: Int[Tensor, "images"],
        regularizer: Regularizer | None = None,
    ) -> Objective:
        """Cross entropy on a batch, and the general direction."""
        images, temperature = self.image_features(pixels), self.design.temperature
        logits = self.logits(images, self.text_features())
        teacher = self._teacher.logits(images, self._teacher.text_features())
        student = (logits / temperature).log_softmax(dim=-1)
        general = F.kl_div(student, (teacher / temperature).softmax(dim=-1), reduction="batchmean")
        return AlignedObjective(F.cross_entropy(logits, labels), logits, general, self.design.projection)
