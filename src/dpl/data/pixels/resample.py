"""PIL's resampling in torch, for batches on any device."""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Float64, Int, UInt8
from torch import Tensor

from dpl.backbones.devices import FLOAT64_KINDS
from dpl.backbones.preprocessing import Filter

PIL_BITS = 22  # PIL's weights are integers / 2**22

Pixels = UInt8[Tensor, "3 _ _"]


def resample(
    images: Sequence[Pixels],
    size: int,
    starts: Float64[Tensor, "2 images"],
    steps: Float64[Tensor, "2 images"],
    mirrored: Sequence[bool],
    filter: Filter = "bicubic",
) -> UInt8[Tensor, "images 3 size size"]:
    """Resamples a box of every image to `size` x `size` pixels, antialiased as PIL's `Image.resize` with `box`.

    Output pixel i of an axis covers start + i * step to start + (i + 1) * step in pixels of the image. An output pixel with
    its centre outside the image is black. As in PIL, the x axis is resampled first and rounded to 8 bits, then the y axis.

    Values differ from PIL's by at most one grey level; rarely by two if the axes have different steps. For "nearest" and
    "box", PIL may choose the neighbour if a source pixel lies exactly at the edge of the filter. Since version 13, PIL
    resamples the y axis of very high images first; its result then differs at hard edges, where the first pass is clipped.

    Args:
        images: RGB images, 0-255, of any sizes, on one device.
        size: Height and width of the output in pixels.
        starts: Left (row 0: x) and top (row 1: y) edge of each box, in pixels of the image.
        steps: Width (row 0) and height (row 1) of each output pixel, in pixels of the image.
        mirrored: Whether to flip each image left to right.
        filter: PIL's name of the filter.

    Returns:
        Resampled images, 0-255, on the device of `images`.
    """
    sides = torch.tensor([(image.shape[2], image.shape[1]) for image in images]).T
    first, weights = _taps(starts, steps, sides, size, mirrored, filter)
    device = images[0].device
    pixels = torch.empty(len(images), 3, size, size, dtype=torch.uint8, device=device)
    # On the CPU, large images go one by one to fit its caches. For small images and on a GPU, calls cost more than padding.
    limit = 2**18 if device.type == "cpu" else 2**26  # values per group of images
    largest = 3 * math.prod(sides.amax(dim=1).tolist())
    if largest * len(images) > limit:
        images, sides, first = _cut(images, sides, first, weights.shape[3])
        largest = 3 * math.prod(sides.amax(dim=1).tolist())
    group = max(1, limit // largest)
    for begin in range(0, len(images), group):
        part = slice(begin, begin + group)
        columns, rows = sides[:, part].amax(dim=1).tolist()
        # Weights above 1 occur at the sides of images that are scaled up. There, the second pass turns a rounding error of
        # the first pass into two grey levels. The first pass is then computed in float64, if the device has it. For other
        # filters it always is, because their weighted sums are exactly a half more often.
        exact = (filter != "bicubic" or weights[0, part].max() > 1) and device.type in FLOAT64_KINDS
        x = _padded(images[part], rows, columns, torch.float64 if exact else torch.float32)
        x = _pass(x.flatten(1, 2), first[0, part], weights[0, part]).float()  # images, size, 3 * rows
        x = _pass(x.view(len(x), size * 3, rows), first[1, part], weights[1, part])  # images, size, size * 3
        pixels[part] = x.view(-1, size, size, 3).permute(0, 3, 1, 2)
    return pixels


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copies a CPU tensor to `device`. The copy to CUDA is asynchronous: it is queued on the stream without waiting.

    Args:
        tensor: Tensor on the CPU.
        device: Target device.

    Returns:
        The tensor on `device`.
    """
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _taps(
    starts: Float64[Tensor, "2 images"],
    steps: Float64[Tensor, "2 images"],
    sides: Int[Tensor, "2 images"],
    size: int,
    mirrored: Sequence[bool],
    filter: Filter,
) -> tuple[Int[Tensor, "2 images {size}"], Float64[Tensor, "2 images {size} taps"]]:
    """Computes the first source pixel of every output pixel of both axes, and the weights from there on, as PIL's Resample.c.

    When scaling down, all filters but "nearest" are stretched. Weights are zero outside the image and their sum is 1; all are
    0 for an output pixel with its centre outside the image.
    """
    support, kernel = _KERNELS[filter]
    ends = sides[..., None].double()
    stretch = (torch.ones_like(steps) if filter == "nearest" else steps.clamp(min=1))[..., None]
    centres = starts[..., None] + (torch.arange(size) + 0.5) * steps[..., None]
    if any(mirrored):
        centres[0] = torch.where(torch.tensor(mirrored)[:, None], centres[0].flip(1), centres[0])
    is_beyond = bool(((starts < 0) | (starts + size * steps > ends[..., 0])).any())
    first = (centres - support * stretch + 0.5).floor_().clamp_(min=0)
    first = first.minimum(ends - 1) if is_beyond else first
    taps = torch.arange(math.ceil(2 * support * stretch.max()))
    weights = kernel(((first + 0.5 - centres) / stretch)[..., None] + (taps / stretch)[..., None, :])
    weights *= taps < (ends - first)[..., None]
    weights *= 2**PIL_BITS / weights.sum(dim=-1, keepdim=True)
    weights.round_().mul_(2**-PIL_BITS)
    if is_beyond:
        weights.masked_fill_(((centres < 0) | (centres > ends))[..., None], 0)
    return first.long(), weights


def _bicubic(x: Float64[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
    """Keys' cubic convolution with a = -1/2."""
    x = x.abs_().clamp_(max=2)  # the kernel is 0 from 2 on
    near = (1.5 * x).sub_(2.5).mul_(x).mul_(x).add_(1)
    far = (-0.5 * x).add_(2.5).mul_(x).sub_(4).mul_(x).add_(2)
    return torch.where(x < 1, near, far)


def _bilinear(x: Float64[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
    return (1 - x.abs_()).clamp_(min=0)


def _lanczos(x: Float64[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
    return torch.where(x.abs() < 3, torch.sinc(x) * torch.sinc(x / 3), 0.0)


def _hamming(x: Float64[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
    return torch.where(x.abs() < 1, torch.sinc(x) * (0.54 + 0.46 * torch.cos(math.pi * x)), 0.0)


def _box(x: Float64[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
    return ((x > -0.5) & (x <= 0.5)).double()


_KERNELS: dict[Filter, tuple[float, Callable[[Tensor], Tensor]]] = {
    "nearest": (0.5, _box),
    "lanczos": (3, _lanczos),
    "bilinear": (1, _bilinear),
    "bicubic": (2, _bicubic),
    "box": (0.5, _box),
    "hamming": (1, _hamming),
}
"""Half the width of each of PIL's filters in pixels, and its weights by the distance in pixels."""


def _cut(
    images: Sequence[Pixels], sides: Int[Tensor, "2 images"], first: Int[Tensor, "2 images size"], taps: int
) -> tuple[list[Pixels], Int[Tensor, "2 images"], Int[Tensor, "2 images size"]]:
    """Crops the images to the pixels that the taps read; returns crops, their sides, and `first` relative to the crops."""
    low, high = first.amin(dim=2), torch.minimum(first.amax(dim=2) + taps, sides)
    edges = zip(images, *low.tolist(), *high.tolist(), strict=True)
    parts = [image[:, top:bottom, left:right] for image, left, top, right, bottom in edges]
    return parts, high - low, first - low[..., None]


def _padded(images: Sequence[Pixels], rows: int, columns: int, dtype: torch.dtype) -> Float[Tensor, "images 3 {rows} {columns}"]:
    if all(image.shape == (3, rows, columns) for image in images):
        return (images[0][None] if len(images) == 1 else torch.stack(list(images))).to(dtype)
    padded = torch.zeros(len(images), 3, rows, columns, dtype=dtype, device=images[0].device)
    for row, image in zip(padded, images, strict=True):
        row[:, : image.shape[1], : image.shape[2]] = image
    return padded


def _pass(
    x: Float[Tensor, "images lines length"], first: Int[Tensor, "images size"], weights: Float64[Tensor, "images size taps"]
) -> Float[Tensor, "images size lines"]:
    """Resamples the last axis to `size` by a matrix product, moves it before the lines, and rounds to 0-255."""
    images, size, taps = weights.shape
    length = x.shape[2]
    places = to_device(first[..., None] + torch.arange(taps), x.device)
    matrix = x.new_zeros(images, size, length + taps).scatter_(2, places, to_device(weights.to(x.dtype), x.device))
    if x.device.type == "cpu" and length > 64:
        # Most of the matrix is zero, so each block of output pixels is multiplied only with the columns that its taps reach.
        out = x.new_empty(images, size, x.shape[1])
        starts, ends = first.amin(dim=0).tolist(), (first.amax(dim=0) + taps).tolist()
        for begin in range(0, size, 16):
            part = slice(begin, begin + 16)
            reach = slice(min(starts[part]), min(max(ends[part]), length))
            torch.bmm(matrix[:, part, reach], x[:, :, reach].mT, out=out[:, part])
    else:
        out = torch.bmm(matrix[..., :length], x.mT)
    # PIL rounds halves up; the small offset ensures this despite floating-point error.
    return out.add_(0.5 + 64 * torch.finfo(x.dtype).eps).floor_().clamp_(0, 255)
