from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from dpl import (
    Backbone,
    DplError,
    PromptLayout,
    TrainConfig,
    evaluate_classifier,
    load_backbone,
    load_task,
    sample,
    train_prompts,
)
from dpl.classifier import Classifier, ZeroShot
from dpl.data.fewshot import FewShot
from dpl.data.pixels.batches import TrainingBatches
from dpl.data.task import Task
from dpl.methods import METHODS
from dpl.methods.method import Inputs
from dpl.optim.optimizer import learning_rate
from dpl.optim.stage import Stage
from dpl.train import train

Parts = tuple[Backbone, Task, FewShot]
CONFIG = TrainConfig(epochs=2, batch_size=8)
LAYOUT = PromptLayout((2, 0), (0, 3))


@pytest.fixture(scope="module")
def parts(checkpoint: Path, images: Path) -> Parts:
    task = load_task(str(images))
    return load_backbone(str(checkpoint)), task, sample(task, 4, 1)


@pytest.mark.parametrize("distill", [0.0, 2.0])
def test_training_is_the_plain_loop_written_out(parts: Parts, distill: float):
    backbone, task, shots = parts
    config = TrainConfig(epochs=2, batch_size=8, distill=distill)
    model = Classifier.fixed(backbone, task.class_names, task.templates[0], LAYOUT, 0.05, 7)
    teacher = ZeroShot(backbone, task.class_names, task.templates, normalised=False)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=config.weight_decay)
    for epoch in range(config.epochs):
        optimizer.param_groups[0]["lr"] = learning_rate(config, epoch)
        batches = TrainingBatches(shots.train, backbone, task.augmentation, config, 7, "train")
        for _, pixels, labels in batches.epoch(epoch):
            logits, plain = model(pixels), teacher(pixels)
            kl = (plain.softmax(1) * (plain.log_softmax(1) - logits.log_softmax(1))).sum() / logits.numel()
            optimizer.zero_grad()
            (F.cross_entropy(logits, labels) + distill * kl).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
            optimizer.step()
    ours = train_prompts(backbone, task, shots, LAYOUT, config, seed=7)
    for (name, expected), actual in zip(model.named_parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(actual, expected, msg=name)


def test_without_distillation_there_is_no_teacher(parts: Parts, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dpl.optim.regularization.ZeroShot", None)
    train_prompts(*parts, LAYOUT, CONFIG)


@pytest.mark.parametrize("name", ["cocoop", "prograd"])
def test_a_method_that_takes_no_regularizer_refuses_it_before_it_learns(parts: Parts, name: str):
    backbone, task, shots = parts
    inputs, kind = Inputs(backbone, task, shots), METHODS[name].load()
    model = kind(backbone, task.class_names, task.templates, kind.Config())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(DplError, match=f"{name} takes no regularizer"):
        train(model, inputs, TrainConfig(epochs=1, distill=1.0))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_without_image_prompts_student_and_teacher_share_the_image_branch(parts: Parts, monkeypatch: pytest.MonkeyPatch):
    backbone, task, shots = parts
    calls: list[int] = []
    counted = Backbone.image_features
    monkeypatch.setattr(Backbone, "image_features", lambda self, pixels: calls.append(len(pixels)) or counted(self, pixels))
    config = TrainConfig(epochs=1, batch_size=8, distill=1.0, prompt_scales=(1.0,))
    train_prompts(backbone, task, shots, PromptLayout((0, 0), (0, 3)), config)
    assert sum(calls) == len(shots.train)


def test_training_learns_the_training_shots(parts: Parts):
    backbone, task, shots = parts
    model = train_prompts(backbone, task, shots, PromptLayout.uniform(4, 2, 2), TrainConfig(epochs=40, batch_size=12, lr=0.02))
    plain = ZeroShot(backbone, task.class_names, task.templates[:1])
    assert evaluate_classifier(model, task.test).accuracy >= 0.9 > evaluate_classifier(plain, task.test).accuracy


def test_a_layout_of_zeros_is_not_trained(parts: Parts):
    stage = Stage("train")
    model = train_prompts(*parts, PromptLayout.uniform(0, 2, 2), CONFIG, stage=stage)
    assert sum(parameter.numel() for parameter in model.parameters()) == 0 and stage.history == []


def test_history_has_a_record_per_epoch(parts: Parts):
    stage = Stage("train")
    train_prompts(*parts, LAYOUT, CONFIG, stage=stage)
    assert [record["epoch"] for record in stage.history] == [0, 1]
    assert all(record["loss"] > 0 and 0 <= record["accuracy"] <= 1 for record in stage.history)
    assert [record["lr"] for record in stage.history] == [learning_rate(CONFIG, epoch) for epoch in (0, 1)]


@pytest.mark.slow
def test_a_few_epochs_on_the_embedded_backbone_beat_zero_shot_on_real_digits():
    backbone, task = load_backbone("tiny"), load_task("digits")
    layout = PromptLayout.uniform(4, backbone.image.depth, backbone.text.depth)
    model = train_prompts(backbone, task, sample(task, 16, 1), layout, TrainConfig(epochs=8))
    plain = ZeroShot(backbone, task.class_names, task.templates[:1])
    tuned, frozen = (evaluate_classifier(classifier, task.test).accuracy for classifier in (model, plain))
    assert tuned >= 0.85 and tuned >= frozen + 0.15


def test_training_starts_from_given_prompts(parts: Parts):
    backbone, task, shots = parts
    start = Classifier.fixed(backbone, task.class_names, task.templates[0], LAYOUT, 0.5, 3).state_dict()
    config = TrainConfig(epochs=1, lr=1e-30, warmup_epochs=0, weight_decay=0)
    model = train_prompts(backbone, task, shots, LAYOUT, config, start=start)
    for name, expected in start.items():
        torch.testing.assert_close(model.state_dict()[name], expected, msg=name)
