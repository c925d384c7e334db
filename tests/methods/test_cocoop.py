from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from dpl import Backbone, evaluate_classifier, load_backbone, load_run, load_task
from dpl.config import preset
from dpl.evaluate import most_probable
from dpl.methods.cocoop import CoCoOp, CoCoOpConfig, CoCoOpRun
from dpl.runs import save_run

from .plain import close, draw_pixels, ids, image_features, text_features

NAMES, TEMPLATES = ["dark_blue", "green", "red"], ["a photo of a {}."]


@pytest.fixture(scope="module")
def backbone(checkpoint: Path) -> Backbone:
    return load_backbone(str(checkpoint))


@pytest.fixture
def model(backbone: Backbone) -> CoCoOp:
    return CoCoOp(backbone, NAMES, TEMPLATES, CoCoOpConfig(), seed=1)


def theirs(model: CoCoOp, pixels: Tensor) -> Tensor:
    """Logits, image by image, the small network written out."""
    backbone, rows = model.backbone, []
    w1, b1, w2, b2 = (dict(model.named_parameters())[f"meta.{name}"] for name in ("0.weight", "0.bias", "2.weight", "2.bias"))
    texts = [ids(backbone, "a photo of a", f"{name.replace('_', ' ')}.") for name in NAMES]
    for image in image_features(backbone, pixels):
        shift = w2 @ (w1 @ image + b1).clamp(min=0) + b2
        rows.append(backbone.clip.logit_scale.exp() * text_features(backbone, texts, model.context + shift) @ image)
    return torch.stack(rows)


@pytest.mark.parametrize("at_once", [1, 40, 10**6])
def test_every_image_has_texts_of_its_own_however_many_at_once(model, monkeypatch, at_once):
    monkeypatch.setattr("dpl.methods.cocoop.TOKENS_AT_ONCE", at_once)
    pixels, labels = draw_pixels(), torch.tensor([0, 1, 2, 0, 1])
    expected = theirs(model, pixels)
    objective = model.objective(pixels, labels)
    objective.backward(list(model.parameters()))
    close(objective.logits, expected)
    close(objective.loss, F.cross_entropy(expected, labels))
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad(F.cross_entropy(expected, labels), parameters)
    assert len(names) == 5
    for parameter, gradient in zip(parameters, gradients, strict=True):
        close(parameter.grad, gradient)


def test_the_texts_at_once_are_bounded(model, monkeypatch):
    counts: list[int] = []
    features = type(model._texts).features
    monkeypatch.setattr(
        type(model._texts), "features", lambda self, context: counts.append(len(context)) or features(self, context)
    )
    monkeypatch.setattr("dpl.methods.cocoop.TOKENS_AT_ONCE", 2 * model._texts.tokens)
    model(draw_pixels(5))
    assert counts == [2, 2, 1]


def test_class_embeddings_are_those_of_the_context_without_a_shift(model):
    texts = [ids(model.backbone, "a photo of a", f"{name}.") for name in ("dark blue", "green", "red")]
    close(model.text_features(), text_features(model.backbone, texts, model.context))


def test_training_does_not_compute_them(model, monkeypatch):
    monkeypatch.setattr(CoCoOp, "text_features", None)
    assert model.objective(draw_pixels(), torch.tensor([0, 1, 2, 0, 1])).logits.shape == (5, 3)


def test_evaluation_and_prediction_go_by_the_images_own_texts(model, images):
    with torch.no_grad():
        model.meta[2].bias.mul_(100)  # so that the shift decides
    pixels, texts = draw_pixels(), model.text_features()
    probabilities = theirs(model, pixels).softmax(dim=1)
    plain = (model.backbone.clip.logit_scale.exp() * image_features(model.backbone, pixels) @ texts.T).softmax(dim=1)
    assert (probabilities - plain).abs().max() > 1e-2
    for row, found in zip(probabilities, most_probable(model, pixels, 3, texts), strict=True):
        assert dict(found) == pytest.approx(dict(zip(NAMES, row.tolist(), strict=True)), abs=1e-4)
    items = load_task(str(images)).test
    assert evaluate_classifier(model, items).predictions.shape == (len(items),)


def test_the_network_starts_as_pytorchs_and_draws_from_its_own_name_alone(backbone):
    before = torch.random.get_rng_state()
    model = CoCoOp(backbone, NAMES, TEMPLATES, CoCoOpConfig(), seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == {
        "context": (len(ids(backbone, "a photo of a")) - 2, 24),
        "meta.0.weight": (1, 16),
        "meta.0.bias": (1,),
        "meta.2.weight": (24, 1),
        "meta.2.bias": (24,),
    }
    first, last = (model.state_dict()[f"meta.{layer}.weight"].abs().max().item() for layer in (0, 2))
    assert 0.125 < first <= 0.25 and 0.5 < last <= 1  # uniform within 1 / sqrt(inputs)
    models = [model, *(CoCoOp(backbone, NAMES, TEMPLATES, CoCoOpConfig(), seed=seed) for seed in (1, 2))]
    mine, again, other = (found.state_dict()["meta.2.weight"] for found in models)
    assert torch.equal(again, mine) and not torch.equal(other, mine)


def test_a_context_without_words_starts_at_random(backbone):
    design = CoCoOpConfig(context=9, init="", prompt_std=0.3)
    model = CoCoOp(backbone, NAMES, TEMPLATES, design)
    assert model.context.std().item() == pytest.approx(0.3, rel=0.2)
    assert model.layout.text == (9, 0) and model.design is design


def test_it_comes_back_from_a_file_and_takes_other_classes(model, tmp_path):
    pixels = draw_pixels()
    save_run(tmp_path / "run", model)
    assert set(load_file(tmp_path / "run" / "prompts.safetensors")) == set(model.state_dict())
    loaded = load_run(tmp_path / "run")
    assert torch.equal(loaded(pixels), model(pixels))
    close(model.for_classes(NAMES[:2])(pixels), model(pixels)[:, :2])


def test_the_authors_settings():
    train = preset(CoCoOpRun, "paper", "digits").train
    assert (train.epochs, train.batch_size, train.lr, train.warmup_epochs) == (10, 1, 2e-3, 1)
