"""Computes the frozen backbone's embeddings of image sets, not normalised, for methods that learn from features."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from dpl.backbones.loading import Backbone
from dpl.data.pixels.prefetch import while_computing
from dpl.data.pixels.store import ImageStore
from dpl.data.pixels.transforms import normalise, train_batch
from dpl.data.task import Augmentation, Item
from dpl.evaluate import images_at_once
from dpl.utils.rng import generator


def embed(backbone: Backbone, pixels: UInt8[Tensor, "images 3 size size"]) -> Float[Tensor, "images dim"]:
    """Computes embeddings of images, not normalised.

    Args:
        backbone: the frozen backbone.
        pixels: (images, 3, size, size), uint8, of the backbone's image size.

    Returns:
        (images, dim).
    """
    return backbone.image_features(normalise(pixels.to(backbone.device), backbone.preprocessing))


def embed_items(backbone: Backbone, items: Sequence[Item], images: ImageStore | None = None) -> Float[Tensor, "images dim"]:
    """Computes embeddings of images, not normalised, without augmentation.

    Args:
        backbone: the frozen backbone.
        items: the images; may be empty.
        images: decoded images of the run; by default the items are decoded.

    Returns:
        (images, dim), in the order of `items`.

    Raises:
        DplError: an image cannot be read; the message names the file.
    """
    reader = (images or ImageStore()).evaluation(backbone.preprocessing)
    return _joined(backbone, (reader.stack(items[start:stop]) for start, stop in _chunks(backbone, items)))


def embed_augmented(
    backbone: Backbone,
    items: Sequence[Item],
    augmentation: Augmentation,
    passes: int,
    seed: int,
    images: ImageStore | None = None,
) -> Iterator[Float[Tensor, "images dim"]]:
    """Yields embeddings, not normalised, of all images, with new random crops in every pass.

    Args:
        backbone: the frozen backbone.
        items: the images.
        augmentation: the variation of the images.
        passes: number of results.
        seed: seed of the random crops.
        images: decoded images of the run; by default the items are decoded, each once.

    Yields:
        (images, dim), in the order of `items`.
    """
    reader = (images or ImageStore()).training(backbone.preprocessing, augmentation, backbone.device)

    def batches(index: int) -> Iterator[Tensor]:
        for start, stop in _chunks(backbone, items):
            draws = generator(seed, "embed", index, start)
            yield train_batch(reader.select(items[start:stop]), backbone.preprocessing, augmentation, draws)

    for index in range(passes):
        yield _joined(backbone, batches(index))


def _chunks(backbone: Backbone, items: Sequence[Item]) -> Iterator[tuple[int, int]]:
    size = images_at_once(backbone)
    for start in range(0, len(items), size):
        yield start, min(start + size, len(items))


@torch.no_grad()
def _joined(backbone: Backbone, batches: Iterator[Tensor]) -> Tensor:
    none = torch.empty(0, backbone.clip.visual_projection.out_features, device=backbone.device)
    return torch.cat([none, *(embed(backbone, pixels) for pixels in while_computing(backbone.device, batches))])
