"""Tip-Adapter: the features of the few shots are a cache beside the frozen classifier.

Zhang et al., "Tip-Adapter: Training-Free Adaption of CLIP for Few-Shot Classification", ECCV 2022;
github.com/gaopengcuhk/Tip-Adapter.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import tyro
from jaxtyping import Float, Int64
from torch import Tensor

from dpl.backbones.loading import Backbone
from dpl.classifier import ZeroShot
from dpl.config import AugmentedRun, Count, Occasion, RateOrZero
from dpl.data.fewshot import FewShot
from dpl.evaluate import BATCH_SIZE
from dpl.features import embed_augmented, embed_items
from dpl.methods.method import Inputs, Method

BETAS = tuple(index * (12 - 0.1) / 200 + 0.1 for index in range(200))
ALPHAS = tuple(index * (10 - 0.1) / 20 + 0.1 for index in range(20))


@dataclass(frozen=True)
class TipAdapterDesign:
    """The cache of Tip-Adapter."""

    augment_epochs: Count = 10
    """Augmented looks at every training image; its key is the mean of their embeddings."""
    alpha: RateOrZero = 2.0
    """Weight of the cache beside the frozen classifier; where there are validation shots, they choose another at the end."""
    beta: RateOrZero = 1.0
    """How fast a key's say falls with its distance from the image; chosen like alpha."""


@dataclass(frozen=True)
class TipAdapterRun(AugmentedRun):
    """Tip-Adapter: the shots' features are a cache beside the frozen classifier; nothing is learned by steps."""

    method: str = "tip-adapter"
    design: Annotated[TipAdapterDesign, tyro.conf.arg(name="")] = field(default_factory=TipAdapterDesign)

    @classmethod
    def published(cls, occasion: Occasion) -> dict[str, Any]:
        """Crops of 50-100 %."""
        return {"augmentation": "gentle"}


class TipAdapter(ZeroShot, Method):
    """logits = exp(logit_scale) f W^T + alpha exp(-beta (1 - f K^T)) V, of an image's embedding f of unit length.

    W is the frozen classifier of all templates; K has a key of unit length for every training shot, the mean of its augmented
    embeddings; V has the shots' classes, one-hot. alpha and beta are at the end the pair of `ALPHAS` and `BETAS` that gets most
    validation shots right, the first of equals; without validation shots those of the design stay.
    """

    name = "tip-adapter"
    Design = TipAdapterDesign
    keys: Tensor
    labels: Tensor

    def __init__(
        self, backbone: Backbone, class_names: Sequence[str], templates: Sequence[str], design: TipAdapterDesign, seed: int = 0
    ) -> None:
        ZeroShot.__init__(self, backbone, class_names, templates)
        self.design, self.alpha, self.beta = design, design.alpha, design.beta
        dim = self.text_features().shape[1]
        self._fill(torch.empty(0, dim), torch.empty(0, dtype=torch.long))

    def _fill(self, keys: Float[Tensor, "shots dim"], labels: Int64[Tensor, "shots"]) -> None:
        """A cache of these keys and classes."""
        self.register_buffer("keys", keys.to(self.backbone.device))
        self.register_buffer("labels", labels.to(self.backbone.device))

    @torch.no_grad()
    def prepare(self, inputs: Inputs, seed: int) -> None:
        """Makes the cache of the training shots."""
        shots, augmentation = inputs.shots.train, inputs.task.augmentation
        looks = embed_augmented(self.backbone, shots, augmentation, self.design.augment_epochs, seed)
        self._fill(cache_keys(looks), torch.tensor([item.label for item in shots]))

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As torch's, for a cache of any number of shots."""
        keys, labels = state_dict.get("keys", self.keys), state_dict.get("labels", self.labels)
        if keys.shape != self.keys.shape:  # else an optimiser may know the keys: they stay the same tensor
            self._fill(torch.empty_like(keys), torch.empty_like(labels))
        return super().load_state_dict(state_dict, strict, assign)

    def conclude(self, shots: FewShot) -> None:
        """Chooses alpha and beta on the validation shots."""
        if shots.val:
            self.alpha, self.beta = self._searched(shots)

    @torch.no_grad()
    def _searched(self, shots: FewShot) -> tuple[float, float]:
        texts, device = self.text_features(), self.backbone.device
        features = F.normalize(embed_items(self.backbone, shots.val))
        labels = torch.tensor([item.label for item in shots.val], device=device)
        alphas = torch.tensor(ALPHAS, device=device).view(-1, 1, 1)
        right = torch.zeros(len(BETAS), len(ALPHAS), dtype=torch.long, device=device)
        for images, own in zip(features.split(BATCH_SIZE), labels.split(BATCH_SIZE), strict=True):
            frozen = super().logits(images, texts)
            for index, beta in enumerate(BETAS):
                logits = frozen + alphas * self._cached(images, beta)
                right[index] += (logits.argmax(dim=-1) == own).sum(dim=-1)
        beta, alpha = divmod(int(right.argmax()), len(ALPHAS))
        return ALPHAS[alpha], BETAS[beta]

    def _cached(self, images: Float[Tensor, "images dim"], beta: float) -> Float[Tensor, "images classes"]:
        values = F.one_hot(self.labels, len(self.class_names)).to(images.dtype)
        return (-beta * (1 - images @ self.keys.T)).exp() @ values

    @property
    def class_specific(self) -> bool:
        """Always."""
        return True

    @property
    def scalars(self) -> Mapping[str, float]:
        """alpha and beta, 0 or more."""
        return {"alpha": self.alpha, "beta": self.beta}

    @scalars.setter
    def scalars(self, values: Mapping[str, float]) -> None:
        self.alpha, self.beta = values["alpha"], values["beta"]

    def select_classes(self, places: Sequence[int]) -> Mapping[str, Tensor]:
        """The keys of these classes' shots, and the classes by their new places."""
        chosen = self.labels[:, None] == torch.tensor(places, device=self.labels.device)
        kept = chosen.any(dim=1)
        return {"keys": self.keys.detach()[kept], "labels": chosen[kept].int().argmax(dim=1)}

    def logits(
        self, image_features: Float[Tensor, "images dim"], text_features: Float[Tensor, "classes dim"]
    ) -> Float[Tensor, "images classes"]:
        """The frozen model's, and what the cache adds."""
        return super().logits(image_features, text_features) + self.alpha * self._cached(image_features, self.beta)


def cache_keys(looks: Iterator[Float[Tensor, "shots dim"]]) -> Float[Tensor, "shots dim"]:
    """normalise(mean) of several embeddings of the shots, which are not of unit length."""
    return F.normalize(reduce(torch.add, looks))
