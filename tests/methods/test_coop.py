from pathlib import Path

import pytest
import torch
from torch import Tensor

from dpl import Backbone, load_backbone
from dpl.config import preset
from dpl.methods.coop import CoOp, CoOpConfig, CoOpRun
from dpl.utils.errors import DplError

from .plain import close, draw_pixels, ids, image_features, text_features

NAMES, TEMPLATES, PHRASE = ["green", "dark_blue"], ["a photo of a {}."], "a photo of a"


@pytest.fixture(scope="module")
def backbone(checkpoint: Path) -> Backbone:
    return load_backbone(str(checkpoint))


def embeddings(backbone: Backbone, phrase: str) -> Tensor:
    return backbone.clip.text_model.embeddings.token_embedding.weight[ids(backbone, phrase)[1:-1]]


def coop(backbone: Backbone, seed: int = 0, names: list[str] = NAMES, **design) -> CoOp:
    return CoOp(backbone, names, TEMPLATES, CoOpConfig(**design), seed)


def test_the_context_starts_with_the_spread_that_is_asked_for(backbone):
    model = coop(backbone, context=30, class_specific=True, prompt_std=0.5)
    assert model.context.shape == (2, 30, backbone.text.width)
    assert model.context.std().item() == pytest.approx(0.5, rel=0.1)
    assert torch.equal(model.context, coop(backbone, context=30, class_specific=True, prompt_std=0.5).context)
    assert not torch.equal(model.context, coop(backbone, 1, context=30, class_specific=True, prompt_std=0.5).context)
    assert coop(backbone, context=3).context.shape == (3, backbone.text.width)
    assert coop(backbone, init=" ").context.shape == (16, backbone.text.width)


def test_the_context_starts_at_words(backbone):
    words = embeddings(backbone, PHRASE)
    assert torch.equal(coop(backbone, context=len(words), init=PHRASE).context, words)
    assert torch.equal(coop(backbone, init=PHRASE, class_specific=True).context, words.expand(2, -1, -1))


@pytest.mark.parametrize("class_specific", [False, True])
def test_logits_and_gradients_are_those_of_the_plain_model_with_the_context_put_in(backbone, class_specific):
    model, pixels = coop(backbone, context=3, class_specific=class_specific, prompt_std=0.5), draw_pixels()
    own = model.context.expand(2, -1, -1)
    rows = [ids(backbone, "a", "a", "a", f"{name}.") for name in ("green", "dark blue")]
    texts = torch.cat([text_features(backbone, [row], context) for row, context in zip(rows, own, strict=True)])
    theirs = backbone.clip.logit_scale.exp() * image_features(backbone, pixels) @ texts.T
    close(model(pixels), theirs)
    labels = torch.tensor([0, 1, 1, 0, 1])
    objective = model.objective(pixels, labels)
    objective.backward([model.context])
    (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(theirs, labels), model.context)
    assert model.context.grad is not None
    close(model.context.grad, gradient)


def test_underscores_in_names_are_spaces(backbone):
    assert torch.equal(coop(backbone).text_features(), coop(backbone, names=["green", "dark blue"]).text_features())


def test_the_layout_has_the_context_in_front_of_the_first_text_layer(backbone):
    assert coop(backbone, context=5).layout.text == (5, 0)
    assert coop(backbone, init=PHRASE).layout.text == (len(ids(backbone, PHRASE)) - 2, 0)
    assert coop(backbone, context=5, class_specific=True).layout == coop(backbone, context=5).layout
    assert coop(backbone).layout.image == (0, 0)


def test_other_classes_take_a_generic_context_and_no_specific_one(backbone):
    model = coop(backbone, 3, context=4)
    other = model.for_classes(["red"])
    assert torch.equal(other.state_dict()["context"], model.context) and other.class_names == ("red",)
    assert torch.equal(other.text_features(), coop(backbone, 3, ["red"], context=4).text_features())
    assert not model.class_specific
    with pytest.raises(DplError, match="its own 2 classes"):
        coop(backbone, class_specific=True).for_classes(["red"])


def test_a_context_that_is_too_long_is_refused(backbone):
    with pytest.raises(DplError, match=r"a text has \d+ tokens with its context, .* reads 40; use a shorter context"):
        coop(backbone, context=38)


def test_a_number_of_tokens_that_the_words_do_not_have_is_refused(backbone):
    with pytest.raises(DplError, match="--context 7: --init 'a photo of a' has 4 words; give only one of the two"):
        coop(backbone, context=7, init=PHRASE)


@pytest.mark.parametrize("shots, epochs", [(1, 50), (2, 100), (4, 100), (8, 200), (16, 200)])
def test_the_authors_train_longer_with_more_shots(shots, epochs):
    run = preset(CoOpRun, "paper", "digits", shots)
    assert run.design == CoOpConfig()
    assert (run.train.epochs, run.train.batch_size, run.train.lr) == (epochs, 32, 2e-3)
    assert preset(CoOpRun, "paper", "imagenet", shots).train.epochs == 50
