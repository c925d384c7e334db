from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import CLIPModel, PreTrainedTokenizerBase

from dpl import Backbone, load_backbone, load_run
from dpl.config import preset
from dpl.methods.maple import MaPLe, MaPLeConfig, MaPLeRun
from dpl.runs import save_run
from tests.bare import bare_backbone

from .plain import close, draw_pixels, ids, image_features, text_features

NAMES, TEMPLATES = ["dark_blue", "green", "red"], ["one {} photo.", "a {}."]
PARTS = [("text", ""), ("couplings", ".weight"), ("couplings", ".bias")]


@pytest.fixture(scope="module")
def backbone(checkpoint: Path) -> Backbone:
    return load_backbone(str(checkpoint))


def maple(backbone: Backbone, **design) -> MaPLe:
    return MaPLe(backbone, NAMES, TEMPLATES, MaPLeConfig(**design), seed=1)


@pytest.mark.parametrize("depth", [1, 9])
def test_images_have_linear_images_of_the_texts_tokens(backbone, depth):
    model, pixels, labels = maple(backbone, depth=depth, prompt_std=0.5), draw_pixels(), torch.tensor([0, 1, 2, 0, 1])
    maps = [(model.couplings[layer].weight, model.couplings[layer].bias) for layer in range(min(depth, 2))]
    own = [text @ weight.T + bias for text, (weight, bias) in zip(model.text, maps, strict=True)]
    rows = [ids(backbone, f"a photo of a {name}.") for name in ("dark blue", "green", "red")]
    texts = text_features(backbone, rows, model.text[0], list(model.text)[1:])
    images = image_features(backbone, pixels, own[0], own[1:])
    expected = backbone.clip.logit_scale.exp() * images @ texts.T
    objective = model.objective(pixels, labels)
    objective.backward(list(model.parameters()))
    close(objective.logits, expected)
    gradients = torch.autograd.grad(F.cross_entropy(expected, labels), list(model.parameters()))
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert parameter.grad is not None
        close(parameter.grad, gradient)


def test_deep_couplings_start_as_copies_of_one_and_the_first_has_its_own(make_clip):
    backbone = uneven(make_clip, (4, 3))
    before = torch.random.get_rng_state()
    model = maple(backbone)
    assert torch.equal(torch.random.get_rng_state(), before)
    values = model.state_dict()
    for part in ("weight", "bias"):
        first, second, third = (values[f"couplings.{layer}.{part}"] for layer in range(3))
        assert torch.equal(second, third) and second.data_ptr() != third.data_ptr()
        assert not torch.equal(first, second)
        assert 0.9 * 24**-0.5 < first.abs().max().item() <= 24**-0.5  # as PyTorch's Linear
    assert model.text[1].std().item() == pytest.approx(0.02, rel=0.4)


@pytest.mark.parametrize("layers, depth, expected", [((4, 3), 9, 3), ((2, 3), 9, 2), ((4, 3), None, 3), ((4, 3), 2, 2)])
def test_both_branches_have_tokens_in_as_many_layers(make_clip, layers, depth, expected):
    model = maple(uneven(make_clip, layers), depth=depth)
    assert model.layout.image == (2,) * expected + (0,) * (layers[0] - expected)
    assert model.layout.text == (2,) * expected + (0,) * (layers[1] - expected)
    assert model.design.depth == depth
    assert model(draw_pixels()).shape == (5, 3)


def test_the_file_holds_what_is_learned_and_nothing_else(backbone, tmp_path):
    model, pixels = maple(backbone), draw_pixels()
    save_run(tmp_path / "run", model)
    stored = load_file(tmp_path / "run" / "prompts.safetensors")
    assert set(stored) == {f"{part}.{layer}{end}" for layer in (0, 1) for part, end in PARTS}
    assert sum(tensor.numel() for tensor in stored.values()) == 2 * (2 * 24 + 24 * 32 + 32)
    assert torch.equal(load_run(tmp_path / "run")(pixels), model(pixels))


def test_other_classes_take_the_same_tokens(backbone):
    model, pixels = maple(backbone), draw_pixels()
    close(model.for_classes(["red", "green"])(pixels), model(pixels)[:, [2, 1]])


def test_the_authors_settings():
    run = preset(MaPLeRun, "paper", "digits")
    assert (run.train.epochs, run.train.batch_size, run.train.lr) == (5, 4, 3.5e-3)
    assert (run.design.context, run.design.depth) == (2, 9)


def uneven(make_clip: Callable[..., CLIPModel], layers: tuple[int, int]) -> Backbone:
    """A backbone with so many image and text layers, for which every text has the same words."""
    tokenizer = Mock(spec=PreTrainedTokenizerBase)
    tokenizer.side_effect = lambda texts, verbose: {"input_ids": [[38, 1, 2, 3, 1, 4, 39] for _ in texts]}
    return replace(bare_backbone(make_clip(dtype=torch.float32, layers=layers)), tokenizer=tokenizer)
