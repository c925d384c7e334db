"""The interface of a search method, and the validation images that score the options."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from dpl.classifier import Classifier
from dpl.prompts.layout import PromptLayout
from dpl.utils.rng import generator

Batch = tuple[Tensor, Tensor]  # uint8 pixels (images, 3, size, size) and labels (images,)
Scores = tuple[Sequence[Sequence[float]], Sequence[Sequence[float]]]  # image and text, layers x options


@dataclass(frozen=True)
class Validation:
    """All validation shots, on the device; seed, epoch and step determine the batches.

    Attributes:
        pixels: (images, 3, size, size), uint8.
        labels: (images,).
        batch_size: most images in a batch.
        seed: seed of the random draws.
    """

    pixels: Tensor
    labels: Tensor
    batch_size: int
    seed: int

    def draw(self, epoch: int, step: int) -> Batch:
        """Draws a fresh batch.

        Args:
            epoch: the epoch, from 0.
            step: the step in the epoch, from 0.

        Returns:
            Pixels and labels of `batch_size` images, or of all if there are fewer.
        """
        return self._take(self._order("validation", epoch, step)[: self.batch_size])

    def all(self, epoch: int) -> Iterator[Batch]:
        """Yields every image once, in batches, in a new random order each epoch.

        Args:
            epoch: the epoch, from 0.
        """
        yield from map(self._take, self._order("validation", epoch).split(self.batch_size))

    def _order(self, *names: str | int) -> Tensor:
        return torch.randperm(len(self.labels), generator=generator(self.seed, *names)).to(self.labels.device)

    def _take(self, chosen: Tensor) -> Batch:
        return self.pixels[chosen], self.labels[chosen]


class SearchMethod(ABC):
    """A model larger than any layout, and the rule that scores the options of its layers.

    `model` and `optimizers` (one is called "prompts") hold the whole state: a checkpoint saves and restores them.
    """

    model: Classifier
    optimizers: Mapping[str, Optimizer]

    @abstractmethod
    def step(self, training: Batch, validation: Validation, epoch: int, step: int, where: str) -> dict[str, float]:
        """Makes one step.

        Args:
            training: a training batch, pixels and labels.
            validation: the validation shots.
            epoch: the epoch, from 0.
            step: the step in the epoch, from 0.
            where: the place in the run, for messages.

        Returns:
            The losses of the step by name.

        Raises:
            DplError: a loss or gradient is not finite; the message starts with `where`.
        """

    @abstractmethod
    def finish_epoch(self, validation: Validation, epoch: int, history: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Finishes an epoch.

        Args:
            validation: the validation shots.
            epoch: the epoch, from 0.
            history: the records of the epochs before.

        Returns:
            The values to add to the epoch's record: numbers, and lists of numbers.
        """

    @abstractmethod
    def scores(self) -> Scores:
        """Returns the present scores of each option in each layer of the image and the text branch; the highest sum wins."""

    def prompts_in(self, layout: PromptLayout) -> dict[str, Tensor]:
        """Copies the prompts for a layout.

        Args:
            layout: the number of prompts of every layer, each one of the options.

        Returns:
            The prompts by their names in the state dict of `Classifier.fixed`.
        """
        branches = {"image": (self.model.image.layers, layout.image), "text": (self.model.text.layers, layout.text)}
        return {
            f"{branch}.layers.{index}.prompts": self.kept(layer, length).detach().clone()
            for branch, (layers, lengths) in branches.items()
            for index, (layer, length) in enumerate(zip(layers, lengths, strict=True))
        }

    @abstractmethod
    def kept(self, layer: Any, length: int) -> Tensor:
        """Returns the prompts that a layer keeps.

        Args:
            layer: a layer of `model`.
            length: the number of prompts in the layout.

        Returns:
            (length, width).
        """
