"""Training batches of the few-shot images: decoded once, shuffled every epoch, augmented every step."""

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from dpl.backbones.loading import Backbone
from dpl.data.pixels.prefetch import while_computing
from dpl.data.pixels.resample import to_device
from dpl.data.pixels.store import ImageStore
from dpl.data.pixels.transforms import train_batch
from dpl.data.task import Augmentation, Item
from dpl.utils.rng import generator

Batch = tuple[int, UInt8[Tensor, "images 3 size size"], Int[Tensor, "images"]]


@runtime_checkable
class Batching(Protocol):
    """The settings of batches, such as `dpl.config.Optimization`."""

    @property
    def batch_size(self) -> int:
        """Training images per step."""
        ...

    @property
    def drop_last(self) -> bool:
        """Whether the last batch of an epoch is left out if it is smaller, unless it is the only one."""
        ...


class TrainingBatches:
    """Shuffled and augmented batches on the backbone's device.

    An epoch has every item once, in batches of `config.batch_size`. The last batch may be smaller; `config.drop_last` drops
    it, except where it is the only one. Order and augmentation depend only on seed, stage, epoch and step, so an epoch can
    start at any step.

    Args:
        items: Training items.
        backbone: Gives the preprocessing and the device.
        augmentation: Random crop and flip.
        config: Gives `batch_size` and `drop_last`.
        seed: Seed of the run.
        stage: Name of the training stage; each stage has its own random draws.
        images: Decoded images of the run; by default the batches decode the items themselves.
    """

    def __init__(
        self,
        items: Sequence[Item],
        backbone: Backbone,
        augmentation: Augmentation,
        config: Batching,
        seed: int,
        stage: str,
        images: ImageStore | None = None,
    ) -> None:
        self._items = items
        self._images = (images or ImageStore()).training(backbone.preprocessing, augmentation, backbone.device)
        self._labels = torch.tensor([item.label for item in items])
        self._preprocessing, self._device, self._augmentation = backbone.preprocessing, backbone.device, augmentation
        self._batch_size, self._seed, self._stage = config.batch_size, seed, stage
        self._drop_last = config.drop_last and len(items) >= config.batch_size

    def __len__(self) -> int:
        """Number of steps per epoch."""
        whole, rest = divmod(len(self._items), self._batch_size)
        return whole + (rest > 0 and not self._drop_last)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Iterates over the batches of one epoch.

        Unless the model is on the CPU, a thread prepares the next batch in the background. The batches are the same on all
        devices.

        Args:
            epoch: Number of the epoch; selects the random draws.
            first: First step, from 0.

        Returns:
            Iterator of (step, pixels, labels): pixels uint8 (images, 3, size, size), labels (images).

        Raises:
            DplError: The iterator cannot read an image; the message names the file.
        """
        return while_computing(self._device, self._batches(epoch, first))

    def _batches(self, epoch: int, first: int) -> Iterator[Batch]:
        order = torch.randperm(len(self._items), generator=generator(self._seed, self._stage, "order", epoch))
        for step in range(first, len(self)):
            chosen = order[step * self._batch_size : (step + 1) * self._batch_size]
            images = self._images.select([self._items[index] for index in chosen.tolist()])
            draws = generator(self._seed, self._stage, "augment", epoch, step)
            pixels = train_batch(images, self._preprocessing, self._augmentation, draws)
            yield step, pixels, to_device(self._labels[chosen], self._device)
