"""PIL's bicubic resampling of whole batches, by torch on any device."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64, Int, UInt8
from torch import Tensor

PIL_BITS = 22  # PIL's weights are integers / 2**22

Pixels = UInt8[Tensor, "3 _ _"]


def resample(
    images: Sequence[Pixels],
    size: int,
    starts: Float64[Tensor, "2 images"],
    steps: Float64[Tensor, "2 images"],
    mirrored: Sequence[bool],
) -> UInt8[Tensor, "images 3 size size"]:
    """`size` x `size` pixels of every image by antialiased bicubic, to one grey level as PIL's `Image.resize` with a box.

    Pixel i of an axis (row 0: x, 1: y) covers start + i * step to start + (i + 1) * step of the image, in its pixels. As in
    PIL, columns are resampled first and rounded to 8 bits, then rows. (Since version 13, PIL does very high images the
    other way round: at hard edges, where the first pass is clipped, that is another picture.) `mirrored`: left to right.
    """
    sides = torch.tensor([(image.shape[2], image.shape[1]) for image in images]).T
    first, weights = _taps(starts, steps, sides, size, mirrored)
    device = images[0].device
    pixels = torch.empty(len(images), 3, size, size, dtype=torch.uint8, device=device)
    # A processor's caches want large images one by one; for small ones, and for a GPU, calls cost more than padding.
    limit = 2**18 if device.type == "cpu" else 2**26  # numbers
    largest = 3 * math.prod(sides.amax(dim=1).tolist())
    if largest * len(images) > limit:
        images, sides, first = _cut(images, sides, first, weights.shape[3])
        largest = 3 * math.prod(sides.amax(dim=1).tolist())
    group = max(1, limit // largest)
    for begin in range(0, len(images), group):
        part = slice(begin, begin + group)
        columns, rows = sides[:, part].amax(dim=1).tolist()
        # The second pass makes two grey levels of a wrong rounding in the first where a weight is above 1: at the sides of
        # images that are scaled up. There the first is computed exactly (where the device has float64).
        exact = weights[0, part].max() > 1 and device.type != "mps"
        x = _padded(images[part], rows, columns, torch.float64 if exact else torch.float32)
        x = _pass(x.flatten(1, 2), first[0, part], weights[0, part]).float()  # images, size, 3 * rows
        x = _pass(x.view(len(x), size * 3, rows), first[1, part], weights[1, part])  # images, size, size * 3
        pixels[part] = x.view(-1, size, size, 3).permute(0, 3, 1, 2)
    return pixels


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The CPU `tensor` on `device`. To CUDA the copy is queued behind the work that is there, and nobody waits for it."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _taps(
    starts: Float64[Tensor, "2 images"],
    steps: Float64[Tensor, "2 images"],
    sides: Int[Tensor, "2 images"],
    size: int,
    mirrored: Sequence[bool],
) -> tuple[Int[Tensor, "2 images {size}"], Float64[Tensor, "2 images {size} taps"]]:
    """For every output pixel of both axes its first source pixel and the weights from there on, as PIL's Resample.c.

    Keys' bicubic (a = -1/2), stretched where it scales down; zero beyond the image's sides, so that the sum is 1.
    """
    stretch = steps.clamp(min=1)[..., None]
    centres = starts[..., None] + (torch.arange(size) + 0.5) * steps[..., None]
    if any(mirrored):
        centres[0] = torch.where(torch.tensor(mirrored)[:, None], centres[0].flip(1), centres[0])
    first = (centres - 2 * stretch + 0.5).floor_().clamp_(min=0)
    taps = torch.arange(math.ceil(4 * stretch.max()))
    weights = _bicubic(((first + 0.5 - centres) / stretch)[..., None] + (taps / stretch)[..., None, :])
    first = first.long()
    weights *= taps < (sides[..., None] - first)[..., None]
    weights *= 2**PIL_BITS / weights.sum(dim=-1, keepdim=True)
    return first, weights.round_().mul_(2**-PIL_BITS)


def _bicubic(x: Float64[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
    x = x.abs_().clamp_(max=2)  # 0 from there on
    near = (1.5 * x).sub_(2.5).mul_(x).mul_(x).add_(1)
    far = (-0.5 * x).add_(2.5).mul_(x).sub_(4).mul_(x).add_(2)
    return torch.where(x < 1, near, far)


def _cut(
    images: Sequence[Pixels], sides: Int[Tensor, "2 images"], first: Int[Tensor, "2 images size"], taps: int
) -> tuple[list[Pixels], Int[Tensor, "2 images"], Int[Tensor, "2 images size"]]:
    """The parts of the images that the taps need, their sides, and the first source pixels counted in them."""
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
    """The last axis resampled to `size` and put in front, rounded to 0-255: products with a matrix of the weights."""
    images, size, taps = weights.shape
    length = x.shape[2]
    places = to_device(first[..., None] + torch.arange(taps), x.device)
    matrix = x.new_zeros(images, size, length + taps).scatter_(2, places, to_device(weights.to(x.dtype), x.device))
    if x.device.type == "cpu" and length > 64:
        # Most of the matrix is zero: each block of output pixels is multiplied with no more than what its taps reach.
        out = x.new_empty(images, size, x.shape[1])
        starts, ends = first.amin(dim=0).tolist(), (first.amax(dim=0) + taps).tolist()
        for begin in range(0, size, 16):
            part = slice(begin, begin + 16)
            reach = slice(min(starts[part]), min(max(ends[part]), length))
            torch.bmm(matrix[:, part, reach], x[:, :, reach].mT, out=out[:, part])
    else:
        out = torch.bmm(matrix[..., :length], x.mT)
    # PIL rounds halves up; the small number does so in spite of the float's own rounding.
    return out.add_(0.5 + 64 * torch.finfo(x.dtype).eps).floor_().clamp_(0, 255)
