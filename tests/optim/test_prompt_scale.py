from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from dpl import Backbone, PromptLayout, TrainConfig, evaluate_classifier, load_backbone, load_task, sample, train_prompts
from dpl.classifier import Classifier, ZeroShot
from dpl.data.fewshot import FewShot
from dpl.data.pixels.transforms import decode
from dpl.data.task import Task
from dpl.optim.prompt_scale import best_prompt_scale, calibrated_loss

Parts = tuple[Backbone, Task, FewShot]
LAYOUT = PromptLayout((2, 0), (0, 3))


@pytest.fixture(scope="module")
def parts(checkpoint: Path, images: Path) -> Parts:
    task = load_task(str(images))
    return load_backbone(str(checkpoint)), task, sample(task, 4, 1)


def test_a_scale_of_zero_is_the_frozen_model_and_a_scale_of_one_changes_nothing(parts: Parts):
    backbone, task, shots = parts
    model = Classifier.fixed(backbone, task.class_names, task.templates[0], LAYOUT, 2.0, 7)
    pixels = decode(shots.val, backbone.preprocessing)
    with torch.no_grad():
        plain, trained = ZeroShot(backbone, task.class_names, task.templates[:1])(pixels), model(pixels)
        logits = {}
        for model.prompt_scale in (0.0, 1e-6, 0.5, 1.0):
            logits[model.prompt_scale] = model(pixels)
    torch.testing.assert_close(logits[0.0], plain)
    torch.testing.assert_close(logits[1e-6], plain, atol=1e-2, rtol=1e-3)
    assert torch.equal(logits[1.0], trained) and not torch.allclose(logits[0.5], trained, atol=1e-3)


def test_the_scale_of_the_lowest_calibrated_validation_loss_is_chosen(parts: Parts):
    backbone, task, shots = parts
    model = Classifier.fixed(backbone, task.class_names, task.templates[0], LAYOUT, 2.0, 7)
    labels = torch.tensor([item.label for item in shots.val])
    losses = {}
    for model.prompt_scale in (1.0, 0.3, 0.0):
        with torch.no_grad():
            logits = model(decode(shots.val, backbone.preprocessing))
        losses[model.prompt_scale] = min(
            F.cross_entropy(logits * scale, labels).item() for scale in torch.linspace(-3, 1, 400).exp()
        )
    model.prompt_scale = 0.3
    assert best_prompt_scale(model, shots.val, tuple(losses)) == min(losses, key=lambda scale: losses[scale])
    assert best_prompt_scale(model, (), (0.5, 1.0)) == 0.5 and model.prompt_scale == 0.3


def test_a_calibrated_loss_does_not_care_how_sure_the_logits_are():
    logits, labels = torch.randn(50, 4, generator=torch.Generator().manual_seed(1)), torch.arange(50) % 4
    logits[torch.arange(50), labels] += 1.5
    assert calibrated_loss(3 * logits, labels) == pytest.approx(calibrated_loss(logits, labels), rel=1e-5)
    assert calibrated_loss(logits, labels) <= F.cross_entropy(logits, labels).item()


def test_prompts_that_training_spoils_give_way_to_zero_shot(parts: Parts):
    backbone, task, shots = parts
    wrong = FewShot(tuple(replace(item, label=(item.label + 1) % 3) for item in shots.train), shots.val)
    config = TrainConfig(epochs=30, batch_size=12, lr=0.05, prompt_scales=(1.0, 0.0))
    model = train_prompts(backbone, task, wrong, LAYOUT, config)
    assert model.prompt_scale == 0.0
    frozen = ZeroShot(backbone, task.class_names, task.templates[:1])
    assert evaluate_classifier(model, task.test).accuracy == evaluate_classifier(frozen, task.test).accuracy
