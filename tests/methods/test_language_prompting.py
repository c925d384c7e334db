from pathlib import Path

import pytest
import torch

from dpl import Backbone, load_backbone
from dpl.config import preset
from dpl.methods.coop import CoOp, CoOpConfig
from dpl.methods.language_prompting import LanguagePrompting, LanguagePromptingConfig, LanguagePromptingRun
from dpl.utils.errors import DplError

from .plain import close, draw_pixels, ids, image_features, text_features

NAMES, TEMPLATES = ["dark_blue", "green", "red"], ["one {} photo.", "a {}."]


@pytest.fixture(scope="module")
def backbone(checkpoint: Path) -> Backbone:
    return load_backbone(str(checkpoint))


@pytest.mark.parametrize("context, depth, layout", [(4, None, (4, 4)), (2, 1, (2, 0)), (3, 12, (3, 3))])
def test_texts_have_the_tokens_in_place_of_words(backbone, context, depth, layout):
    design = LanguagePromptingConfig(context=context, depth=depth, prompt_std=0.5)
    model, pixels = LanguagePrompting(backbone, NAMES, TEMPLATES, design, seed=1), draw_pixels()
    first, *deep = model.parameters()
    rows = [ids(backbone, f"a photo of a {name}.") for name in ("dark blue", "green", "red")]
    close(model.text_features(), text_features(backbone, rows, first, deep))
    close(model.image_features(pixels), image_features(backbone, pixels))
    assert model.layout.text == layout and model.layout.image == (0, 0)
    assert model.design is design


def test_it_starts_at_the_hand_written_text_where_only_the_first_layer_has_tokens(backbone):
    rows = [ids(backbone, f"a photo of a {name}.") for name in ("dark blue", "green", "red")]
    for context in (1, 2, 4):
        model = LanguagePrompting(backbone, NAMES, TEMPLATES, LanguagePromptingConfig(context, depth=1))
        close(model.text_features(), text_features(backbone, rows, torch.empty(0, 24)))


def test_a_context_that_is_too_long_is_refused(backbone):
    with pytest.raises(DplError, match="use a shorter context"):
        LanguagePrompting(backbone, NAMES, TEMPLATES, LanguagePromptingConfig(context=38))


def test_the_authors_settings():
    run = preset(LanguagePromptingRun, "paper", "digits")
    assert (run.train.epochs, run.train.batch_size, run.train.lr) == (5, 4, 2.5e-3)
    assert (run.design.context, run.design.depth) == (4, None)


def test_with_depth_one_it_is_coop_from_the_same_words():
    tiny, names = load_backbone("tiny"), ["green", "dark_blue"]
    language = LanguagePrompting(tiny, names, ["a {}."], LanguagePromptingConfig(depth=1))
    coop = CoOp(tiny, names, ["a {}."], CoOpConfig(init="a photo of a"))
    with torch.no_grad():
        for context in (language.text[0], coop.context):
            context.mul_(torch.linspace(-2, 3, context.numel()).view_as(context))
        close(language.text_features(), coop.text_features())
