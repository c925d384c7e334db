"""The embeddings that the frozen backbone gives whole sets of images, not of unit length: what methods beside it work on."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from dpl.backbones.loading import Backbone
from dpl.data.ahead import while_computing
from dpl.data.task import Augmentation, Item
from dpl.data.transforms import ImageStore, decode, normalise, train_batch
from dpl.evaluate import BATCH_SIZE
from dpl.rng import generator


def embed(backbone: Backbone, pixels: UInt8[Tensor, "images 3 size size"]) -> Float[Tensor, "images dim"]:
    """Embeddings of uint8 pixels of the backbone's image size."""
    return backbone.image_features(normalise(pixels.to(backbone.device), backbone.mean, backbone.std))


def embed_items(backbone: Backbone, items: Sequence[Item]) -> Float[Tensor, "images dim"]:
    """Embeddings of untouched images; (0, dim) of none. `DplError` naming the file where one cannot be read."""
    return _joined(backbone, (decode(items[start:stop], backbone.image_size) for start, stop in _chunks(items)))


def embed_augmented(
    backbone: Backbone, items: Sequence[Item], augmentation: Augmentation, passes: int, seed: int
) -> Iterator[Float[Tensor, "images dim"]]:
    """Embeddings of the images, so many times, each time with other crops."""
    images = ImageStore(items, backbone.image_size, augmentation, backbone.device)

    def batches(index: int) -> Iterator[Tensor]:
        for start, stop in _chunks(items):
            draws = generator(seed, "embed", index, start)
            yield train_batch(images.select(range(start, stop)), backbone.image_size, augmentation, draws)

    for index in range(passes):
        yield _joined(backbone, batches(index))


def _chunks(items: Sequence[Item]) -> Iterator[tuple[int, int]]:
    for start in range(0, len(items), BATCH_SIZE):
        yield start, min(start + BATCH_SIZE, len(items))


@torch.no_grad()
def _joined(backbone: Backbone, batches: Iterator[Tensor]) -> Tensor:
    none = torch.empty(0, backbone.clip.visual_projection.out_features, device=backbone.device)
    return torch.cat([none, *(embed(backbone, pixels) for pixels in while_computing(backbone.device, batches))])
