"""The literature's sanity checks of maps, with the embedded backbone on drawn shapes; numbers in docs/explain.md."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor
from transformers import CLIPModel

from dpl import ZeroShot, load_backbone, load_image, load_task
from dpl.explain.gradcam import class_maps


@pytest.fixture(scope="module")
def outlines() -> tuple[Tensor, Tensor, list[str], str, Tensor]:
    """Drawn shapes, each in the middle of the left or of the right half of a plain picture: pixels, labels, whether left."""
    task, size = load_task("outlines"), 48
    items = [task.test[index] for index in np.random.default_rng(0).permutation(len(task.test))[:96]]
    pictures = []
    for index, item in enumerate(items):
        shape = np.asarray(load_image(item).resize((size // 2, size // 2), Image.Resampling.BICUBIC))
        edge = np.concatenate([shape[0], shape[-1], shape[:, 0], shape[:, -1]])
        picture = np.tile(np.median(edge, axis=0).astype(np.uint8), (size, size, 1))
        left = size // 2 * (index % 2)
        picture[size // 4 : size // 4 + size // 2, left : left + size // 2] = shape
        pictures.append(torch.from_numpy(picture).permute(2, 0, 1))
    labels, is_left = torch.tensor([item.label for item in items]), torch.arange(len(items)) % 2 == 0
    return torch.stack(pictures), labels, list(task.class_names), task.templates[0], is_left


def on_embedded(outlines: Any, change: Callable[[CLIPModel], None] = lambda clip: None) -> ZeroShot:
    backbone = load_backbone("tiny", "cpu")
    change(backbone.clip)
    return ZeroShot(backbone, outlines[2], (outlines[3],))


def agreement(first: Tensor, second: Tensor) -> float:
    """Spearman's rank correlation of two maps, mean over the images where both vary."""
    pairs = [(a, b) for a, b in zip(first.flatten(1), second.flatten(1), strict=True) if a.std() > 0 and b.std() > 0]
    found: list[Any] = [spearmanr(a, b) for a, b in pairs]
    return float(np.mean([own.statistic for own in found]))


def test_the_more_layers_are_randomised_from_the_last_on_the_less_is_left_of_the_maps(outlines: Any):
    """Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018: cascading randomisation."""
    pixels, labels = outlines[:2]
    maps = class_maps(on_embedded(outlines), pixels, labels)

    def shuffle(layers: int) -> Callable[[CLIPModel], None]:
        def change(clip: CLIPModel) -> None:
            draw = torch.Generator().manual_seed(0)
            for block in reversed(clip.vision_model.encoder.layers[-layers:] if layers else []):
                for weight in block.parameters():
                    weight.copy_(weight.flatten()[torch.randperm(weight.numel(), generator=draw)].view_as(weight))

        return torch.no_grad()(change)

    kept = [agreement(maps, class_maps(on_embedded(outlines, shuffle(layers)), pixels, labels)) for layers in (0, 1, 3, 6)]
    assert kept[0] == pytest.approx(1)
    assert max(map(abs, kept[1:])) < 0.4, kept


def test_another_class_has_another_map(outlines: Any):
    """The other half of the sanity checks: what the maps are of matters."""
    model, (pixels, labels) = on_embedded(outlines), outlines[:2]
    maps = class_maps(model, pixels, labels)
    others = class_maps(model, pixels, (labels + 1) % len(outlines[2]))
    assert agreement(maps, others) < 0.5, agreement(maps, others)


def test_heat_is_on_the_side_of_a_shape_more_often_than_not(outlines: Any):
    """With the embedded backbone; docs/explain.md says for which tasks this does not hold."""
    pixels, labels, *_, is_left = outlines
    maps = class_maps(on_embedded(outlines), pixels, labels)
    left, right = maps[..., :3].sum(dim=(1, 2)), maps[..., 3:].sum(dim=(1, 2))
    found = torch.where(is_left, left > right, right > left).float().mean()
    assert found > 0.65, found
