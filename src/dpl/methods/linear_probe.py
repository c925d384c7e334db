"""Linear probe: logistic regression on the frozen image features, as in the comparisons of CoOp's paper.

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
from dpl.data.pixels.store import ImageStore
from dpl.data.task import Item
from dpl.features import embed, embed_items
from dpl.methods.method import Inputs, Method
from dpl.optim.logistic import Labels, Planes, Vectors, best_c, logistic_regression


@dataclass(frozen=True)
class LinearProbeConfig:
    """The linear probe has no settings."""


@dataclass(frozen=True)
class LinearProbeRun(RunConfig):
    """Linear probe: logistic regression on the frozen image features."""

    method: str = "linear-probe"
    design: Annotated[LinearProbeConfig, tyro.conf.arg(name="")] = field(default_factory=LinearProbeConfig)


class LinearProbe(Method):
    """logits = W f + b, with the frozen image features f, not of unit length; texts are not used.

    W and b minimise the sum of cross entropy over the training shots, without augmentation, + |W|^2 / (2 C). C is chosen on the
    validation shots (`dpl.optim.logistic.best_c`); without any, C = 1. A class without a training shot is never predicted.
    """

    name = "linear-probe"
    Config = LinearProbeConfig

    def __init__(
        self, backbone: Backbone, class_names: Sequence[str], templates: Sequence[str], design: LinearProbeConfig, seed: int = 0
    ) -> None:
        super().__init__(backbone, class_names, templates, design)
        dim = backbone.clip.visual_projection.out_features
        self.weight = nn.Parameter(torch.zeros(len(class_names), dim, device=backbone.device))
        self.bias = nn.Parameter(torch.zeros(len(class_names), device=backbone.device))
        self._inverse_decay = 1.0

    def on_train_end(self, inputs: Inputs) -> None:
        """Chooses C on the validation shots and solves for W and b; there is no training by steps.

        Args:
            inputs: the backbone, the task and the shots.

        Raises:
            DplError: an image cannot be read.
        """
        features, labels = self._features(inputs.shots.train, inputs.images)
        val_features, val_labels = self._features(inputs.shots.val, inputs.images)

        @cache
        def fitted(c: float) -> Planes:
            return logistic_regression(features, labels, c, len(self.class_names))

        def correct(c: float) -> int:
            weight, bias = fitted(c)
            return int(((val_features @ weight.T + bias).argmax(axis=1) == val_labels).sum())

        self._inverse_decay = best_c(correct) if inputs.shots.val else 1.0
        weight, bias = fitted(self._inverse_decay)
        with torch.no_grad():
            self.weight.copy_(torch.from_numpy(weight).float())
            self.bias.copy_(torch.from_numpy(bias).float())

    def _features(self, items: Sequence[Item], images: ImageStore) -> tuple[Vectors, Labels]:
        features = embed_items(self.backbone, items, images)
        return features.cpu().double().numpy(), np.array([item.label for item in items], dtype=np.int64)

    @property
    def class_specific(self) -> bool:
        """True: W and b have a row per class."""
        return True

    @property
    def scalars(self) -> Mapping[str, float]:
        """C, greater than 0: the inverse of the weight decay."""
        return {"C": self._inverse_decay}

    @scalars.setter
    def scalars(self, values: Mapping[str, float]) -> None:
        self._inverse_decay = values["C"]

    @property
    def image_encoder(self) -> object:
        """This method, because no other one keeps features at their original length."""
        return self

    def image_features(self, pixels: UInt8[Tensor, "images 3 size size"]) -> Float[Tensor, "images dim"]:
        """Embeds images with the frozen backbone.

        Args:
            pixels: (images, 3, size, size), uint8, of the backbone's image size.

        Returns:
            (images, dim), not of unit length.
        """
        return embed(self.backbone, pixels)

    def text_features(self) -> Float[Tensor, "classes dim"]:
        """Returns W, which replaces the class embeddings."""
        return self.weight

    def logits(
        self, image_features: Float[Tensor, "images dim"], text_features: Float[Tensor, "classes dim"]
    ) -> Float[Tensor, "images classes"]:
        """Computes W f + b.

        Args:
            image_features: f, not of unit length.
            text_features: w.

        Returns:
            The logits.
        """
        return image_features @ text_features.T + self.bias
