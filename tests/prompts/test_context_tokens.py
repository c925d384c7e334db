"""Prompts that are tokens of the input, against Hugging Face's own model with its tokens exchanged by hooks, text by text."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import CLIPModel

from dpl import Backbone, load_backbone
from dpl.prompts.context_tokens import ContextText, ContextTexts, image_features
from dpl.prompts.inject import attach
from dpl.prompts.modules import FixedPrompts
from dpl.utils.errors import DplError
from tests.bare import bare_backbone

from .compare import gradients, largest_difference

EXACT = 1e-10
SOS, EOS, LAYERS = 38, 39, 4
names = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=3), min_size=1, max_size=5)  # few ids: some open alike
places = st.sampled_from(["end", "middle", "front"])


@pytest.fixture(scope="module")
def backbone(make_clip: Callable[..., CLIPModel]) -> Backbone:
    return bare_backbone(make_clip(layers=(LAYERS, LAYERS)))


def draw(seed: int, *shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]


@contextmanager
def exchanged(model: Any, first: Any, embed: Callable[[Tensor], Tensor], places: slice, deep: Sequence[Tensor]) -> Iterator[None]:
    """Inside, the output of the module `first` goes through `embed`, and `deep` replaces the tokens at `places` before layers."""

    def replace(rows: Tensor) -> Callable[..., tuple]:
        def hook(_module: Any, inputs: tuple) -> tuple:
            hidden = inputs[0].clone()
            hidden[:, places] = rows
            return (hidden, *inputs[1:])

        return hook

    with ExitStack() as stack:
        stack.callback(first.register_forward_hook(lambda _module, _inputs, output: embed(output)).remove)
        for layer, rows in zip(model.encoder.layers[1:], deep, strict=False):
            stack.callback(layer.register_forward_pre_hook(replace(rows)).remove)
        yield


def their_text(backbone: Backbone, name: list[int], context: Tensor, deep: Sequence[Tensor], place: str) -> Tensor:
    """One text, padded; the order of CoOp is written out here."""
    clip: Any = backbone.clip
    half = {"end": len(context), "middle": len(context) // 2, "front": 0}[place]
    ids = [SOS, *[0] * half, *name, *[0] * (len(context) - half), 5, EOS, 0]
    places = [*range(1, 1 + half), *range(1 + half + len(name), 1 + len(name) + len(context))]

    def put(embeds: Tensor) -> Tensor:
        embeds = embeds.clone()
        embeds[0, places] = context
        return embeds

    with exchanged(clip.text_model, clip.text_model.embeddings.token_embedding, put, slice(1, 1 + len(context)), deep):
        return clip.get_text_features(input_ids=torch.tensor([ids])).pooler_output[0]


def our_texts(backbone: Backbone, names: list[list[int]], context: int, place: Any, specific: bool = False) -> ContextTexts:
    texts = [ContextText.around([SOS, *name, 5, EOS], context, len(name), place) for name in names]
    return ContextTexts(backbone, texts, specific)


@given(names, st.integers(0, 4), places, st.sampled_from(["shared", "classes", "images"]), st.integers(0, 10**6))
def test_texts_and_gradients_are_those_of_the_plain_model_with_the_tokens_exchanged(backbone, names, length, place, kind, seed):
    shape = {"shared": (), "classes": (len(names),), "images": (2,)}[kind]
    (context,) = draw(seed, (*shape, length, backbone.text.width))
    ours = our_texts(backbone, names, length, place, kind == "classes").features(context)

    def row(number: int, own: Tensor) -> Tensor:
        return their_text(backbone, names[number], own[number] if kind == "classes" else own, (), place)

    if kind == "images":
        theirs = torch.stack([torch.stack([row(index, own) for index in range(len(names))]) for own in context])
    else:
        theirs = torch.stack([row(index, context) for index in range(len(names))])
    assert largest_difference([ours], [theirs]) < EXACT
    if length:
        assert largest_difference(gradients([ours], [context]), gradients([theirs], [context])) < EXACT


@given(names, st.integers(0, 3), st.integers(0, LAYERS - 1), st.booleans(), st.integers(0, 10**6))
def test_deep_context_replaces_that_of_the_layers_before_in_texts(backbone, names, length, layers, batch, seed):
    width = backbone.text.width
    context, *deep = draw(seed, ((2, length, width) if batch else (length, width)), *[(length, width)] * layers)
    ours = our_texts(backbone, names, length, "end").features(context, deep)
    theirs = torch.stack(
        [
            torch.stack([their_text(backbone, name, own, deep, "end") for name in names])
            for own in (context if batch else context[None])
        ]
    )
    theirs = theirs if batch else theirs[0]
    assert largest_difference([ours], [theirs]) < EXACT
    if length:
        assert largest_difference(gradients([ours], [context, *deep]), gradients([theirs], [context, *deep])) < EXACT


@given(st.integers(1, 3), st.integers(0, 3), st.integers(0, LAYERS - 1), st.booleans(), st.integers(0, 10**6))
def test_images_and_gradients_are_those_of_the_plain_model_with_the_tokens_exchanged(
    backbone, draw_pixels, images, length, layers, batch, seed
):
    clip, width, pixels = backbone.clip, backbone.image.width, draw_pixels(images, seed)
    context, *deep = draw(seed, ((images, length, width) if batch else (length, width)), *[(length, width)] * layers)
    ours = image_features(backbone, pixels, context, deep)

    def append(embeds: Tensor) -> Tensor:
        return torch.cat([embeds, context.expand(images, -1, -1)], dim=1)

    with exchanged(clip.vision_model, clip.vision_model.embeddings, append, slice(5, None), deep):
        theirs = clip.get_image_features(pixel_values=pixels).pooler_output
    assert largest_difference([ours], [theirs]) < EXACT
    if length:
        assert largest_difference(gradients([ours], [context, *deep]), gradients([theirs], [context, *deep])) < EXACT


def test_without_context_both_branches_are_the_plain_model(backbone, draw_pixels):
    clip: Any = backbone.clip
    texts = ContextTexts(backbone, [ContextText.around(row, 0) for row in ([SOS, 4, EOS], [SOS, EOS], [SOS, 4, 7, 8, EOS])])
    ours = texts.features(torch.empty(0, backbone.text.width))
    ids = torch.tensor([[SOS, 4, EOS, 0, 0], [SOS, EOS, 0, 0, 0], [SOS, 4, 7, 8, EOS]])
    assert largest_difference([ours], [clip.get_text_features(input_ids=ids).pooler_output]) < EXACT
    image = image_features(backbone, draw_pixels(3), torch.empty(0, backbone.image.width))
    assert largest_difference([image], [clip.get_image_features(pixel_values=draw_pixels(3)).pooler_output]) < EXACT


@pytest.mark.parametrize(
    "length, name, place, order",
    [
        (3, 2, "end", [SOS, ~0, ~1, ~2, 7, 8, 5, EOS]),
        (3, 2, "middle", [SOS, ~0, 7, 8, ~1, ~2, 5, EOS]),
        (3, 2, "front", [SOS, 7, 8, ~0, ~1, ~2, 5, EOS]),
        (2, 0, "end", [SOS, ~0, ~1, 7, 8, 5, EOS]),
        (0, 2, "middle", [SOS, 7, 8, 5, EOS]),
    ],
)
def test_the_places_of_the_context(length, name, place, order):
    assert ContextText.around([SOS, 7, 8, 5, EOS], length, name, place).order() == order


def test_no_token_is_computed_that_nobody_reads(backbone, draw_pixels):
    counts: list[tuple[int, ...]] = []
    hooks = [
        layer.block.mlp.register_forward_hook(lambda _module, inputs, _output: counts.append(inputs[0].shape[:2]))
        for branch in (backbone.image, backbone.text)
        for layer in branch.layers
    ]
    text, image = backbone.text.width, backbone.image.width
    context, own, pixels = torch.zeros(2, text).double(), torch.zeros(3, 2, text).double(), draw_pixels(6)
    try:
        for specific, place, values, tokens in (
            (False, "end", context, (1, 3 + (1 + 3 + 2) + 2 * 3)),  # SOS and context once
            (False, "middle", context, (1, 2 + (1 + 3 + 2) + 4 * 3 - 3)),  # SOS and half of the context once
            (True, "end", own, (1, 1 + (1 + 3 + 2) + 4 * 3)),  # SOS once
            (False, "end", own, (3, 3 + (1 + 3 + 2) + 2 * 3)),  # a row for each of three images
        ):
            counts.clear()
            our_texts(backbone, [[1], [2, 2, 2], [3, 3]], 2, place, specific).features(values)
            assert counts == [tokens] * (LAYERS - 1) + [(tokens[0], 3)], (specific, place)
        prompt = torch.zeros(2, image).double()
        for deep, expected in ((0, [7, 7, 7, 1]), (1, [5, 7, 7, 1]), (2, [5, 5, 7, 1]), (3, [5, 5, 5, 1])):
            counts.clear()
            image_features(backbone, pixels, prompt, [prompt] * deep)
            assert counts == [(6, tokens) for tokens in expected]
    finally:
        for hook in hooks:
            hook.remove()


def test_what_does_not_fit_is_refused(backbone, draw_pixels):
    width = backbone.text.width
    context = torch.zeros(2, width).double()
    texts, own = (our_texts(backbone, [[1], [2]], 2, "end", specific) for specific in (False, True))
    with pytest.raises(DplError, match="a text has 13 tokens with its context, bare reads 12"):
        our_texts(backbone, [[1], [2]], 9, "end")
    with pytest.raises(DplError, match="different numbers of context tokens"):
        ContextTexts(backbone, [ContextText.around([SOS, EOS], 1), ContextText.around([SOS, EOS], 2)])
    with pytest.raises(DplError, match=r"a context of shape \(3, 24\): the texts have places for \(2,\)"):
        texts.features(torch.zeros(3, width).double())
    with pytest.raises(DplError, match=r"a context of shape \(2, 24\): the texts have places for \(2, 2\)"):
        own.features(context)
    with pytest.raises(DplError, match="context for layers 0 to 4: the text branch has 4 layers"):
        texts.features(context, [context] * 4)
    with pytest.raises(DplError, match="context for layers 0 to 4: the image branch has 4 layers"):
        image_features(backbone, draw_pixels(1), torch.zeros(2, backbone.image.width), [torch.zeros(2, 32)] * 4)


def test_prompts_attached_to_the_backbone_do_not_count(backbone, draw_pixels):
    texts, words = our_texts(backbone, [[1], [2, 3]], 2, "end"), draw(0, (2, backbone.text.width))[0]
    pixels, image = draw_pixels(2), draw(1, (2, backbone.image.width))[0]
    alone = [texts.features(words), image_features(backbone, pixels, image)]
    with ExitStack() as stack:
        for branch in (backbone.image, backbone.text):
            stack.callback(attach(branch, FixedPrompts([1] * LAYERS, branch.width).double()).detach)
        both = [texts.features(words), image_features(backbone, pixels, image)]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(both, alone, strict=True))


def test_the_layers_compute_in_the_backbones_precision(checkpoint: Path):
    results = []
    for precision in ("fp32", "bf16"):
        backbone = load_backbone(str(checkpoint), "cpu", precision)
        rows = backbone.tokenize(["a cat", "a blue photo"])
        texts = ContextTexts(backbone, [ContextText.around(row, 2) for row in rows])
        leaves = [x.float().detach().requires_grad_() for x in draw(0, *[(2, backbone.text.width)] * 2, *[(2, 32)] * 2)]
        pixels = draw(1, (3, 3, 16, 16))[0].float().detach()
        outputs = [texts.features(leaves[0], leaves[1:2]), image_features(backbone, pixels, leaves[2], leaves[3:])]
        results.append([*outputs, *gradients(outputs, leaves)])
    assert all(tensor.dtype == torch.float32 for tensor in results[1])
    for ours, exact in zip(results[1], results[0], strict=True):
        assert 0 < (ours - exact).norm() < 0.03 * exact.norm()
