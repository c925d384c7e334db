"""Training batches: the few shots, decoded once, shuffled every epoch and augmented every step."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from dpl.backbones.loading import Backbone
from dpl.config import Optimization
from dpl.data.ahead import while_computing
from dpl.data.resample import to_device
from dpl.data.task import Augmentation, Item
from dpl.data.transforms import ImageStore, train_batch
from dpl.rng import generator

Batch = tuple[int, UInt8[Tensor, "images 3 size size"], Int[Tensor, "images"]]


class TrainingBatches:
    """Every item once per epoch, in batches of at most `config.batch_size`, on the backbone's device.

    Order and augmentation depend on seed, stage, epoch and step only, so an epoch can begin at any step.
    """

    def __init__(
        self,
        items: Sequence[Item],
        backbone: Backbone,
        augmentation: Augmentation,
        config: Optimization,
        seed: int,
        stage: str,
    ) -> None:
        self._images = ImageStore(items, backbone.image_size, augmentation, backbone.device)
        self._labels = torch.tensor([item.label for item in items])
        self._size, self._device, self._augmentation = backbone.image_size, backbone.device, augmentation
        self._batch_size, self._seed, self._stage = config.batch_size, seed, stage
        self._drop_last = config.drop_last and len(items) >= config.batch_size

    def __len__(self) -> int:
        """Steps per epoch."""
        whole, rest = divmod(len(self._images), self._batch_size)
        return whole + (rest > 0 and not self._drop_last)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The batches of `epoch` from step `first`: (step, pixels, labels).

        Where the model is not on the CPU, a thread prepares the next batch meanwhile; the batches are the same either way.
        Raises `DplError` naming the file where an image cannot be read.
        """
        return while_computing(self._device, self._batches(epoch, first))

    def _batches(self, epoch: int, first: int) -> Iterator[Batch]:
        order = torch.randperm(len(self._images), generator=generator(self._seed, self._stage, "order", epoch))
        for step in range(first, len(self)):
            chosen = order[step * self._batch_size : (step + 1) * self._batch_size]
            images = self._images.select(chosen.tolist())
            draws = generator(self._seed, self._stage, "augment", epoch, step)
            pixels = train_batch(images, self._size, self._augmentation, draws)
            yield step, pixels, to_device(self._labels[chosen], self._device)
