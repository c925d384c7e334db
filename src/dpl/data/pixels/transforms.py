"""Converts images to the pixels of the model: by PIL for evaluation, by torch on any device for training crops."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64, UInt8
from PIL import Image
from torch import Tensor

from dpl.backbones.preprocessing import Preprocessing, Rule
from dpl.data.pixels.decode import convert_image, in_threads, read_image
from dpl.data.pixels.resample import Pixels, resample
from dpl.data.task import Augmentation, Item

MOST_PIXELS = 2**23  # most pixels of a whole resized image: 32 MB
TRIES, LOG_RATIO = 10, math.log(4 / 3)  # torchvision's RandomResizedCrop: 10 tries, aspect ratio 3/4 to 4/3


def load_image(item: Item, shortest: int | None = None) -> Image.Image:
    """Loads the item's RGB image.

    Args:
        item: Item with a file, with pixels, or with an image of PIL.
        shortest: As in `read_image`; by default the image has its full size.

    Returns:
        The RGB image.

    Raises:
        UnreadableImage: The image cannot be read.

    Example:

        >>> from dpl.data.sources.digits import load
        >>> load_image(load().test[0]).size
        (8, 8)
    """
    image = Image.fromarray(item.image) if isinstance(item.image, np.ndarray) else item.image
    return convert_image(image, item.name, shortest) if isinstance(image, Image.Image) else read_image(image, shortest)


def training_side(preprocessing: Preprocessing, augmentation: Augmentation) -> int | None:
    """Computes the shortest side to which images may be scaled down before `train_batch`.

    Args:
        preprocessing: As in `train_batch`.
        augmentation: As in `train_batch`.

    Returns:
        Pixels of the shortest side; None if scaling down first would change the resulting pixels.
    """
    if preprocessing.resize == "none" or preprocessing.resample == "nearest":
        return None
    # The smallest crop of a square image must still have `size` pixels on its short side, even at aspect ratio 3 : 4.
    # The minimum of twice the size avoids blur, because scaling down in two steps blurs.
    size = max(preprocessing.size, preprocessing.edge)
    return math.ceil(size * max(2, math.sqrt(4 / 3 / max(augmentation.scale[0], 0.01))))


def eval_pixels(image: Image.Image, preprocessing: Preprocessing) -> UInt8[Tensor, "3 size size"]:
    """Resizes and crops an image for evaluation.

    The result equals transformers' image processors with PIL bit by bit; for images over 100 times as long as wide, to one
    grey level.

    Args:
        image: RGB image.
        preprocessing: Gives size, resize rule and filter.

    Returns:
        Pixels, 0-255.
    """
    return to_pixels(_centre(image, preprocessing))


def decode(items: Sequence[Item], preprocessing: Preprocessing) -> UInt8[Tensor, "items 3 size size"]:
    """Loads all items and applies `eval_pixels`, in threads.

    At size 224, a thousand images take 150 MB, so split large sets.

    Args:
        items: Items to load.
        preprocessing: As in `eval_pixels`.

    Returns:
        Pixels, 0-255, on the CPU.

    Raises:
        DplError: A file cannot be read; the message names it.
    """
    pixels = torch.empty(len(items), 3, preprocessing.size, preprocessing.size, dtype=torch.uint8)

    def read(index: int) -> None:
        pixels[index] = eval_pixels(load_image(items[index]), preprocessing)

    in_threads(read, range(len(items)))
    return pixels


def train_batch(
    images: Sequence[Pixels], preprocessing: Preprocessing, augmentation: Augmentation, generator: torch.Generator
) -> UInt8[Tensor, "images 3 size size"]:
    """Crops every image at random (`training_box`) and, if `augmentation.flip`, mirrors it with probability 1/2.

    With `augmentation.scale` (1, 1), the crop is that of evaluation. Every image takes the same number of draws from
    `generator`, so an image's crop does not depend on the other images, only on its place in the batch.

    Args:
        images: RGB images, 0-255, on one device, which also computes the batch.
        preprocessing: Gives size, resize rule and filter.
        augmentation: Crop scale and flip.
        generator: Generator on the CPU.

    Returns:
        Pixels, 0-255, on the device of `images`; see `resample`.
    """
    draws = torch.rand(len(images), 4 * TRIES + 1, generator=generator, dtype=torch.float64).tolist()
    shapes = [(image.shape[2], image.shape[1]) for image in images]
    if augmentation.scale == (1, 1):
        starts, steps = _centre_grids(shapes, preprocessing)
    else:
        rule, scale = preprocessing.resize, augmentation.scale
        boxes = [training_box(*shape, rule, scale, rest) for shape, (_, *rest) in zip(shapes, draws, strict=True)]
        starts, steps = _box_grids(boxes, preprocessing.size)
    mirrored = [augmentation.flip and coin < 0.5 for coin, *_ in draws]
    return resample(images, preprocessing.size, starts, steps, mirrored, preprocessing.resample)


def normalise(
    pixels: UInt8[Tensor, "*batch 3 height width"], preprocessing: Preprocessing
) -> Float[Tensor, "*batch 3 height width"]:
    """Computes (pixels * rescale - mean) / std per channel, in float32.

    Args:
        pixels: Pixels, 0-255.
        preprocessing: Gives rescale, mean and std.

    Returns:
        Normalised pixels, on the device of `pixels`.
    """
    means = torch.tensor(preprocessing.mean, dtype=torch.float32, device=pixels.device).view(3, 1, 1)
    stds = torch.tensor(preprocessing.std, dtype=torch.float32, device=pixels.device).view(3, 1, 1)
    # float32 cannot represent 1 / 255, but 1 / (1 / 255) is exactly 255, and a division rounds only once.
    return (pixels.float() / (1 / preprocessing.rescale) - means) / stds


Box = tuple[float, float, float, float]


def training_box(width: int, height: int, rule: Rule, scale: tuple[float, float], draws: Sequence[float]) -> Box:
    """Computes a random crop in the geometry of the resize rule.

    For "shortest" and "none", the crop is `crop_box` of the image. For "squash", it is the crop of a square, mapped to the
    image, so it has the same distortion as in evaluation. For "longest", it is the crop of the square with black beside the
    image; it may have some of the black, but its centre lies in the image.

    Args:
        width: Width of the image in pixels.
        height: Height of the image in pixels.
        rule: Resize rule of the preprocessing.
        scale: Range of the crop's area as a fraction of the image's.
        draws: 4 x `TRIES` numbers in 0-1.

    Returns:
        (left, top, right, bottom) in pixels of the image.
    """
    if rule in ("shortest", "none"):
        return crop_box(width, height, scale, draws)
    side = max(width, height)
    left, top, right, bottom = crop_box(side, side, scale, draws)
    if rule == "squash":
        x, y = width / side, height / side
        return left * x, top * y, right * x, bottom * y
    half_width, half_height = (right - left) / 2, (bottom - top) / 2
    x = min(max((left + right - side + width) / 2, 0), width)
    y = min(max((top + bottom - side + height) / 2, 0), height)
    return x - half_width, y - half_height, x + half_width, y + half_height


def crop_box(width: int, height: int, scale: tuple[float, float], draws: Sequence[float]) -> Box:
    """Computes the crop of torchvision's RandomResizedCrop, without rounding, which matters for very small images.

    Args:
        width: Width of the image in pixels.
        height: Height of the image in pixels.
        scale: Range of the crop's area as a fraction of the image's.
        draws: 4 x `TRIES` numbers in 0-1.

    Returns:
        (left, top, right, bottom) in pixels.
    """
    for area, ratio, x, y in zip(*[iter(draws)] * 4, strict=True):
        area = width * height * (scale[0] + area * (scale[1] - scale[0]))
        ratio = math.exp((2 * ratio - 1) * LOG_RATIO)
        w, h = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if w <= width and h <= height:
            left, top = x * (width - w), y * (height - h)
            return left, top, left + w, top + h
    w, h = min(width, height * 4 / 3), min(height, width * 4 / 3)  # no try fitted: a centred crop with the nearest ratio
    left, top = (width - w) / 2, (height - h) / 2
    return left, top, left + w, top + h


def _box_grids(boxes: Sequence[Box], size: int) -> tuple[Float64[Tensor, "2 images"], Float64[Tensor, "2 images"]]:
    """Returns starts and steps of `resample` for the boxes, rounded to float32 as in PIL."""
    left_top, right_bottom = torch.tensor(boxes, dtype=torch.float32).T.split(2)
    return left_top.double(), (right_bottom - left_top).double() / size


def _centre_grids(
    shapes: Sequence[tuple[int, int]], preprocessing: Preprocessing
) -> tuple[Float64[Tensor, "2 images"], Float64[Tensor, "2 images"]]:
    """Returns starts and steps of `resample` that match `_centre`, for images of these widths and heights."""
    resized = [preprocessing.resized(*shape) for shape in shapes]
    corners = [preprocessing.corner(*shape) for shape in resized]
    steps = torch.tensor(shapes, dtype=torch.float64) / torch.tensor(resized)
    return (torch.tensor(corners) * steps).T, steps.T


def _centre(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    size, resample = preprocessing.size, Image.Resampling[preprocessing.resample.upper()]
    width, height = preprocessing.resized(*image.size)
    left, top = preprocessing.corner(width, height)
    if preprocessing.resize != "shortest" or width * height <= MOST_PIXELS:
        return image.resize((width, height), resample).crop((left, top, left + size, top + size))
    # Resizing a whole very long image would fill the memory. Resizing only the crop differs by PIL's rounding between passes.
    x, y = image.width / width, image.height / height
    box = (left * x, top * y, min((left + size) * x, image.width), min((top + size) * y, image.height))
    return image.resize((size, size), resample, box=box)


def to_pixels(image: Image.Image) -> UInt8[Tensor, "3 height width"]:
    """Converts an RGB image to a tensor, 0-255."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
