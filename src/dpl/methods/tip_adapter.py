"""Tip-Adapter: a cache of the shots' features complements the frozen classifier.

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
from dpl.config import AugmentedRun, Count, Protocol, RateOrZero
from dpl.data.pixels.store import ImageStore
from dpl.data.task import Item
from dpl.evaluate import BATCH_SIZE
from dpl.features import embed_augmented, embed_items
from dpl.methods.method import Inputs, Method

BETAS = tuple(index * (12 - 0.1) / 200 + 0.1 for index in range(200))
ALPHAS = tuple(index * (10 - 0.1) / 20 + 0.1 for index in range(20))


@dataclass(frozen=True)
class TipAdapterConfig:
    """The cache of Tip-Adapter."""

    augment_epochs: Count = 10
    """Augmented views of every training image; its key is the mean of their embeddings."""
    alpha: RateOrZero = 2.0
    """Weight of the cache beside the frozen classifier; validation shots, if any, choose another one at the end."""
    beta: RateOrZero = 1.0
    """Sharpness of the cache: a larger value lowers the weight of keys far from the image; chosen like alpha."""


@dataclass(frozen=True)
class TipAdapterRun(AugmentedRun):
    """Tip-Adapter: a cache of the shots' features complements the frozen classifier; nothing is learned by steps."""

    method: str = "tip-adapter"
    design: Annotated[TipAdapterConfig, tyro.conf.arg(name="")] = field(default_factory=TipAdapterConfig)

    @classmethod
    def paper_settings(cls, protocol: Protocol) -> dict[str, Any]:
        """Returns the authors' settings: crops of 50-100 %."""
        return {"augmentation": "gentle"}


class TipAdapter(ZeroShot, Method):
    """logits = exp(logit_scale) f W^T + alpha exp(-beta (1 - f K^T)) V, with the image embedding f of unit length.

    W are the frozen class embeddings of all templates. K has a key of unit length per training shot: the normalised mean of its
    augmented embeddings. V has the class of each shot, one-hot. At the end alpha and beta become the pair of `ALPHAS` and
    `BETAS` that classifies most validation shots correctly, the first of equals; without validation shots they keep the values
    of the design.
    """

    name = "tip-adapter"
    Config = TipAdapterConfig
    keys: Tensor
    labels: Tensor

    def __init__(
        self, backbone: Backbone, class_names: Sequence[str], templates: Sequence[str], design: TipAdapterConfig, seed: int = 0
    ) -> None:
        ZeroShot.__init__(self, backbone, class_names, templates)
        self.design, self.alpha, self.beta = design, design.alpha, design.beta
        dim = self.text_features().shape[1]
        self._fill(torch.empty(0, dim), torch.empty(0, dtype=torch.long))

    def _fill(self, keys: Float[Tensor, "shots dim"], labels: Int64[Tensor, "shots"]) -> None:
        """Sets the cache to these keys and classes."""
        self.register_buffer("keys", keys.to(self.backbone.device))
        self.register_buffer("labels", labels.to(self.backbone.device))

    @torch.no_grad()
    def on_train_start(self, inputs: Inputs, seed: int) -> None:
        """Builds the cache from the augmented training shots.

        Args:
            inputs: backbone, task and shots.
            seed: seed of the random crops.
        """
        shots, augmentation = inputs.shots.train, inputs.task.augmentation
        views = embed_augmented(self.backbone, shots, augmentation, self.design.augment_epochs, seed, inputs.images)
        self._fill(cache_keys(views), torch.tensor([item.label for item in shots]))

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Loads a state dict as torch does, but with a cache of any number of shots.

        Args:
            state_dict: the tensors by name.
            strict: as in torch.
            assign: as in torch.
        """
        keys, labels = state_dict.get("keys", self.keys), state_dict.get("labels", self.labels)
        if keys.shape != self.keys.shape:  # else the keys must stay the same tensor, because an optimiser may hold it
            self._fill(torch.empty_like(keys), torch.empty_like(labels))
        return super().load_state_dict(state_dict, strict, assign)

    def on_train_end(self, inputs: Inputs) -> None:
        """Chooses alpha and beta on the validation shots, if there are any.

        Args:
            inputs: the backbone, the task and the shots.
        """
        if inputs.shots.val:
            self.alpha, self.beta = self._searched(inputs.shots.val, inputs.images)

    @torch.no_grad()
    def _searched(self, shots: Sequence[Item], images: ImageStore) -> tuple[float, float]:
        texts, device = self.text_features(), self.backbone.device
        features = F.normalize(embed_items(self.backbone, shots, images))
        labels = torch.tensor([item.label for item in shots], device=device)
        alphas = torch.tensor(ALPHAS, device=device).view(-1, 1, 1)
        right = torch.zeros(len(BETAS), len(ALPHAS), dtype=torch.long, device=device)
        for batch, own in zip(features.split(BATCH_SIZE), labels.split(BATCH_SIZE), strict=True):
            frozen = super().logits(batch, texts)
            for index, beta in enumerate(BETAS):
                logits = frozen + alphas * self._cached(batch, beta)
                right[index] += (logits.argmax(dim=-1) == own).sum(dim=-1)
        beta, alpha = divmod(int(right.argmax()), len(ALPHAS))
        return ALPHAS[alpha], BETAS[beta]

    def _cached(self, images: Float[Tensor, "images dim"], beta: float) -> Float[Tensor, "images classes"]:
        values = F.one_hot(self.labels, len(self.class_names)).to(images.dtype)
        return (-beta * (1 - images @ self.keys.T)).exp() @ values

    @property
    def class_specific(self) -> bool:
        """True: the cache has the classes of the shots."""
        return True

    @property
    def scalars(self) -> Mapping[str, float]:
        """alpha and beta, both at least 0."""
        return {"alpha": self.alpha, "beta": self.beta}

    @scalars.setter
    def scalars(self, values: Mapping[str, float]) -> None:
        self.alpha, self.beta = values["alpha"], values["beta"]

    def select_classes(self, places: Sequence[int]) -> Mapping[str, Tensor]:
        """Selects the keys of the shots of some classes.

        Args:
            places: indices of the classes, in the order of the result.

        Returns:
            The keys, and their labels as positions in `places`.
        """
        chosen = self.labels[:, None] == torch.tensor(places, device=self.labels.device)
        kept = chosen.any(dim=1)
        return {"keys": self.keys.detach()[kept], "labels": chosen[kept].int().argmax(dim=1)}

    def logits(
        self, image_features: Float[Tensor, "images dim"], text_features: Float[Tensor, "classes dim"]
    ) -> Float[Tensor, "images classes"]:
        """Computes the logits of the frozen model plus alpha times those of the cache.

        Args:
            image_features: image embeddings of unit length.
            text_features: class embeddings of unit length.

        Returns:
            The logits.
        """
        return super().logits(image_features, text_features) + self.alpha * self._cached(image_features, self.beta)


def cache_keys(views: Iterator[Float[Tensor, "shots dim"]]) -> Float[Tensor, "shots dim"]:
    """Computes the keys of the cache: normalise(mean) of several embeddings of every shot.

    Args:
        views: embeddings of all shots, (shots, dim), not of unit length, once per augmented view.

    Returns:
        The keys, (shots, dim), of unit length.
    """
    return F.normalize(reduce(torch.add, views))
