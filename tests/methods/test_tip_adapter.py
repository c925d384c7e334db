import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from dpl import load_backbone, load_task, sample
from dpl.classifier import ZeroShot
from dpl.config import Optimization, preset
from dpl.data.pixels.transforms import decode
from dpl.data.task import Augmentation
from dpl.features import embed_augmented
from dpl.methods.method import Inputs
from dpl.methods.tip_adapter import TipAdapter, TipAdapterConfig, TipAdapterRun
from dpl.methods.tip_adapter_f import TipAdapterF, TipAdapterFRun
from dpl.pipeline import fit, resume
from dpl.runs import load_run
from dpl.train import train
from dpl.utils.errors import DplError

from .plain import close, draw_pixels, image_features

BOTH = pytest.mark.parametrize("cls", [TipAdapter, TipAdapterF])
UNTOUCHED, CROPS = Augmentation((1.0, 1.0), flip=False), Augmentation((0.5, 1.0), flip=True)
CONFIG = Optimization(epochs=2, batch_size=4, lr=1e-2, warmup_epochs=0)


@pytest.fixture(scope="module")
def inputs(checkpoint: Path, images: Path) -> Inputs:
    task = replace(load_task(str(images)), augmentation=CROPS)
    return Inputs(load_backbone(str(checkpoint)), task, sample(task, 3, 1))


def tip_adapter(inputs: Inputs, cls: type[TipAdapter] = TipAdapter, **design) -> TipAdapter:
    return cls(inputs.backbone, inputs.task.class_names, inputs.task.templates, TipAdapterConfig(**design))


def prepared(inputs: Inputs, cls: type[TipAdapter] = TipAdapter, seed: int = 1, **design) -> TipAdapter:
    model = tip_adapter(inputs, cls, **design)
    model.on_train_start(inputs, seed)
    return model


@BOTH
def test_the_keys_of_untouched_images_are_their_embeddings(inputs: Inputs, cls: type[TipAdapter]):
    inputs = replace(inputs, task=replace(inputs.task, augmentation=UNTOUCHED))
    model = prepared(inputs, cls, augment_epochs=2)
    pixels = decode(inputs.shots.train, inputs.backbone.preprocessing)
    torch.testing.assert_close(model.keys, image_features(inputs.backbone, pixels), atol=2e-2, rtol=0)  # other rounding of pixels
    assert model.labels.tolist() == [item.label for item in inputs.shots.train]


def test_a_key_is_the_normalised_mean_of_embeddings_of_several_crops(inputs: Inputs):
    model = prepared(inputs, augment_epochs=3)
    looks = torch.stack(list(embed_augmented(inputs.backbone, inputs.shots.train, CROPS, 3, seed=1)))
    assert (looks[0] - looks[1]).abs().max() > 1e-3 and not torch.allclose(looks.norm(dim=-1), torch.ones(3, 9))
    close(model.keys, F.normalize(looks.mean(dim=0)))
    assert torch.equal(prepared(inputs, augment_epochs=3).keys, model.keys)
    assert not torch.allclose(prepared(inputs, seed=2, augment_epochs=3).keys, model.keys, atol=1e-4)


@BOTH
def test_logits_are_those_of_the_formula(inputs: Inputs, cls: type[TipAdapter]):
    model, pixels = prepared(inputs, cls, augment_epochs=1, alpha=3.0, beta=0.7), draw_pixels()
    images, keys = image_features(inputs.backbone, pixels), model.keys
    frozen = ZeroShot(inputs.backbone, inputs.task.class_names, inputs.task.templates)(pixels)
    for image, row, logits in zip(images, frozen, model(pixels), strict=True):
        expected = row.clone()
        for key, label in zip(keys, model.labels, strict=True):
            expected[label] += 3.0 * torch.exp(-0.7 * (1 - image @ key))
        close(logits, expected)


@BOTH
def test_alpha_and_beta_are_the_first_of_the_grid_with_most_validation_shots_right(inputs: Inputs, cls: type[TipAdapter]):
    model, items = prepared(inputs, cls, augment_epochs=1), inputs.shots.val
    wrong = torch.tensor([1, 2, 0])[model.labels]
    model.load_state_dict({"keys": model.keys, "labels": torch.where(torch.arange(9) % 3 == 0, wrong, model.labels)})
    images = image_features(inputs.backbone, decode(items, inputs.backbone.preprocessing))
    frozen = inputs.backbone.clip.logit_scale.exp() * images @ model.text_features().T
    labels, near = torch.tensor([item.label for item in items]), images @ model.keys.T
    best, found, scores = 0, (0.0, 0.0), set()
    for i in range(200):
        beta = i * (12 - 0.1) / 200 + 0.1
        cached = torch.exp(-beta * (1 - near)) @ F.one_hot(model.labels).float()
        for j in range(20):
            alpha = j * (10 - 0.1) / 20 + 0.1
            right = ((frozen + alpha * cached).argmax(dim=-1) == labels).sum().item()
            scores.add(right)
            if right > best:
                best, found = right, (alpha, beta)
    model.on_train_end(inputs)
    assert len(scores) > 3 and model.scalars == {"alpha": found[0], "beta": found[1]}


