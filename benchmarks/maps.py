"""Do the maps of `dpl explain` lie where the object is, does it matter what they lie on, and what do they cost?"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.clips import SHAPES, TEMPLATE, class_names, random_backbone, random_batch
from dpl.backbones.loading import Backbone, load_backbone
from dpl.classifier import ZeroShot
from dpl.data.load import load_task
from dpl.data.pixels.transforms import decode, load_image
from dpl.data.task import Item, Task
from dpl.explain.gradcam import see

COVERED = 6  # patches, of 36


@dataclass(frozen=True)
class Settings:
    """Zero-shot maps of the embedded backbone on built-in tasks, and what 8 images cost here and at ViT-B/16's size.

    side: of images whose object fills the middle of the left or of the right half of a plain ground, how many have more heat
    on that side, of the map of the right class. covering: the mean probability of the predicted class once 6 of the 36 patches
    are replaced by the image's mean colour: the hottest ones, random ones, the coolest ones (equal ones in random order).
    """

    tasks: tuple[str, ...] = ("outlines", "sketches", "counting", "digits", "lookalikes", "segments", "turned")
    """Built-in tasks."""
    images: int = 200
    """Test images of each."""
    repeats: int = 5
    """Timings, of which the median counts; 0: none."""
    seed: int = 0
    """Decides which images, and the random patches."""


def main(settings: Settings) -> None:
    """Prints a table, and the seconds."""
    backbone = load_backbone("tiny", "cpu")
    print("| task | side | whole | hottest covered | random covered | coolest covered |\n|---|---|---|---|---|---|")
    for name in settings.tasks:
        task, draw = load_task(name), np.random.default_rng(settings.seed)
        items = [task.test[index] for index in draw.permutation(len(task.test))[: settings.images]]
        found = found_side(backbone, task, items)
        shares = covering(backbone, task, items, settings.seed)
        print(f"| {name} | {found:.0%} | " + " | ".join(f"{share:.2f}" for share in shares) + " |", flush=True)
    if settings.repeats:
        for name, taken in seconds(settings.repeats).items():
            print(f"{name}: {taken:.2f} CPU-seconds for 8 images")


def found_side(backbone: Backbone, task: Task, items: Sequence[Item]) -> float:
    """How often the half with the object has more heat, 0-1."""
    pixels = torch.stack([_on_one_side(item, backbone.image_size, bool(index % 2)) for index, item in enumerate(items)])
    labels = torch.tensor([item.label for item in items])
    maps = see(ZeroShot(backbone, task.class_names, task.templates[:1]), pixels, labels).maps
    half, is_right = maps.shape[-1] // 2, torch.arange(len(items)) % 2 == 1
    left, right = maps[..., :half].sum(dim=(1, 2)), maps[..., -half:].sum(dim=(1, 2))
    return float(torch.where(is_right, right > left, left > right).float().mean())


def _on_one_side(item: Item, size: int, right: bool) -> Tensor:
    half = size // 2
    shape = np.asarray(load_image(item).convert("RGB").resize((half, half), Image.Resampling.BICUBIC))
    edge = np.concatenate([shape[0], shape[-1], shape[:, 0], shape[:, -1]])
    picture = np.tile(np.median(edge, axis=0).astype(np.uint8), (size, size, 1))
    picture[half // 2 : half // 2 + half, half * right : half * right + half] = shape
    return torch.from_numpy(picture).permute(2, 0, 1)


def covering(backbone: Backbone, task: Task, items: Sequence[Item], seed: int) -> list[float]:
    """The mean probability of the predicted class: whole, and with the hottest, random, and coolest patches covered."""
    model, pixels = ZeroShot(backbone, task.class_names, task.templates[:1]), decode(items, backbone.preprocessing)
    seen = see(model, pixels)
    heat, chance = seen.maps.flatten(1), torch.rand(seen.maps.flatten(1).shape, generator=torch.Generator().manual_seed(seed))
    ties = 1e-9 * chance.double()
    orders = [(ties - heat).argsort(dim=1), chance.argsort(dim=1), (ties + heat).argsort(dim=1)]
    pictures = [pixels, *(_covered(pixels, order[:, :COVERED], seen.maps.shape[-1]) for order in orders)]
    with torch.no_grad():
        return [float(model(own).softmax(dim=-1).gather(1, seen.labels[:, None]).mean()) for own in pictures]


def _covered(pixels: Tensor, patches: Tensor, side: int) -> Tensor:
    covers = torch.zeros(len(pixels), side * side).scatter(1, patches, 1).view(-1, 1, side, side)
    covers = torch.nn.functional.interpolate(covers, pixels.shape[-2:]) > 0
    means = pixels.float().mean(dim=(2, 3), keepdim=True).round().to(torch.uint8)
    return torch.where(covers, means, pixels)


@torch.no_grad()
def plain(model: ZeroShot, pixels: Tensor) -> Tensor:
    """The probabilities alone."""
    return model(pixels).softmax(dim=-1)


def seconds(repeats: int) -> dict[str, float]:
    """CPU-seconds, which stay the same where other programs compute too; medians, in fp32.

    10 classes of the embedded backbone, 100 of ViT-B/16; maps with the probabilities, and those alone.
    """
    task, tiny = load_task("digits"), load_backbone("tiny", "cpu")
    small, pixels = ZeroShot(tiny, task.class_names, task.templates[:1]), decode(task.test[:8], tiny.preprocessing)
    shape = SHAPES["vit-b/16"]
    large = ZeroShot(random_backbone(shape), class_names(100), (TEMPLATE,))
    photos = random_batch(shape, 8, 100, torch.device("cpu"), seed=1)[0]
    steps = {
        "tiny, maps": lambda: see(small, pixels),
        "tiny, probabilities": lambda: plain(small, pixels),
        "ViT-B/16, maps": lambda: see(large, photos),
        "ViT-B/16, probabilities": lambda: plain(large, photos),
    }
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for index in range(repeats + 1):
        for name, step in steps.items():
            begun = time.process_time()
            step()
            if index:  # the first is for warming up
                taken[name].append(time.process_time() - begun)
    return {name: statistics.median(own) for name, own in taken.items()}
