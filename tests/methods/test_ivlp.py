from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from dpl import Backbone, load_backbone
from dpl.classifier import ZeroShot
from dpl.config import preset
from dpl.methods.ivlp import Ivlp, IvlpConfig, IvlpRun
from dpl.utils.errors import DplError

from .plain import close, draw_pixels, ids, image_features, text_features

NAMES, TEMPLATES = ["dark_blue", "green", "red"], ["one {} photo.", "a {}."]


@pytest.fixture(scope="module")
def backbone(checkpoint: Path) -> Backbone:
    return load_backbone(str(checkpoint))


def ivlp(backbone: Backbone, image: int, text: int, depth: int | None = None, std: float = 0.5, names: list[str] = NAMES) -> Ivlp:
    return Ivlp(backbone, names, TEMPLATES, IvlpConfig(image, text, depth, std), seed=1)


@pytest.mark.parametrize("image, text, depth", [(2, 2, None), (3, 4, 1), (1, 6, 2)])
def test_logits_and_gradients_are_those_of_the_plain_model_with_the_tokens_exchanged(backbone, image, text, depth):
    model, pixels, labels = ivlp(backbone, image, text, depth), draw_pixels(), torch.tensor([0, 1, 2, 0, 1])
    words = ["a photo of a"] if text <= 4 else ["a"] * text  # in front of the name; six tokens stand for no words
    rows = [ids(backbone, *words, f"{'' if text > 4 else ' '}{name}.") for name in ("dark blue", "green", "red")]
    texts = text_features(backbone, rows, model.text[0], list(model.text)[1:])
    images = image_features(backbone, pixels, model.image[0], list(model.image)[1:])
    expected = backbone.clip.logit_scale.exp() * images @ texts.T
    objective = model.objective(pixels, labels)
    objective.backward(list(model.parameters()))
    close(objective.logits, expected)
    close(model(pixels), expected)
    gradients = torch.autograd.grad(F.cross_entropy(expected, labels), list(model.parameters()))
    assert len(gradients) == 2 * (depth or 2)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert parameter.grad is not None
        close(parameter.grad, gradient)


def test_few_text_tokens_start_at_words_and_all_others_at_random(backbone):
    table = backbone.clip.text_model.embeddings.token_embedding.weight
    phrase = ids(backbone, "a photo of a")[1:-1]
    for context in (1, len(phrase)):
        assert torch.equal(ivlp(backbone, 2, context).text[0], table[phrase[:context]])
    model = ivlp(backbone, 20, len(phrase) + 20, std=0.02)
    for tokens in (*model.text, *model.image):
        assert tokens.std().item() == pytest.approx(0.02, rel=0.15)
    assert len({round(tokens.sum().item(), 6) for tokens in model.parameters()}) == 4  # each drawn for itself


def test_the_seed_decides_where_it_starts(backbone):
    design = IvlpConfig()
    one, again, other = (Ivlp(backbone, NAMES, TEMPLATES, design, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert [key for key in one if torch.equal(one[key], other[key])] == ["text.0"]  # the words


@pytest.mark.parametrize(
    "depth, image, text", [(1, (3, 0), (2, 0)), (2, (3, 3), (2, 2)), (None, (3, 3), (2, 2)), (9, (3, 3), (2, 2))]
)
def test_the_layout_has_the_tokens_of_the_first_layers_as_many_as_there_are(backbone, depth, image, text):
    model = ivlp(backbone, 3, 2, depth)
    assert (model.layout.image, model.layout.text) == (image, text)
    assert model.design.depth == depth


def test_a_branch_without_tokens_is_the_frozen_models(backbone):
    frozen, pixels = ZeroShot(backbone, NAMES, TEMPLATES[:1]), draw_pixels()
    image_only, text_only = ivlp(backbone, 2, 0), ivlp(backbone, 0, 2)
    assert torch.equal(image_only.text_features(), frozen.text_features())
    assert torch.equal(text_only.image_features(pixels), frozen.image_features(pixels))
    assert text_only.image_encoder is backbone and image_only.image_encoder is image_only
    assert image_only.layout.text == text_only.layout.image == (0, 0)


def test_other_classes_take_the_same_tokens(backbone):
    model, pixels = ivlp(backbone, 2, 2), draw_pixels()
    assert not model.class_specific
    close(model.for_classes(["red", "green"])(pixels), model(pixels)[:, [2, 1]])


def test_underscores_in_names_are_spaces(backbone):
    names = [name.replace("_", " ") for name in NAMES]
    assert torch.equal(ivlp(backbone, 0, 2).text_features(), ivlp(backbone, 0, 2, names=names).text_features())


def test_a_context_that_is_too_long_is_refused(backbone):
    with pytest.raises(DplError, match=r"a text has \d+ tokens with its context, .* reads 40; use a shorter context"):
        ivlp(backbone, 2, 37)


def test_both_presets_have_two_and_two_tokens_in_all_layers():
    default, paper = (preset(IvlpRun, name, "digits") for name in ("default", "paper"))
    assert default.design == paper.design == IvlpConfig(2, 2, None, 0.02)
    assert (paper.train.epochs, paper.train.batch_size, paper.train.lr) == (5, 4, 3.5e-3)
    assert replace(default.train, epochs=5) != paper.train
