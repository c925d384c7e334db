import copy
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from dpl import Backbone, load_backbone, load_task, sample
from dpl.backbones.low_rank import with_dropout, with_low_rank
from dpl.classifier import ZeroShot
from dpl.config import Penalties, Training, checked, preset
from dpl.methods.clip_lora import PROJECTIONS, ClipLora, ClipLoraConfig, ClipLoraRun
from dpl.methods.method import Inputs
from dpl.optim.regularization import Regularizer, distillation
from dpl.optim.stage import Stage
from dpl.pipeline import fit, resume
from dpl.runs import load_run
from dpl.train import train
from dpl.utils.errors import DplError

from .plain import close, draw_pixels, ids, image_features, text_features

NAMES, TEMPLATES, LABELS = ["green", "dark_blue"], ["a photo of a {}.", "one {}."], torch.tensor([0, 1, 1, 0, 1])
ALL = ("q", "k", "v", "o")


@pytest.fixture(scope="module")
def backbone(checkpoint: Path) -> Backbone:
    return load_backbone(str(checkpoint))


def lora(backbone: Backbone, seed: int = 0, names: list[str] = NAMES, **design: Any) -> ClipLora:
    return ClipLora(backbone, names, TEMPLATES, ClipLoraConfig(**design), seed)


def stirred(backbone: Backbone, seed: int = 0, **design: Any) -> ClipLora:
    """With a B that adds something."""
    model, draws = lora(backbone, seed, **design), torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".B." in name:
                parameter.copy_(torch.randn(parameter.shape, generator=draws) * 0.3)
    return model


def plain_logits(backbone: Backbone, pixels: Tensor) -> Tensor:
    rows = [ids(backbone, TEMPLATES[0].format(name)) for name in NAMES]
    texts = text_features(backbone, rows, torch.empty(0, backbone.text.width))
    return backbone.clip.logit_scale.exp() * image_features(backbone, pixels) @ texts.T


def merged(model: ClipLora) -> Backbone:
    """A copy of the backbone whose weights have the additions in them."""
    backbone, design = model.backbone, model.design
    clip: Any = copy.deepcopy(backbone.clip)
    for branch, transformer in (("image", clip.vision_model), ("text", clip.text_model)):
        for index, layer in enumerate(transformer.encoder.layers):
            for target in design.targets:
                a, b = (model.get_parameter(f"additions.{branch}_{index}_{target}.{which}.weight") for which in "AB")
                weight = getattr(layer.self_attn, PROJECTIONS[target]).weight
                weight.data += design.alpha / math.sqrt(design.rank) * (b @ a).detach()
    return replace(backbone, clip=clip)


def test_it_begins_at_the_frozen_model(backbone):
    model, pixels = lora(backbone, targets=ALL), draw_pixels()
    close(model(pixels), plain_logits(backbone, pixels))
    starts = {name: parameter for name, parameter in model.named_parameters() if ".A." in name}
    assert len(starts) == (2 + 2) * 4 and len(list(model.parameters())) == 2 * len(starts)
    for parameter in starts.values():  # kaiming-uniform with a = sqrt 5: +- 1 / sqrt(inputs)
        bound = parameter.shape[1] ** -0.5
        assert 0.7 * bound < parameter.abs().max() <= bound
    again, other = lora(backbone, targets=ALL), lora(backbone, 1, targets=ALL)
    for name, parameter in starts.items():
        assert torch.equal(again.get_parameter(name), parameter) and not torch.equal(other.get_parameter(name), parameter)


@pytest.mark.parametrize("design", [{}, {"targets": ("v",), "rank": 3, "alpha": 2.5}, {"targets": ALL, "rank": 1}])
def test_logits_are_those_of_the_model_with_the_additions_in_its_weights(backbone, design: dict):
    model, pixels = stirred(backbone, **design), draw_pixels()
    theirs = plain_logits(merged(model), pixels)
    close(model(pixels), theirs)
    assert (theirs - plain_logits(backbone, pixels)).abs().max() > 0.1
    with model.attached():
        close(model(pixels), theirs)


