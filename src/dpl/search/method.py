"""What a search method is, and the validation images that it judges by."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from dpl.classifier import Classifier
from dpl.prompts.layout import PromptLayout
from dpl.rng import generator

Batch = tuple[Tensor, Tensor]  # uint8 pixels (images, 3, size, size) and labels (images,)
Scores = tuple[Sequence[Sequence[float]], Sequence[Sequence[float]]]  # image and text, layers x options


@dataclass(frozen=True)
class Validation:
    """The validation shots, all on the device; batches are drawn by seed, epoch and step."""

    pixels: Tensor
    labels: Tensor
    batch_size: int
    seed: int

    def draw(self, epoch: int, step: int) -> Batch:
        """A fresh batch, or all where there are fewer."""
        return self._take(self._order("validation", epoch, step)[: self.batch_size])

    def all(self, epoch: int) -> Iterator[Batch]:
        """Every image once, in batches, shuffled anew each epoch."""
        yield from map(self._take, self._order("validation", epoch).split(self.batch_size))

    def _order(self, *names: str | int) -> Tensor:
        return torch.randperm(len(self.labels), generator=generator(self.seed, *names)).to(self.labels.device)

    def _take(self, chosen: Tensor) -> Batch:
        return self.pixels[chosen], self.labels[chosen]


class SearchMethod(ABC):
    """A model larger than any layout, and how it learns which options its layers need.

    `model` and `optimizers` (one is called "prompts") hold the whole state: a checkpoint saves and restores them.
    """

    model: Classifier
    optimizers: Mapping[str, Optimizer]

    @abstractmethod
    def step(self, training: Batch, validation: Validation, epoch: int, step: int, where: str) -> dict[str, float]:
        """One step; its losses by name. Raises `DplError`, with `where`, for one that is not finite."""

    @abstractmethod
    def finish_epoch(self, validation: Validation, epoch: int, history: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """What the history keeps of this epoch, numbers and lists of them; `history` are the records of those before."""

    @abstractmethod
    def scores(self) -> Scores:
        """How good each option of each layer is, as it seems now; the layout with the highest sum is chosen."""

    def prompts_in(self, layout: PromptLayout) -> dict[str, Tensor]:
        """Copies of the prompts that belong to `layout`, by their names in the state dict of `Classifier.fixed`."""
        branches = {"image": (self.model.image.layers, layout.image), "text": (self.model.text.layers, layout.text)}
        return {
            f"{branch}.layers.{index}.prompts": self.kept(layer, length).detach().clone()
            for branch, (layers, lengths) in branches.items()
            for index, (layer, length) in enumerate(zip(layers, lengths, strict=True))
        }

    @abstractmethod
    def kept(self, layer: Any, length: int) -> Tensor:
        """The prompts, (length, width), that a layer of the model keeps at that length."""