def test_without_validation_shots_alpha_and_beta_stay(inputs: Inputs):
    model = prepared(inputs, augment_epochs=1, alpha=3.0, beta=0.7)
    model.on_train_end(replace(inputs, shots=replace(inputs.shots, val=())))
    assert model.scalars == {"alpha": 3.0, "beta": 0.7}


def test_the_keys_are_all_that_is_learned_and_only_by_f(inputs: Inputs):
    plain, learned = (tip_adapter(inputs, cls, augment_epochs=1) for cls in (TipAdapter, TipAdapterF))
    shots = replace(inputs.shots, val=())
    for model in (plain, learned):
        train(model, replace(inputs, shots=shots), CONFIG, seed=1)
    assert not list(plain.parameters()) and [name for name, _ in learned.named_parameters()] == ["keys"]
    assert (learned.keys - plain.keys).abs().max() > 1e-3
    pixels, labels = decode(shots.train, inputs.backbone.preprocessing), plain.labels
    with torch.no_grad():
        losses = [F.cross_entropy(model(pixels), labels) for model in (plain, learned)]
    assert losses[1] < losses[0]


@BOTH
def test_a_cache_of_another_size_can_be_loaded_and_one_of_the_same_stays_the_same_tensor(inputs: Inputs, cls: type[TipAdapter]):
    model, fresh = prepared(inputs, cls, augment_epochs=1), tip_adapter(inputs, cls)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh.keys, model.keys) and torch.equal(fresh.labels, model.labels)
    before = fresh.keys
    fresh.load_state_dict({"keys": -model.keys, "labels": model.labels})
    assert fresh.keys is before and torch.equal(before, -model.keys)
    with pytest.raises(RuntimeError, match="labels"):
        fresh.load_state_dict({"keys": model.keys})


def settings(images: Path, checkpoint: Path, out: Path) -> TipAdapterFRun:
    run = TipAdapterFRun(data=str(images), backbone=str(checkpoint), shots=3, out=out, augmentation="gentle")
    return replace(run, design=TipAdapterConfig(augment_epochs=2), train=CONFIG)


def outcome(run: Path) -> bytes:
    return (run / "prompts.safetensors").read_bytes()


def test_a_stopped_run_goes_on_to_the_same_bits_and_is_read_again(images, checkpoint, tmp_path):
    whole = fit(settings(images, checkpoint, tmp_path / "whole"))

    class Killed(BaseException):
        pass

    def stop(stage, done, *_):
        if (stage, done) == ("train", 4):
            raise Killed

    with pytest.raises(Killed):
        fit(settings(images, checkpoint, tmp_path / "run"), on_step=stop)
    assert outcome(resume(tmp_path / "run")) == outcome(whole)
    model, metrics = load_run(whole), json.loads((whole / "metrics.json").read_text())
    assert metrics["trainable_parameters"] == 9 * 16 and model.keys.shape == (9, 16)
    assert model.scalars == {"alpha": metrics["alpha"], "beta": metrics["beta"]}
    with pytest.raises(DplError, match="tip-adapter-f: its learned parameters belong to its own 3 classes"):
        model.for_classes(["red", "blue"])


def test_a_training_free_run_is_read_again(images, checkpoint, tmp_path):
    design = TipAdapterConfig(augment_epochs=2)
    run = fit(TipAdapterRun(data=str(images), backbone=str(checkpoint), shots=3, out=tmp_path / "run", design=design))
    metrics, model, pixels = json.loads((run / "metrics.json").read_text()), load_run(run), draw_pixels()
    assert metrics["trainable_parameters"] == 0 and metrics["accuracy"] >= metrics["zero_shot_accuracy"]
    assert model.name == "tip-adapter" and torch.equal(load_run(run)(pixels), model(pixels))
    frozen = ZeroShot(model.backbone, model.class_names, model.templates)(pixels)
    assert (model(pixels) - frozen).abs().max() > 0.1


def test_the_authors_settings():
    run = preset(TipAdapterFRun, "paper", "digits", 4)
    assert run.augmentation == preset(TipAdapterRun, "paper", "digits").augmentation == "gentle"
    assert (run.train.lr, run.train.adam_eps, run.train.weight_decay) == (1e-3, 1e-4, 0.01)
    assert (run.train.epochs, run.train.batch_size, run.train.schedule) == (20, 256, "step")
