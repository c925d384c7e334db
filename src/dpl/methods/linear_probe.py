"""Linear probe: logistic regression on the frozen image features, in the way that CoOp is compared with it.

Radford et al., "Learning Transferable Visual Models", ICML 2021; the search for C: github.com/KaiyangZhou/CoOp, lpclip.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated

import numpy as np
import torch
import tyro
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from dpl.backbones.loading import Backbone
from dpl.config import RunConfig
from dpl.data.fewshot import FewShot
from dpl.data.task import Item
from dpl.features import embed, embed_items
from dpl.logistic import Labels, Planes, Vectors, best_c, logistic_regression
from dpl.methods.method import Method


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
    choose C (`dpl.logistic.best_c`); without any, C = 1. A class without a training
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
