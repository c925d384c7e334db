"""Heads compute a classifier's logits from image features and the logits of the class texts; `fit_residual` fits a head.

The text head is the text embeddings alone. A residual head adds a learned matrix to them, as TaskRes (Yu et al., CVPR 2023) and
CLAP (Silva-Rodriguez et al., CVPR 2024) do: where class names mean nothing to the text encoder, it becomes a linear probe of the
prompted features; where they mean much, its penalty keeps it at the texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

STEPS = 200
"""Largest number of iterations of L-BFGS."""


@dataclass(frozen=True)
class HeadSettings:
    """The settings of a head.

    `weight_decay` is the weight lambda of the residual's penalty, none for the text head. `ratio` is the scale of the logits, as
    a part of the model's own.
    """

    ratio: float = 1.0
    weight_decay: float | None = None


TEXT = HeadSettings()


@dataclass(frozen=True, eq=False)
class Head:
    """A residual head: logits = ratio (text logits + scale f D^T), with `scale` the model's own exp(logit_scale).

    For the text logits scale f T^T of a CLIP this is s f (T + D)^T with s = ratio x scale.
    """

    residual: Float[Tensor, "classes dim"]
    """D, in the order of the classes."""
    settings: HeadSettings

    def logits(
        self, text_logits: Float[Tensor, "images classes"], image_features: Float[Tensor, "images dim"], scale: Tensor | float
    ) -> Float[Tensor, "images classes"]:
        """Computes the logits.

        Args:
            text_logits: (images, classes), those of the text embeddings alone.
            image_features: (images, dim), of unit length.
            scale: the model's own exp(logit_scale).

        Returns:
            (images, classes).
        """
        return self.settings.ratio * (text_logits + scale * image_features @ self.residual.T)

    def to(self, device: torch.device) -> "Head":
        """Returns the head on `device`."""
        return Head(self.residual.to(device), self.settings)

    def select(self, places: Sequence[int]) -> "Head":
        """Returns the head of the classes at `places`, in that order."""
        return Head(self.residual[list(places)], self.settings)


@dataclass(frozen=True, eq=False)
class Shots:
    """The shots as a head sees them: float64 on one device."""

    text_logits: Float64[Tensor, "images classes"]
    image_features: Float64[Tensor, "images dim"]
    """Of unit length."""
    labels: Int64[Tensor, "images"]
    scale: float
    """The model's own exp(logit_scale)."""

    @cached_property
    def weights(self) -> Float64[Tensor, "images"]:
        """The `class_weights` of the images."""
        return class_weights(self.labels)

    @cached_property
    def one_hot(self) -> Float64[Tensor, "images classes"]:
        """The labels, 1 for the image's class and 0 for the others."""
        return F.one_hot(self.labels, self.text_logits.shape[1]).double()

    def select(self, chosen: Bool[Tensor, "images"]) -> "Shots":
        """Returns the chosen images."""
        return Shots(self.text_logits[chosen], self.image_features[chosen], self.labels[chosen], self.scale)


def class_weights(labels: Int64[Tensor, "images"]) -> Float64[Tensor, "images"]:
    """Computes a weight per image with which every class that has images counts the same; the sum is 1."""
    _, places, counts = labels.unique(return_inverse=True, return_counts=True)
    return 1 / (len(counts) * counts[places].double())


def objective(
    residual: Float64[Tensor, "classes dim"], shots: Shots, settings: HeadSettings
) -> tuple[Float64[Tensor, ""], Float64[Tensor, "classes dim"]]:
    """Computes the loss of a residual D and its gradient.

    The loss is sum_i w_i CE_i + lambda |scale D|^2, with the class-balanced weights w, and convex in D. The penalty is on what D
    adds to the logits, so that a lambda means the same for models of different scale. With s = ratio x scale, P the probabilities
    (images, classes) and Y the one-hot labels, the gradient is s (P - Y)^T diag(w) f + 2 lambda scale^2 D.

    Args:
        residual: D.
        shots: the images.
        settings: lambda, and the ratio of the scale.

    Returns:
        The loss and the gradient.
    """
    assert settings.weight_decay is not None
    logits = Head(residual, settings).logits(shots.text_logits, shots.image_features, shots.scale)
    log_probabilities, weights = logits.log_softmax(dim=1), shots.weights
    own = log_probabilities.gather(1, shots.labels[:, None])[:, 0]
    penalty = settings.weight_decay * shots.scale**2
    loss = -(weights * own).sum() + penalty * (residual**2).sum()
    slope = log_probabilities.exp() - shots.one_hot
    scale = settings.ratio * shots.scale
    return loss, scale * (weights[:, None] * slope).T @ shots.image_features + 2 * penalty * residual


def fit_residual(
    shots: Shots, settings: HeadSettings, start: Float64[Tensor, "classes dim"] | None = None, steps: int = STEPS
) -> Float64[Tensor, "classes dim"]:
    """Minimises `objective` by L-BFGS.

    Args:
        shots: the images.
        settings: lambda, and the ratio of the scale.
        start: the first D; none: 0.
        steps: largest number of iterations.

    Returns:
        D.
    """
    from scipy.optimize import minimize

    shape, device = (shots.text_logits.shape[1], shots.image_features.shape[1]), shots.labels.device

    def loss_and_gradient(flat: Float64[np.ndarray, "values"]) -> tuple[float, Float64[np.ndarray, "values"]]:
        loss, gradient = objective(torch.from_numpy(flat).to(device).view(shape), shots, settings)
        return loss.item(), gradient.cpu().numpy().ravel()

    begin = torch.zeros(shape) if start is None else start
    options = {"maxiter": steps, "maxcor": 20}
    found = minimize(loss_and_gradient, begin.double().cpu().numpy().ravel(), jac=True, method="L-BFGS-B", options=options)
    return torch.from_numpy(found.x).to(device).view(shape)
