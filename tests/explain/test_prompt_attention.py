"""The share of attention that goes to prompts, against softmax attention written out over every sequence."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dpl import Backbone, PromptLayout, load_backbone
from dpl.explain.prompt_attention import IMAGES, TEXTS, Shares, prompt_attention
from dpl.methods import METHODS
from dpl.methods.clip_lora import ClipLora, ClipLoraConfig
from dpl.methods.coop import CoOp, CoOpConfig
from dpl.methods.dpl import Dpl, DplConfig
from dpl.methods.ivlp import Ivlp, IvlpConfig
from dpl.methods.method import Method
from dpl.methods.zero_shot import ZeroShotConfig, ZeroShotMethod
from dpl.prompts.attention_probe import AttentionRecord, listening

from . import eager

NAMES = ("cat", "dark blue", "a dark blue cat", "dog", "blue")
TEMPLATE = "a photo of a {}."
ROUNDED = 6e-5  # four decimals

lengths = st.integers(0, 4)
layouts = st.builds(PromptLayout, st.tuples(lengths, lengths), st.tuples(lengths, lengths))


@pytest.fixture(scope="module")
def backbone(checkpoint: Path) -> Backbone:
    """Float64, with weights so large that heads differ."""
    backbone = load_backbone(str(checkpoint), precision="fp32")
    torch.nn.Module.to(backbone.clip, torch.float64)
    for branch in (backbone.image, backbone.text):
        for layer in branch.layers:
            for projection in (layer.attention.q_proj, layer.attention.k_proj):
                projection.weight.data *= 2
    return backbone


def some_pixels(images: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (images, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def written_out(
    backbone: Backbone, pixels: Tensor, texts: Sequence[tuple[Sequence[int], Sequence[int]]], model: Method
) -> dict[str, Tensor]:
    """The shares of every branch; of dpl's prompts or, where `texts` (ids, places) have places, of context tokens."""
    attached, scale = isinstance(model, Dpl), getattr(model, "prompt_scale", 1.0)
    result = {}
    for branch in (backbone.image, backbone.text):
        rows, empty = model.contexts[branch.name], torch.zeros(0, branch.width)
        context, deep = (empty, []) if attached or not rows else (rows[0], rows[1:])
        if branch.name == "image":
            samples = [eager.image(backbone, own, context) for own in pixels]
        else:
            samples = [eager.text(backbone, ids, context, places if len(context) else []) for ids, places in texts]
        prompts = rows if attached else [empty] * branch.depth
        blocks = [layer.block for layer in branch.layers]
        result[branch.name] = torch.stack([eager.shares(blocks, sample, prompts, scale, deep) for sample in samples]).mean(dim=0)
    return result


def close(ours: Shares | None, theirs: dict[str, Tensor], tolerance: float = ROUNDED) -> bool:
    assert ours is not None
    return all(float((torch.tensor(ours[branch]).double() - theirs[branch]).abs().max()) < tolerance for branch in theirs)


@torch.no_grad()
@given(layouts.filter(lambda layout: layout.tokens > 0), st.sampled_from([1.0, 0.3, 0.0]), st.integers(1, 3), st.integers(0, 999))
def test_attached_prompts_take_the_share_that_eager_attention_gives_them(backbone, layout, scale, images, seed):
    model = Dpl(backbone, NAMES, [TEMPLATE], DplConfig(layout, prompt_std=1.0), seed)
    model.prompt_scale = scale
    pixels = some_pixels(images, seed)
    texts = [(row, ()) for row in backbone.tokenize([TEMPLATE.format(name) for name in NAMES])]
    ours = prompt_attention(model, pixels)
    assert close(ours, written_out(backbone, pixels, texts, model))
    if scale == 0:
        assert ours is not None and not any(map(any, ours["image"] + ours["text"]))


@torch.no_grad()
@given(st.integers(0, 3), st.integers(0, 3), st.sampled_from([1, None]), st.integers(1, 3), st.integers(0, 999))
def test_context_tokens_of_the_input_take_the_share_that_eager_attention_gives_them(backbone, image, text, depth, images, seed):
    model = Ivlp(backbone, NAMES, [TEMPLATE], IvlpConfig(image, text, depth, prompt_std=1.0), seed)
    pixels = some_pixels(images, seed)
    texts = [(row, range(1, 1 + text)) for row in backbone.tokenize([TEMPLATE.format(name) for name in NAMES])]
    ours = prompt_attention(model, pixels)
    assert (ours is None) == (image + text == 0)
    assert ours is None or close(ours, written_out(backbone, pixels, texts, model))


