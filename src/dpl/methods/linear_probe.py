"""Linear probe: logistic regression on the frozen image features, in the way that CoOp is compared with it.

Radford et al., "Learning Transferable Visual Models", ICML 2021; the search for C: github.com/KaiyangZhou/CoOp, lpclip.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated

import numpy as np
import torch
import tyro
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor, nn

from dpl.backbones.loading import Backbone
from dpl.config import RunConfig
from dpl.data.fewshot import FewShot
from dpl.data.task import Item
from dpl.features import embed, embed_items
from dpl.methods.method import Method

GRID = (1e6, 1e4, 1e2, 1.0, 1e-2, 1e-4, 1e-6)
HALVINGS = 8
MOST_STEPS = 1000
NEVER = -1e9  # the bias of a class that was never seen: finite, and of probability 0 beside any other

Vectors = Float64[np.ndarray, "images dim"]
Labels = Int64[np.ndarray, "images"]
Planes = tuple[Float64[np.ndarray, "classes dim"], Float64[np.ndarray, "classes"]]


@dataclass(frozen=True)
class LinearProbeDesign:
    """There is nothing to choose."""


@dataclass(frozen=True)
class LinearProbeRun(RunConfig):
    """Linear probe: logistic regression on the frozen image features."""

    method: str = "linear-probe"
    design: Annotated[LinearProbeDesign, tyro.conf.arg(name="")] = field(default_factory=LinearProbeDesign)


class LinearProbe(Method):
    """logits = W f + b, f the frozen image features, not of unit length; the texts have no part in it.

    W and b are the minimum of the sum of cross entropy + |W|^2 / (2 C) over the untouched training shots. The validation shots
    choose C: the best of `GRID`, then `HALVINGS` bisections of 0.1 C to 10 C; without any, C = 1. A class without a training
    shot is never predicted.
    """

    name = "linear-probe"
    Design = LinearProbeDesign

    def __init__(
        self, backbone: Backbone, class_names: Sequence[str], templates: Sequence[str], design: LinearProbeDesign, seed: int = 0
    ) -> None:
        super().__init__(backbone, class_names, templates, design)
        dim = backbone.clip.visual_projection.out_features
        self.weight = nn.Parameter(torch.zeros(len(class_names), dim, device=backbone.device))
        self.bias = nn.Parameter(torch.zeros(len(class_names), device=backbone.device))
        self._inverse_decay = 1.0

    def conclude(self, shots: FewShot) -> None:
        """Does it all: chooses C and solves."""
        features, labels = self._features(shots.train)
        val_features, val_labels = self._features(shots.val)

        @cache
        def fitted(c: float) -> Planes:
            return logistic_regression(features, labels, c, len(self.class_names))

        def correct(c: float) -> int:
            weight, bias = fitted(c)
            return int(((val_features @ weight.T + bias).argmax(axis=1) == val_labels).sum())

        self._inverse_decay = best_c(correct) if shots.val else 1.0
        weight, bias = fitted(self._inverse_decay)
        with torch.no_grad():
            self.weight.copy_(torch.from_numpy(weight))
            self.bias.copy_(torch.from_numpy(bias))

    def _features(self, items: Sequence[Item]) -> tuple[Vectors, Labels]:
        features = embed_items(self.backbone, items)
        return features.double().cpu().numpy(), np.array([item.label for item in items], dtype=np.int64)

    @property
    def class_specific(self) -> bool:
        """Always."""
        return True

    @property
    def scalars(self) -> Mapping[str, float]:
        """C, above 0: the inverse of the weight decay."""
        return {"C": self._inverse_decay}

    @scalars.setter
    def scalars(self, values: Mapping[str, float]) -> None:
        self._inverse_decay = values["C"]

    @property
    def image_encoder(self) -> object:
        """The probe itself, as nobody else leaves features at their own lengths."""
        return self

    def image_features(self, pixels: UInt8[Tensor, "images 3 size size"]) -> Float[Tensor, "images dim"]:
        """Image embeddings, not of unit length."""
        return embed(self.backbone, pixels)

    def text_features(self) -> Float[Tensor, "classes dim"]:
        """W, which images are compared with in place of texts."""
        return self.weight

    def logits(
        self, image_features: Float[Tensor, "images dim"], text_features: Float[Tensor, "classes dim"]
    ) -> Float[Tensor, "images classes"]:
        """W f + b, with W as `text_features`."""
        return image_features @ text_features.T + self.bias


def best_c(score: Callable[[float], float]) -> float:
    """The C of the highest `score`, first of equals, among `GRID`; then `HALVINGS` times the better end of a range around it.

    The range is 0.1 C to 10 C; after every comparison the worse half goes, in log10, and of equal ends the higher one.
    """
    low = math.log10(max(GRID, key=score)) - 1
    high = best = low + 2
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if score(10**low) < score(10**high):
            best, low = high, middle
        else:
            best, high = low, middle
    return 10**best


def logistic_regression(features: Vectors, labels: Labels, c: float, classes: int) -> Planes:
    """Weights (classes, dim) and biases (classes,) of scikit-learn's, with L2 penalty 1 / (2 c), in at most `MOST_STEPS`.

    Classes that are not among `labels` have weights of zero and the bias `NEVER`. Of two classes the one plane of
    scikit-learn is halved, so that the difference of the logits is its own.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    weight, bias, seen = np.zeros((classes, features.shape[1])), np.full(classes, NEVER), np.unique(labels)
    if len(seen) == 1:  # nothing to tell apart, which scikit-learn refuses
        bias[seen] = 0
        return weight, bias
    solver = LogisticRegression(C=c, max_iter=MOST_STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a C without a minimum nearby is a candidate like the others
        solver.fit(features, labels)
    planes = (solver.coef_, solver.intercept_)
    weight[seen], bias[seen] = planes if len(seen) > 2 else (np.concatenate([-half, half]) for half in (p / 2 for p in planes))
    return weight, bias
