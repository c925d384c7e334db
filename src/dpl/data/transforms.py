"""From images to the pixels that a model sees: CLIP's preprocessing by PIL, the training crops by torch on any device."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
import torch
from jaxtyping import Float, Float64, UInt8
from PIL import Image
from torch import Tensor

from dpl.data.images import in_threads, read_image
from dpl.data.resample import Pixels, resample, to_device
from dpl.data.task import Augmentation, Item

BICUBIC = Image.Resampling.BICUBIC
TRIES, LOG_RATIO = 10, math.log(4 / 3)  # torchvision's RandomResizedCrop: 10 tries, aspect ratio 3/4 to 4/3


def load_image(item: Item) -> Image.Image:
    """The item's image in RGB at its full size; `DplError` naming the file where it cannot be read."""
    return Image.fromarray(item.image) if isinstance(item.image, np.ndarray) else read_image(item.image)


@dataclass
class ImageStore:
    """The items' images for `train_batch`, scaled down to what its crops to `size` need: uint8 (3, height, width), 0-255.

    Each is read once while `budget` (bytes) lasts and kept on `device`; those beyond are read again every time. Threads may
    share a store: whoever reads an image gets the same bytes.
    """

    items: Sequence[Item]
    size: int
    augmentation: Augmentation
    device: torch.device = torch.device("cpu")
    budget: int = 2**30  # 1300 photos of 3 : 4 for size 224: 16 shots of 80 classes
    _kept: dict[int, Pixels] = field(default_factory=dict, init=False, repr=False)
    _bytes: int = field(default=0, init=False, repr=False)
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)

    def __len__(self) -> int:
        """The number of items."""
        return len(self.items)

    def __getitem__(self, index: int) -> Pixels:
        """The RGB image of item `index` (from 0); `DplError` naming the file where it cannot be read."""
        kept = self._kept.get(index)
        return self._read(index) if kept is None else kept

    def select(self, indices: Sequence[int]) -> list[Pixels]:
        """The images of the items `indices`, in that order. Those that are not kept are read in threads."""
        missing = [index for index in indices if index not in self._kept]
        read = dict(zip(missing, in_threads(self._read, missing), strict=True)) if missing else {}
        return [read[index] if index in read else self._kept[index] for index in indices]

    def _read(self, index: int) -> Pixels:
        item = self.items[index]
        image = load_image(item) if isinstance(item.image, np.ndarray) else read_image(item.image, self._shortest())
        pixels = to_device(_tensor(image).contiguous(), self.device)
        with self._lock:  # so that the sum is right and no image is counted twice
            if index not in self._kept and self._bytes + pixels.nbytes <= self.budget:
                self._bytes += pixels.nbytes
                self._kept[index] = pixels
        return pixels

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
    images: Sequence[Pixels], size: int, augmentation: Augmentation, generator: torch.Generator
) -> UInt8[Tensor, "images 3 size size"]:
    """A random crop of every RGB image, mirrored by chance where allowed; scale (1, 1) as for evaluation. See `resample`.

    Computed on the images' device. Takes the same count of numbers from `generator` (of the CPU) for every image, so that
    an image's crop depends on its place only.
    """
    draws = torch.rand(len(images), 4 * TRIES + 1, generator=generator, dtype=torch.float64).tolist()
    shapes = [(image.shape[2], image.shape[1]) for image in images]
    if augmentation.scale == (1, 1):
        starts, steps = _centre_grids(shapes, size)
    else:
        boxes = [crop_box(*shape, augmentation.scale, rest) for shape, (_, *rest) in zip(shapes, draws, strict=True)]
        starts, steps = _box_grids(boxes, size)
    return resample(images, size, starts, steps, [augmentation.flip and coin < 0.5 for coin, *_ in draws])


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


def _box_grids(boxes: Sequence[Box], size: int) -> tuple[Float64[Tensor, "2 images"], Float64[Tensor, "2 images"]]:
    """Starts and steps of `resample` for the boxes, which PIL holds in float32."""
    left_top, right_bottom = torch.tensor(boxes, dtype=torch.float32).T.split(2)
    return left_top.double(), (right_bottom - left_top).double() / size


def _centre_grids(
    shapes: Sequence[tuple[int, int]], size: int
) -> tuple[Float64[Tensor, "2 images"], Float64[Tensor, "2 images"]]:
    """Starts and steps of `resample` for `_centre` of images of these widths and heights."""
    resized, corners = zip(*[_centre_places(width, height, size) for width, height in shapes], strict=True)
    steps = torch.tensor(shapes, dtype=torch.float64) / torch.tensor(resized)
    return (torch.tensor(corners) * steps).T, steps.T


def _centre_places(width: int, height: int, size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """(Width, height) of the image with its shortest side at `size`, and (left, top) of the centre in it."""
    short = min(width, height)
    new_width, new_height = int(size * width / short), int(size * height / short)  # rounded as torchvision does
    return (new_width, new_height), (round((new_width - size) / 2), round((new_height - size) / 2))


def _centre(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    (new_width, new_height), (left, top) = _centre_places(width, height, size)
    if max(new_width, new_height) <= 8 * size:
        return image.resize((new_width, new_height), BICUBIC).crop((left, top, left + size, top + size))
    # Resized whole, a very long image would fill the memory. The same but for rounding between PIL's passes.
    x, y = width / new_width, height / new_height
    box = (left * x, top * y, min((left + size) * x, width), min((top + size) * y, height))
    return image.resize((size, size), BICUBIC, box=box)


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
