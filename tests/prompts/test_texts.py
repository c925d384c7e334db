"""Packed sentences against the plain Hugging Face forward and the naive oracle, one sentence at a time."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dpl import Backbone, load_backbone
from dpl.prompts.modules import FixedPrompts, PromptMixture
from dpl.prompts.texts import Texts

from . import oracle
from .compare import gradients, largest_difference
from .test_inject import options_of

EXACT = 1e-10
words = st.text("abc ", min_size=1, max_size=12).map(str.strip).filter(bool)
openings = st.sampled_from(["", "a photo of a ", "it is ", "x"])


@pytest.fixture(scope="module")
def backbone(checkpoint: Path) -> Backbone:
    backbone = load_backbone(str(checkpoint))
    backbone.clip.double()
    return backbone


def plain_features(backbone: Backbone, sentence: str) -> torch.Tensor:
    clip: Any = backbone.clip
    return clip.get_text_features(input_ids=torch.tensor([backbone.tokenizer(sentence)["input_ids"]])).pooler_output


@given(openings, st.lists(words, min_size=1, max_size=6))
def test_without_prompts_every_sentence_has_the_plain_models_features(backbone: Backbone, opening: str, names: list[str]):
    texts, nothing = Texts(backbone, [opening + name for name in names]), FixedPrompts([0, 0], backbone.text.width)
    with texts.prompted(nothing):
        ours = texts.features(nothing)
    plain = torch.cat([plain_features(backbone, opening + name) for name in names])
    assert ours.shape == plain.shape
    assert largest_difference([ours], [plain]) < EXACT


@given(
    openings,
    st.lists(words, min_size=1, max_size=6),
    st.sampled_from([(0, 0), (2, 1), (0, 3), (3, 0), "mixture"]),
    st.integers(0, 10**6),
)
def test_with_prompts_states_and_gradients_are_those_of_each_sentence_alone(backbone, opening, names, layout, seed):
    generator = torch.Generator().manual_seed(seed)
    width, clip = backbone.text.width, backbone.clip
    mixed = layout == "mixture"
    prompts = PromptMixture(2, (0, 1, 3), width, 0.5, generator) if mixed else FixedPrompts(layout, width, 0.5, generator)
    prompts.double()
    texts = Texts(backbone, [opening + name for name in names])
    with texts.prompted(prompts):
        ours = texts.features(prompts)
    rows = [torch.tensor([row]) for row in backbone.tokenize([opening + name for name in names])]
    pooled = torch.cat([oracle.text_branch(clip, row, options_of(prompts)).pooled for row in rows])
    theirs = clip.text_projection(pooled)
    leaves = [leaf for leaf in prompts.parameters() if leaf.numel()]
    assert largest_difference([ours], [theirs]) < EXACT
    if leaves:
        assert largest_difference(gradients([ours], leaves), gradients([theirs], leaves)) < EXACT


def test_no_token_is_computed_twice_and_none_is_padding(backbone: Backbone):
    names = ["a red cat", "a red cat of a long name", "a red dog"]
    rows, texts = backbone.tokenize(names), Texts(backbone, names)
    opening = texts.tokens.opening
    assert opening > 1 and all(row[:opening] == rows[0][:opening] for row in rows)
    assert texts.ids.shape == texts.positions.shape == (1, opening + sum(len(row) - opening for row in rows))
    for row, end in zip(sorted(rows, key=len), texts.ends.tolist(), strict=True):
        own = len(row) - opening
        assert texts.ids[0, end - own + 1 : end + 1].tolist() == row[opening:]
        assert texts.positions[0, end - own + 1 : end + 1].tolist() == list(range(opening, len(row)))


def test_layers_in_front_of_the_first_prompt_run_once(backbone: Backbone):
    calls: list[int] = []
    blocks: Any = backbone.clip.text_model.encoder.layers
    hooks = [
        block.layer_norm2.register_forward_hook(lambda *_, index=index: calls.append(index)) for index, block in enumerate(blocks)
    ]
    try:
        for layout, expected in (((0, 2), [0, 1, 1]), ((0, 0), [0, 1]), ((1, 1), [0, 1, 0, 1])):
            texts, prompts = Texts(backbone, ["a cat", "a dog"]), FixedPrompts(layout, backbone.text.width).double()
            calls.clear()
            with texts.prompted(prompts):
                first, second = texts.features(prompts), texts.features(prompts)
            assert calls == expected
            assert torch.equal(first, second)
    finally:
        for hook in hooks:
            hook.remove()