def test_only_additions_are_learned_and_saved(backbone):
    model = stirred(backbone, targets=("q", "o"), rank=3)
    names = {name.split(".")[1] for name, _ in model.named_parameters()}
    assert names == {f"{branch}_{index}_{target}" for branch in ("image", "text") for index in (0, 1) for target in "qo"}
    assert sum(parameter.numel() for parameter in model.parameters()) == 2 * 2 * 2 * 3 * (32 + 24)
    assert set(model.state_dict()) == {*dict(model.named_parameters()), "steps"}
    objective = model.objective(draw_pixels(), LABELS)
    objective.backward(list(model.parameters()))
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in model.parameters())


def test_the_backbone_has_the_additions_only_inside_attached(backbone):
    pixels = draw_pixels()
    frozen, one, other = plain_logits(backbone, pixels), stirred(backbone), stirred(backbone, 5)
    ours, theirs = one(pixels), other(pixels)
    assert (ours - theirs).abs().max() > 0.1
    with one.attached():
        assert torch.equal(other(pixels), theirs) and torch.equal(one(pixels), ours)
        with pytest.raises(DplError), other.attached():
            raise DplError("something else went wrong")
        assert torch.equal(one(pixels), ours)
    assert torch.equal(plain_logits(backbone, pixels), frozen) and one.image_encoder is not other.image_encoder


def test_dropout_is_of_training_steps_and_its_draws_are_named(backbone):
    pixels, state = draw_pixels(), torch.get_rng_state()

    def losses(seed: int, count: int = 3, first: int = 0, **design: Any) -> list[float]:
        model = stirred(backbone, targets=ALL, **design)
        model._seed = seed
        model.steps += first
        return [model.objective(pixels, LABELS).loss.item() for _ in range(count)]

    seen = losses(1)
    assert seen == losses(1) and len({*seen, *losses(2)}) == 6
    assert losses(1, 1, first=2) == seen[2:]
    exact = losses(1, dropout=0.0)
    assert len(set(exact)) == 1 and exact[0] not in seen
    assert exact[0] == pytest.approx(F.cross_entropy(stirred(backbone, targets=ALL)(pixels), LABELS).item(), rel=1e-5)
    assert torch.equal(torch.get_rng_state(), state)


def test_dropout_leaves_out_a_part_of_the_inputs_and_scales_the_rest(backbone):
    frozen, addition = next(iter(stirred(backbone, dropout=0.25)._by_layer.items()))
    inputs, draws = torch.randn(40, 32, generator=torch.Generator().manual_seed(1)), 3000
    with torch.no_grad(), with_low_rank({frozen: addition}):
        exact = frozen(inputs)
        assert torch.equal(frozen(inputs), exact)
        with with_dropout(torch.Generator().manual_seed(1)):
            mean = sum(frozen(inputs) for _ in range(draws)) / draws
            assert (frozen(inputs) - frozen(inputs)).abs().max() > 0.1
    torch.testing.assert_close(mean, exact, atol=0.1, rtol=0)


def test_the_additions_are_those_of_peft(backbone):
    model = stirred(backbone, targets=("v",), rank=3, alpha=2.5)
    layer = backbone.image.layers[1].attention
    config = LoraConfig(r=3, lora_alpha=2.5, target_modules=["projection"], use_rslora=True)  # pyright: ignore[reportArgumentType]
    theirs: Any = nn.ModuleDict({"projection": layer.v_proj})
    inject_adapter_in_model(config, theirs, adapter_name="own")
    for which in "AB":
        weight = getattr(theirs["projection"], f"lora_{which}")["own"].weight
        weight.data = model.get_parameter(f"additions.image_1_v.{which}.weight").data
    inputs = torch.randn(40, 32)
    expected = theirs["projection"].eval()(inputs)
    with model.attached():
        assert torch.equal(layer.v_proj(inputs), expected)


def test_the_teacher_is_the_frozen_model(backbone):
    model, pixels = stirred(backbone, dropout=0.0), draw_pixels()
    regularizer = Regularizer(backbone, NAMES, TEMPLATES, Penalties(distill=3.0))
    teacher = ZeroShot(backbone, NAMES, TEMPLATES, normalised=False)(pixels)
    student = plain_logits(merged(model), pixels)
    expected = F.cross_entropy(student, LABELS) + 3 * distillation(student, teacher)
    close(model.objective(pixels, LABELS, regularizer).loss, expected)


