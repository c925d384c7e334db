"""From images to the pixels that a model sees: CLIP's preprocessing and the training crops, with PIL and torch only."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from dpl.data.images import in_threads, read_image
from dpl.data.task import Augmentation, Item

BICUBIC = Image.Resampling.BICUBIC
TRIES, LOG_RATIO = 10, math.log(4 / 3)  # torchvision's RandomResizedCrop: 10 tries, aspect ratio 3/4 to 4/3


def load_image(item: Item) -> Image.Image:
    """The item's image in RGB at its full size; `DplError` naming the file where it cannot be read."""
    return Image.fromarray(item.image) if isinstance(item.image, np.ndarray) else read_image(item.image)


@dataclass
class ImageStore:
    """The items' RGB images for `train_batch`, by index, scaled down to what its crops to `size` need.

    Each is read once while `budget` (bytes) lasts; those beyond are read again every time.
    """

    items: Sequence[Item]
    size: int
    augmentation: Augmentation
    budget: int = 400 * 2**20
    _kept: dict[int, Image.Image] = field(default_factory=dict, init=False, repr=False)
    _bytes: int = field(default=0, init=False, repr=False)

    def __len__(self) -> int:
        """The number of items."""
        return len(self.items)

    def __getitem__(self, index: int) -> Image.Image:
        """The image of item `index` (from 0); `DplError` naming the file where it cannot be read."""
        if index in self._kept:
            return self._kept[index]
        item = self.items[index]
        image = load_image(item) if isinstance(item.image, np.ndarray) else read_image(item.image, self._shortest())
        size = 3 * image.width * image.height
        if self._bytes + size <= self.budget:
            self._bytes += size
            self._kept[index] = image
        return image

    def _shortest(self) -> int:
        # The smallest crop of a square image, as narrow as 3 : 4, shall still have `size` pixels. And never less than
        # twice the size, as scaling down in two steps blurs.
        return math.ceil(self.size * max(2, math.sqrt(4 / 3 / max(self.augmentation.scale[0], 0.01))))


def eval_pixels(image: Image.Image, size: int) -> UInt8[Tensor, "3 size size"]:
    """The RGB `image` as CLIP evaluates it: shortest side to `size` by bicubic, centre crop."""
    return _tensor(_centre(image, size))


def decode(items: Sequence[Item], size: int) -> UInt8[Tensor, "items 3 size size"]:
    """`eval_pixels` of all items. At size 224, a thousand take 150 MB: give large sets in parts."""
    pixels = torch.empty(len(items), 3, size, size, dtype=torch.uint8)

    def read(index: int) -> None:
        pixels[index] = eval_pixels(load_image(items[index]), size)

    in_threads(read, range(len(items)))
    return pixels


def train_batch(
    images: Sequence[Image.Image], size: int, augmentation: Augmentation, generator: torch.Generator
) -> UInt8[Tensor, "images 3 size size"]:
    """A random crop of every RGB image by bicubic, mirrored by chance where allowed; scale (1, 1) as for evaluation.

    Takes the same count of numbers from `generator` for every image, so that an image's crop depends on its place only.
    """
    draws = torch.rand(len(images), 4 * TRIES + 1, generator=generator, dtype=torch.float64).tolist()
    pixels = torch.empty(len(images), 3, size, size, dtype=torch.uint8)
    for row, image, (coin, *rest) in zip(pixels, images, draws, strict=True):
        if augmentation.scale == (1, 1):
            crop = _centre(image, size)
        else:
            box = crop_box(image.width, image.height, augmentation.scale, rest)
            crop = image.resize((size, size), BICUBIC, box=box)
        if augmentation.flip and coin < 0.5:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        row.copy_(_tensor(crop))
    return pixels


def normalise(
    pixels: UInt8[Tensor, "*batch 3 height width"], mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "*batch 3 height width"]:
    """(pixels / 255 - mean) / std per channel, float32."""
    means = torch.tensor(mean, dtype=torch.float32, device=pixels.device).view(3, 1, 1)
    stds = torch.tensor(std, dtype=torch.float32, device=pixels.device).view(3, 1, 1)
    return (pixels.float() / 255 - means) / stds


Box = tuple[float, float, float, float]


def crop_box(width: int, height: int, scale: tuple[float, float], draws: Sequence[float]) -> Box:
    """torchvision's RandomResizedCrop as (left, top, right, bottom) in pixels, from 4 x `TRIES` numbers in 0-1.

    Not rounded to whole pixels, which matters for very small images.
    """
    for area, ratio, x, y in zip(*[iter(draws)] * 4, strict=True):
        area = width * height * (scale[0] + area * (scale[1] - scale[0]))
        ratio = math.exp((2 * ratio - 1) * LOG_RATIO)
        w, h = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if w <= width and h <= height:
            left, top = x * (width - w), y * (height - h)
            return left, top, left + w, top + h
    w, h = min(width, height * 4 / 3), min(height, width * 4 / 3)  # no try fitted: the centre at the nearest ratio
    left, top = (width - w) / 2, (height - h) / 2
    return left, top, left + w, top + h


def _centre(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    short = min(width, height)
    new_width, new_height = int(size * width / short), int(size * height / short)  # rounded as torchvision does
    left, top = round((new_width - size) / 2), round((new_height - size) / 2)
    if max(new_width, new_height) <= 8 * size:
        return image.resize((new_width, new_height), BICUBIC).crop((left, top, left + size, top + size))
    # Resized whole, a very long image would fill the memory. The same but for rounding between PIL's passes.
    x, y = width / new_width, height / new_height
    box = (left * x, top * y, min((left + size) * x, width), min((top + size) * y, height))
    return image.resize((size, size), BICUBIC, box=box)


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
