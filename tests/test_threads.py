"""Many threads and models on one backbone: every result is that of a sequential call, to the bit."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from dpl import Backbone, PromptLayout, load_backbone, load_task, sample
from dpl.classifier import ZeroShot
from dpl.config import Training
from dpl.explain.gradcam import see
from dpl.methods.clip_lora import ClipLora, ClipLoraConfig
from dpl.methods.coop import CoOp, CoOpConfig
from dpl.methods.dpl import Dpl, DplConfig
from dpl.methods.method import Inputs, Method
from dpl.train import train

NAMES, TEMPLATES = ("green", "red", "dark_blue"), ("a photo of a {}.",)
LAYOUTS = PromptLayout((2, 0), (0, 3)), PromptLayout((0, 1), (2, 0))


@pytest.fixture(scope="module")
def backbone(checkpoint: Path) -> Backbone:
    return load_backbone(str(checkpoint))


def stirred(model: Method) -> Method:
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draws) * 0.5)
    return model.eval()


@pytest.fixture(scope="module")
def models(backbone: Backbone) -> list[Any]:
    prompts = [Dpl(backbone, NAMES, TEMPLATES, DplConfig(layout, 0.5), seed=1).eval() for layout in LAYOUTS]
    others = [CoOp(backbone, NAMES, TEMPLATES, CoOpConfig(context=2)), ClipLora(backbone, NAMES, TEMPLATES, ClipLoraConfig())]
    return [*prompts, *map(stirred, others), ZeroShot(backbone, NAMES, TEMPLATES)]


def logits(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(pixels)


def maps(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    return see(model, pixels).maps


@pytest.mark.parametrize(("compute", "calls"), [(logits, 200), (maps, 40)])
def test_predictions_in_ten_threads_are_those_of_one(models: list[Any], compute: Callable[..., torch.Tensor], calls: int):
    pixels = [
        torch.randint(0, 255, (1, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(i)) for i in range(7)
    ]
    work = [(index % len(models), index % len(pixels)) for index in range(calls)]
    expected = {pair: compute(models[pair[0]], pixels[pair[1]]) for pair in set(work)}
    with ThreadPoolExecutor(10) as pool:
        found = list(pool.map(lambda pair: compute(models[pair[0]], pixels[pair[1]]), work))
    assert len({tuple(expected[model, 0].flatten().tolist()) for model in range(len(models)) if (model, 0) in expected}) > 2
    assert all(torch.equal(one, expected[pair]) for one, pair in zip(found, work, strict=True))


def test_trainings_in_threads_are_those_of_one(backbone: Backbone, images: Path):
    task = load_task(str(images))
    inputs, config = Inputs(backbone, task, sample(task, 4, 1)), Training(epochs=2, batch_size=4, lr=0.05, warmup_epochs=0)

    def trained(number: int) -> list[torch.Tensor]:
        names, templates = task.class_names, task.templates
        model: Method = (
            ClipLora(backbone, names, templates, ClipLoraConfig(), seed=number)
            if number % 2
            else Dpl(backbone, names, templates, DplConfig(LAYOUTS[0], 0.5), seed=number)
        )
        train(model, inputs, config, seed=number)
        return [parameter.detach() for parameter in model.parameters()]

    expected = [trained(number) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(trained, range(4)))
    for ours, theirs in zip(found, expected, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