def test_a_bf16_backbone_trains_fp32_additions(checkpoint):
    model, exact = (stirred(load_backbone(str(checkpoint), precision=p), dropout=0.0) for p in ("bf16", "fp32"))
    pixels = draw_pixels()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    torch.testing.assert_close(model(pixels), exact(pixels), atol=0.3, rtol=0.05)
    ours, theirs = (
        torch.cat(
            [slope.flatten() for slope in torch.autograd.grad(each.objective(pixels, LABELS).loss, list(each.parameters()))]
        )
        for each in (model, exact)
    )
    assert F.cosine_similarity(ours, theirs, dim=0) > 0.95


def test_other_classes_take_the_same_additions(backbone):
    model, pixels = stirred(backbone), draw_pixels()
    with model.attached():
        other = model.for_classes(["red", *NAMES])
    close(other(pixels)[:, 1:], model(pixels))


@pytest.mark.parametrize("design", [{"rank": 0}, {"targets": ()}, {"dropout": 1.0}, {"alpha": 0.0}])
def test_settings_out_of_range_are_named(design: dict):
    with pytest.raises(DplError, match=rf"--(design\.)?{next(iter(design))} "):
        checked(ClipLoraRun(data="digits", design=ClipLoraConfig(**design)))


@pytest.mark.parametrize(("steps", "epochs"), [(5, 2), (6, 2), (7, 3)])
def test_steps_are_as_many_whole_epochs_as_have_them(backbone, images, steps: int, epochs: int):
    task = load_task(str(images))
    inputs, stage = Inputs(backbone, task, sample(task, 3, 1)), Stage("train")  # 9 images: 3 steps per epoch
    config = Training(steps=steps, batch_size=4, warmup_epochs=0, schedule="step", lr=0.1)
    model = ClipLora(backbone, task.class_names, task.templates, ClipLoraConfig())
    train(model, inputs, config, 1, stage)
    assert len(stage.history) == epochs and int(model.steps) == 3 * epochs
    assert stage.history[1]["lr"] == pytest.approx(0.05 * (1 + math.cos(math.pi / epochs)))


def test_the_authors_settings():
    run = preset(ClipLoraRun, "paper", "digits", 4)
    assert (run.train.steps, run.train.batch_size, run.train.lr, run.train.weight_decay) == (2000, 32, 2e-4, 1e-2)
    assert (run.train.final_lr, run.train.schedule, run.augmentation) == (1e-6, "step", "gentle")
    assert run.design == ClipLoraConfig(rank=2, alpha=1, dropout=0.25, targets=("q", "k", "v"))


def test_a_stopped_run_goes_on_to_the_same_bits_and_is_read_again(images, checkpoint, tmp_path):
    def settings(out: str) -> ClipLoraRun:
        run = ClipLoraRun(data=str(images), backbone=str(checkpoint), shots=4, out=tmp_path / out)
        return replace(run, train=Training(epochs=2, batch_size=6, lr=0.05, warmup_epochs=0))

    class Killed(BaseException):
        pass

    def stop(stage, done, *_):
        if (stage, done) == ("train", 3):
            raise Killed

    whole = fit(settings("whole"))
    with pytest.raises(Killed):
        fit(settings("run"), on_step=stop)
    resumed = resume(tmp_path / "run")
    for name in ("prompts.safetensors", "class_features.safetensors"):
        assert (resumed / name).read_bytes() == (whole / name).read_bytes()
    model, metrics = load_run(whole), json.loads((whole / "metrics.json").read_text())
    head = 3 * 16  # the residual of each class
    assert metrics["trainable_parameters"] == 2 * 2 * 3 * 2 * (32 + 24) + head and model.design == ClipLoraConfig()
    assert int(model.state_dict()["steps"]) == 4
    frozen, pixels = ZeroShot(model.backbone, model.class_names, model.templates[:1]), draw_pixels()
    assert (model(pixels) - frozen(pixels)).abs().max() > 1e-3