@torch.no_grad()
def test_a_context_behind_the_name_counts_at_its_places(backbone):
    model = CoOp(backbone, NAMES, [TEMPLATE], CoOpConfig(context=3, place="front", prompt_std=1.0))
    texts = []
    for name in NAMES:
        row, words = backbone.tokenize([f"{name}."])[0], len(backbone.tokenize([name])[0]) - 2
        texts.append(([*row[: 1 + words], 0, 0, 0, *row[1 + words :]], range(1 + words, 4 + words)))
    pixels = some_pixels(2)
    assert close(prompt_attention(model, pixels), written_out(backbone, pixels, texts, model))


@pytest.mark.parametrize(
    ("method", "design"),
    [
        (Dpl, DplConfig(PromptLayout.uniform(0, 2, 2))),
        (ZeroShotMethod, ZeroShotConfig()),
        (ClipLora, ClipLoraConfig()),
    ],
)
def test_a_method_without_prompts_has_none(backbone, method: Any, design: Any):
    assert prompt_attention(method(backbone, NAMES, [TEMPLATE], design), some_pixels(1)) is None


@pytest.mark.parametrize("name", [name for name in METHODS if name != "dpl"])
def test_every_method_has_shares_of_all_heads_or_none(backbone, name):
    method: Any = METHODS[name].load()
    model = method(backbone, NAMES, [TEMPLATE], method.Config()).double()
    shares = prompt_attention(model, some_pixels(2))
    assert (shares is None) == (model.layout.tokens == 0)
    for branch in (backbone.image, backbone.text):
        if shares is None:
            continue
        rows = torch.tensor(shares[branch.name])
        assert rows.shape == (branch.depth, branch.layers[0].attention.num_heads)
        assert bool(((rows >= 0) & (rows <= 1)).all())
        assert bool((rows > 0).any()) == any(getattr(model.layout, branch.name))


def test_nothing_stays_behind(backbone):
    model = Dpl(backbone, NAMES, [TEMPLATE], DplConfig(PromptLayout((2, 1), (0, 3)), prompt_std=1.0))
    pixels = some_pixels(2)
    before, held = model(pixels).detach(), {name: dict(module.__dict__) for name, module in backbone.clip.named_modules()}
    first = prompt_attention(model, pixels)
    assert prompt_attention(model, pixels) == first
    assert torch.equal(model(pixels), before) and model(pixels).requires_grad
    assert {name: dict(module.__dict__) for name, module in backbone.clip.named_modules()} == held


def test_a_listener_hears_only_inside_and_leaves_when_something_fails(backbone):
    model = Dpl(backbone, NAMES, [TEMPLATE], DplConfig(PromptLayout((2, 1), (0, 0))))
    heard: list[AttentionRecord] = []
    with pytest.raises(ValueError), listening(heard.append):
        model.image_features(some_pixels(2))
        raise ValueError
    assert [entry.attention for entry in heard] == [layer.attention for layer in backbone.image.layers]
    model.image_features(some_pixels(2))
    assert len(heard) == 2 and not any(entry.share.requires_grad for entry in heard)


@pytest.mark.parametrize("specific", [False, True])
def test_no_more_than_some_images_and_classes_are_looked_at(backbone, monkeypatch, specific):
    names = [f"{first} {second}" for first in "abcdefghijk" for second in "abcdefgh"] + ["a twin", "a twin"]
    model = CoOp(backbone, names, [TEMPLATE], CoOpConfig(context=2, class_specific=specific, prompt_std=1.0))
    pixels = some_pixels(IMAGES + 3)
    seen: list[tuple[str, int]] = []
    for kind, method in (("image", "image_features"), ("text", "text_features")):
        plain = getattr(CoOp, method)

        def counted(self: Any, *parts: Any, kind: str = kind, plain: Callable[..., Tensor] = plain) -> Tensor:
            features = plain(self, *parts)
            seen.append((kind, len(features)))
            return features

        monkeypatch.setattr(CoOp, method, counted)
    shares = prompt_attention(model, pixels)
    few = names[:88:2]  # every second of the names that one class has
    assert seen == [("image", IMAGES), ("text", len(few))] and TEXTS / 2 < len(few) <= TEXTS
    assert shares == prompt_attention(model.for_classes(few), pixels[:IMAGES])


def test_bfloat16_gives_nearly_the_same(checkpoint):
    design, pixels = DplConfig(PromptLayout((2, 3), (1, 2)), prompt_std=1.0), some_pixels(3)
    fp32, bf16 = (
        prompt_attention(Dpl(load_backbone(str(checkpoint), precision=precision), NAMES, [TEMPLATE], design), pixels)
        for precision in ("fp32", "bf16")
    )
    assert fp32 is not None and close(bf16, {branch: torch.tensor(rows).double() for branch, rows in fp32.items()}, 0.01)
