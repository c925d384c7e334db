from pathlib import Path

import pytest
import torch

from dpl import Backbone, load_backbone
from dpl.classifier import ZeroShot
from dpl.config import preset
from dpl.methods.vpt import Vpt, VptDesign, VptRun

from .plain import close, draw_pixels, image_features

NAMES, TEMPLATES = ["dark_blue", "green", "red"], ["one {} photo.", "a {}."]


@pytest.fixture(scope="module")
def backbone(checkpoint: Path) -> Backbone:
    return load_backbone(str(checkpoint))


@pytest.mark.parametrize("depth, layout", [(1, (8, 0)), (2, (8, 8)), (None, (8, 8)), (12, (8, 8))])
def test_images_have_the_tokens_behind_their_patches(backbone, depth, layout):
    design, pixels = VptDesign(depth=depth, prompt_std=0.5), draw_pixels()
    model = Vpt(backbone, NAMES, TEMPLATES, design, seed=1)
    first, *deep = model.parameters()
    close(model.image_features(pixels), image_features(backbone, pixels, first, deep))
    assert model.layout.image == layout and model.layout.text == (0, 0)
    assert model.design is design


def test_texts_are_the_frozen_models_and_computed_once(backbone, monkeypatch):
    model = Vpt(backbone, NAMES, TEMPLATES, VptDesign())
    assert torch.equal(model.text_features(), ZeroShot(backbone, NAMES, TEMPLATES[:1]).text_features())
    monkeypatch.setattr("dpl.classifier.Texts", None)
    assert model.text_features() is model.text_features()
    objective = model.objective(draw_pixels(), torch.tensor([0, 1, 2, 0, 1]))
    objective.backward(list(model.parameters()))
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_all_tokens_start_at_random(backbone):
    model = Vpt(backbone, NAMES, TEMPLATES, VptDesign(context=50), seed=1)
    assert [key for key in model.state_dict()] == ["image.0", "image.1"]
    for tokens in model.parameters():
        assert tokens.shape == (50, backbone.image.width)
        assert tokens.std().item() == pytest.approx(0.02, rel=0.1)


def test_other_classes_take_the_same_tokens(backbone):
    model, pixels = Vpt(backbone, NAMES, TEMPLATES, VptDesign(), seed=1), draw_pixels()
    close(model.for_classes(["red"])(pixels), model(pixels)[:, [2]])


def test_the_authors_settings():
    run = preset(VptRun, "paper", "digits")
    assert (run.train.epochs, run.train.batch_size, run.train.lr) == (5, 4, 2.5e-3)
    assert (run.design.context, run.design.depth) == (8, None)
