"""Keeps the decoded images of a run, so that search, training and evaluation decode each file once."""

from collections.abc import Callable, Hashable, Sequence
from threading import Lock

import torch
from jaxtyping import UInt8
from torch import Tensor

from dpl.backbones.preprocessing import Preprocessing
from dpl.data.pixels.decode import UnreadableImage, in_threads
from dpl.data.pixels.resample import Pixels, to_device
from dpl.data.pixels.transforms import eval_pixels, load_image, to_pixels, training_side
from dpl.data.task import Augmentation, Item

CPU = torch.device("cpu")


class ImageStore:
    """Decoded images of one task. Every image is decoded once for training and once for evaluation, within the budgets.

    The store does not keep full-size images. For training it keeps the image scaled down as far as the random crops allow
    (`training_side`), on the device of the model; for evaluation it keeps the model's input pixels, on the CPU. The results have
    the same bits as without a store. Images that exceed a budget are decoded again every time. Kept images are never replaced:
    an epoch reads all images in turn, and replacing the least recently used ones would then replace every image before its
    next use.

    Args:
        training_bytes: Budget for training images. By default it holds 1300 photos of 3 : 4 at size 224: 16 shots of 80 classes.
        evaluation_bytes: Budget for evaluation pixels. By default it holds 1780 images at size 224.
    """

    def __init__(self, training_bytes: int = 2**30, evaluation_bytes: int = 2**28) -> None:
        self._training, self._evaluation = _Kept(training_bytes), _Kept(evaluation_bytes)

    def training(self, preprocessing: Preprocessing, augmentation: Augmentation, device: torch.device = CPU) -> "Reader":
        """Returns a reader of images for `train_batch`: uint8 (3, height, width), 0-255, on `device`."""
        shortest = training_side(preprocessing, augmentation)

        def load(item: Item) -> Pixels:
            return to_device(to_pixels(load_image(item, shortest)).contiguous(), device)

        return Reader(load, self._training, (shortest, device))

    def evaluation(self, preprocessing: Preprocessing) -> "Reader":
        """Returns a reader of the pixels of `eval_pixels`: uint8 (3, size, size), 0-255, on the CPU."""

        def load(item: Item) -> Pixels:
            return eval_pixels(load_image(item), preprocessing).contiguous()

        return Reader(load, self._evaluation, preprocessing)


class Reader:
    """Reads items in one form, from the store or else from their files. Threads may share a reader.

    Args:
        load: Decodes an item; raises `UnreadableImage`.
        kept: Decoded images of the store.
        form: Form that `load` gives; images of different forms are kept separately.
    """

    def __init__(self, load: Callable[[Item], Pixels], kept: "_Kept", form: Hashable) -> None:
        self._load, self._kept, self._form = load, kept, form

    def attempt(self, items: Sequence[Item]) -> list[Pixels | UnreadableImage]:
        """Reads items; threads decode those that the store does not have.

        Args:
            items: Items of the store's task.

        Returns:
            For each item its pixels, or the error if its file cannot be read.
        """
        found = [self._kept.get((self._form, item.name)) for item in items]
        missing = {item.name: item for item, pixels in zip(items, found, strict=True) if pixels is None}
        read = dict(zip(missing, in_threads(self._read, list(missing.values())), strict=True)) if missing else {}
        return [read[item.name] if pixels is None else pixels for item, pixels in zip(items, found, strict=True)]

    def select(self, items: Sequence[Item]) -> list[Pixels]:
        """Reads items as `attempt`.

        Raises:
            UnreadableImage: A file cannot be read.
        """
        found = self.attempt(items)
        if error := next((one for one in found if isinstance(one, UnreadableImage)), None):
            raise error
        return [pixels for pixels in found if isinstance(pixels, Tensor)]

    def stack(self, items: Sequence[Item]) -> UInt8[Tensor, "items 3 size size"]:
        """Reads one or more items of equal size as a batch.

        Raises:
            UnreadableImage: A file cannot be read.
        """
        return torch.stack(self.select(items))

    def unreadable(self, items: Sequence[Item]) -> dict[Item, UnreadableImage]:
        """Reads items and returns those that cannot be read, each with its error."""
        found = zip(items, self.attempt(items), strict=True)
        return {item: error for item, error in found if isinstance(error, UnreadableImage)}

    def _read(self, item: Item) -> Pixels | UnreadableImage:
        try:
            pixels = self._load(item)
        except UnreadableImage as error:
            return error
        self._kept.add((self._form, item.name), pixels)
        return pixels


class _Kept:
    """Images by key, until their size reaches `budget` (bytes)."""

    def __init__(self, budget: int) -> None:
        self._budget, self._bytes = budget, 0
        self._images: dict[Hashable, Pixels] = {}
        self._lock = Lock()

    def get(self, key: Hashable) -> Pixels | None:
        """Returns a kept image."""
        return self._images.get(key)

    def add(self, key: Hashable, pixels: Pixels) -> None:
        """Keeps an image if it fits in the budget."""
        with self._lock:  # keeps the sum correct: another thread may have added the image already
            if key not in self._images and self._bytes + pixels.nbytes <= self._budget:
                self._bytes += pixels.nbytes
                self._images[key] = pixels
