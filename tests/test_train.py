from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from dpl import Backbone, PromptLayout, TrainConfig, evaluate_classifier, load_backbone, load_task, sample, train_prompts
from dpl.classifier import Classifier, ZeroShot
from dpl.data.batches import TrainingBatches
from dpl.data.fewshot import FewShot
from dpl.data.task import Task
from dpl.data.transforms import decode
from dpl.optimization import learning_rate
from dpl.stage import Stage
from dpl.train import best_gate, calibrated_loss, distillation

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
    teacher = ZeroShot(backbone, task.class_names, task.templates)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=config.weight_decay)
    for epoch in range(config.epochs):
        optimizer.param_groups[0]["lr"] = learning_rate(config, epoch)
        batches = TrainingBatches(shots.train, backbone, task.augmentation, config.batch_size, 7, "train")
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
    monkeypatch.setattr("dpl.train.ZeroShot", None)
    train_prompts(*parts, LAYOUT, CONFIG)


def test_without_image_prompts_student_and_teacher_share_the_image_branch(parts: Parts, monkeypatch: pytest.MonkeyPatch):
    backbone, task, shots = parts
    calls: list[int] = []
    counted = Backbone.image_features
    monkeypatch.setattr(Backbone, "image_features", lambda self, pixels: calls.append(len(pixels)) or counted(self, pixels))
    config = TrainConfig(epochs=1, batch_size=8, distill=1.0, gates=(1.0,))
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


def test_distillation_is_zero_only_for_the_teachers_own_logits():
    teacher = torch.tensor([[2.0, 0.0, 1.0]])
    assert distillation(teacher + 3, teacher).item() == pytest.approx(0, abs=1e-7)
    assert distillation(torch.zeros(1, 3), teacher).item() > 0.01


def test_a_few_epochs_on_the_embedded_backbone_beat_zero_shot_on_real_digits():
    backbone, task = load_backbone("tiny"), load_task("digits")
    layout = PromptLayout.uniform(4, backbone.image.depth, backbone.text.depth)
    model = train_prompts(backbone, task, sample(task, 16, 1), layout, TrainConfig(epochs=8))
    plain = ZeroShot(backbone, task.class_names, task.templates[:1])
    tuned, frozen = (evaluate_classifier(classifier, task.test).accuracy for classifier in (model, plain))
    assert tuned >= 0.85 and tuned >= frozen + 0.15


def test_a_gate_of_zero_is_the_frozen_model_and_a_gate_of_one_changes_nothing(parts: Parts):
    backbone, task, shots = parts
    model = Classifier.fixed(backbone, task.class_names, task.templates[0], LAYOUT, 2.0, 7)
    pixels = decode(shots.val, backbone.image_size)
    with torch.no_grad():
        plain, trained = ZeroShot(backbone, task.class_names, task.templates[:1])(pixels), model(pixels)
        logits = {}
        for model.gate in (0.0, 1e-6, 0.5, 1.0):
            logits[model.gate] = model(pixels)
    torch.testing.assert_close(logits[0.0], plain)
    torch.testing.assert_close(logits[1e-6], plain, atol=1e-2, rtol=1e-3)
    assert torch.equal(logits[1.0], trained) and not torch.allclose(logits[0.5], trained, atol=1e-3)


def test_the_gate_of_the_lowest_calibrated_validation_loss_is_chosen(parts: Parts):
    backbone, task, shots = parts
    model = Classifier.fixed(backbone, task.class_names, task.templates[0], LAYOUT, 2.0, 7)
    labels = torch.tensor([item.label for item in shots.val])
    losses = {}
    for model.gate in (1.0, 0.3, 0.0):
        with torch.no_grad():
            logits = model(decode(shots.val, backbone.image_size))
        losses[model.gate] = min(F.cross_entropy(logits * scale, labels).item() for scale in torch.linspace(-3, 1, 400).exp())
    model.gate = 0.3
    assert best_gate(model, shots.val, tuple(losses)) == min(losses, key=lambda gate: losses[gate])
    assert best_gate(model, (), (0.5, 1.0)) == 0.5 and model.gate == 0.3


def test_a_calibrated_loss_does_not_care_how_sure_the_logits_are():
    logits, labels = torch.randn(50, 4, generator=torch.Generator().manual_seed(1)), torch.arange(50) % 4
    logits[torch.arange(50), labels] += 1.5
    assert calibrated_loss(3 * logits, labels) == pytest.approx(calibrated_loss(logits, labels), rel=1e-5)
    assert calibrated_loss(logits, labels) <= F.cross_entropy(logits, labels).item()


def test_prompts_that_training_spoils_give_way_to_zero_shot(parts: Parts):
    backbone, task, shots = parts
    wrong = FewShot(tuple(replace(item, label=(item.label + 1) % 3) for item in shots.train), shots.val)
    config = TrainConfig(epochs=30, batch_size=12, lr=0.05, gates=(1.0, 0.0))
    model = train_prompts(backbone, task, wrong, LAYOUT, config)
    assert model.gate == 0.0
    frozen = ZeroShot(backbone, task.class_names, task.templates[:1])
    assert evaluate_classifier(model, task.test).accuracy == evaluate_classifier(frozen, task.test).accuracy


def test_training_starts_from_given_prompts(parts: Parts):
    backbone, task, shots = parts
    start = Classifier.fixed(backbone, task.class_names, task.templates[0], LAYOUT, 0.5, 3).state_dict()
    config = TrainConfig(epochs=1, lr=1e-30, warmup_epochs=0, weight_decay=0)
    model = train_prompts(backbone, task, shots, LAYOUT, config, start=start)
    for name, expected in start.items():
        torch.testing.assert_close(model.state_dict()[name], expected, msg=name)
