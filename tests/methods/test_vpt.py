from pathlib import Path
from typing import Any

import pytest
import torch

from dpl import Backbone, load_backbone
from dpl.classifier import ZeroShot
from dpl.config import preset
from dpl.methods.dpl import Dpl, DplConfig
from dpl.methods.vpt import Vpt, VptConfig, VptRun
from dpl.prompts.layout import PromptLayout

from .plain import close, draw_pixels, image_features

NAMES, TEMPLATES = ["dark_blue", "green", "red"], ["one {} photo.", "a {}."]


@pytest.fixture(scope="module")
def backbone(checkpoint: Path) -> Backbone:
    return load_backbone(str(checkpoint))


@pytest.mark.parametrize("depth, layout", [(1, (8, 0)), (2, (8, 8)), (None, (8, 8)), (12, (8, 8))])
def test_images_have_the_tokens_behind_their_patches(backbone, depth, layout):
    design, pixels = VptConfig(depth=depth, prompt_std=0.5), draw_pixels()
    model = Vpt(backbone, NAMES, TEMPLATES, design, seed=1)
    first, *deep = model.parameters()
    close(model.image_features(pixels), image_features(backbone, pixels, first, deep))
    assert model.layout.image == layout and model.layout.text == (0, 0)
    assert model.design is design


def test_texts_are_the_frozen_models_and_computed_once(backbone, monkeypatch):
    model = Vpt(backbone, NAMES, TEMPLATES, VptConfig())
    assert torch.equal(model.text_features(), ZeroShot(backbone, NAMES, TEMPLATES[:1]).text_features())
    monkeypatch.setattr("dpl.classifier.Texts", None)
    assert model.text_features() is model.text_features()
    objective = model.objective(draw_pixels(), torch.tensor([0, 1, 2, 0, 1]))
    objective.backward(list(model.parameters()))
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_all_tokens_start_at_random(backbone):
    model = Vpt(backbone, NAMES, TEMPLATES, VptConfig(context=50), seed=1)
    assert [key for key in model.state_dict()] == ["image.0", "image.1"]
    for tokens in model.parameters():
        assert tokens.shape == (50, backbone.image.width)
        assert tokens.std().item() == pytest.approx(0.02, rel=0.1)


def test_other_classes_take_the_same_tokens(backbone):
    model, pixels = Vpt(backbone, NAMES, TEMPLATES, VptConfig(), seed=1), draw_pixels()
    close(model.for_classes(["red"])(pixels), model(pixels)[:, [2]])


def test_the_authors_settings():
    run = preset(VptRun, "paper", "digits")
    assert (run.train.epochs, run.train.batch_size, run.train.lr) == (5, 4, 2.5e-3)
    assert (run.design.context, run.design.depth) == (8, None)


def test_in_all_layers_it_is_dpl_with_an_equal_layout_but_for_the_first_norm(backbone):
    vpt = Vpt(backbone, NAMES, TEMPLATES, VptConfig(context=3, prompt_std=1.0))
    dpl = Dpl(backbone, NAMES, TEMPLATES[:1], DplConfig(PromptLayout((3, 3), (0, 0))))
    with torch.no_grad():
        own: Any = backbone.clip.vision_model
        first, second = vpt.image_context
        for layer, prompts in zip(dpl.image.layers, (own.pre_layrnorm(first), second), strict=True):
            layer.prompts.copy_(prompts)
        close(dpl(draw_pixels()), vpt(draw_pixels()))
