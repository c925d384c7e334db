"""What attached prompts compute: the oracle's results and gradients, in every precision and under checkpointing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import CLIPModel, SiglipConfig, SiglipModel

from dpl.backbones.branch import Branch
from dpl.prompts.inject import Attachment, attach
from dpl.prompts.modules import FixedPrompts, PromptMixture
from dpl.utils.errors import DplError

from . import oracle
from .compare import gradients, largest_difference, pull

EXACT = 1e-10
Prompts = FixedPrompts | PromptMixture

lengths = st.integers(0, 5)
option_sets = st.sets(st.integers(1, 6), min_size=1, max_size=4).map(lambda chosen: (0, *sorted(chosen)))
seeds = st.integers(0, 10**6)


@contextmanager
def attached(branch: Branch, prompts: Prompts) -> Iterator[Attachment]:
    attachment = attach(branch, prompts)
    try:
        yield attachment
    finally:
        attachment.detach()


def layers(prompts: Prompts) -> list[Any]:
    return list(prompts.layers)


def fixed(layout: list[int], width: int, seed: int = 0) -> FixedPrompts:
    return FixedPrompts(layout, width, std=1.0, generator=torch.Generator().manual_seed(seed))


def mixture(depth: int, options: tuple[int, ...], width: int, seed: int = 0) -> PromptMixture:
    """Alphas of order 1: those of a search's end, not of its start."""
    prompts = PromptMixture(depth, options, width, std=1.0, generator=torch.Generator().manual_seed(seed))
    for layer in layers(prompts):
        layer.alphas.data *= 1000
    return prompts


def options_of(prompts: Prompts) -> list[oracle.Options]:
    """The same parameters as the oracle wants them."""
    if isinstance(prompts, FixedPrompts):
        return [[(1.0, layer.prompts)] for layer in layers(prompts)]
    return [oracle.mixture(layer.alphas, layer.prompts.split(layer.options[1:])) for layer in layers(prompts)]


def check_image(clip: CLIPModel, prompts: Prompts, pixels: Tensor) -> None:
    pixels = pixels.requires_grad_()
    leaves = [pixels, *clip.vision_model.parameters(), *prompts.parameters()]
    with attached(Branch("image", clip.vision_model), prompts):
        ours = clip.vision_model(pixel_values=pixels)
    theirs = oracle.image_branch(clip, pixels, options_of(prompts))
    compare([ours.last_hidden_state, ours.pooler_output], [theirs.hidden, theirs.pooled], leaves)


def check_text(clip: CLIPModel, prompts: Prompts, ids: Tensor, padding: Tensor | None) -> None:
    leaves = [*clip.text_model.parameters(), *prompts.parameters()]
    with attached(Branch("text", clip.text_model), prompts):
        ours = clip.text_model(input_ids=ids, attention_mask=padding)
    theirs = oracle.text_branch(clip, ids, options_of(prompts), padding)
    compare([ours.last_hidden_state, ours.pooler_output], [theirs.hidden, theirs.pooled], leaves)


def compare(ours: list[Tensor], theirs: list[Tensor], leaves: Sequence[Tensor]) -> None:
    assert largest_difference(ours, theirs) < EXACT
    assert largest_difference(gradients(ours, leaves), gradients(theirs, leaves)) < EXACT


@given(st.lists(lengths, min_size=3, max_size=3), st.integers(1, 3), seeds)
def test_image_branch_with_a_layout_equals_the_oracle(shared_clip, draw_pixels, layout, batch, seed):
    check_image(shared_clip, fixed(layout, 32, seed).double(), draw_pixels(batch, seed))


@given(option_sets, st.integers(1, 3), seeds)
def test_image_branch_with_a_mixture_equals_the_oracle(shared_clip, draw_pixels, options, batch, seed):
    check_image(shared_clip, mixture(3, options, 32, seed).double(), draw_pixels(batch, seed))


@given(st.data(), st.lists(lengths, min_size=2, max_size=2), st.integers(1, 3), st.integers(1, 12), seeds)
def test_text_branch_with_a_layout_equals_the_oracle(shared_clip, draw_ids, data, layout, batch, tokens, seed):
    ids = draw_ids(batch, tokens, seed)
    check_text(shared_clip, fixed(layout, 24, seed).double(), ids, data.draw(paddings(ids)))


@given(st.data(), option_sets, st.integers(1, 3), st.integers(1, 12), seeds)
def test_text_branch_with_a_mixture_equals_the_oracle(shared_clip, draw_ids, data, options, batch, tokens, seed):
    ids = draw_ids(batch, tokens, seed)
    check_text(shared_clip, mixture(2, options, 24, seed).double(), ids, data.draw(paddings(ids)))


def paddings(ids: Tensor) -> st.SearchStrategy[Tensor | None]:
    """No attention mask, one of all ones, the tokenizer's, or holes anywhere but at the first token."""
    holes = torch.rand(ids.shape, generator=torch.Generator().manual_seed(int(ids.sum()))) < 0.7
    holes[:, 0] = True
    return st.sampled_from([None, torch.ones_like(ids), (ids != 0).long(), holes.long()])


def test_a_prompt_in_a_causal_branch_reaches_the_first_token(shared_clip, draw_ids):
    ids, prompts = draw_ids(2), fixed([1, 0], 24).double()
    with attached(Branch("text", shared_clip.text_model), prompts):
        first = shared_clip.text_model(input_ids=ids).last_hidden_state[:, 0]
    (grad,) = gradients([first], [layers(prompts)[0].prompts])
    assert (grad != 0).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_layout_of_zeros_is_the_plain_model_to_the_bit(make_clip, draw_pixels, draw_ids, dtype):
    clip, pixels, ids = make_clip(dtype=dtype), draw_pixels(3).to(dtype), draw_ids(3)
    padding = (ids != 0).long()
    plain = clip(pixel_values=pixels, input_ids=ids, attention_mask=padding)
    image, text = Branch("image", clip.vision_model), Branch("text", clip.text_model)
    with attached(image, fixed([0, 0, 0], 32)), attached(text, fixed([0, 0], 24)):
        zeros = clip(pixel_values=pixels, input_ids=ids, attention_mask=padding)
    assert torch.equal(zeros.image_embeds, plain.image_embeds)
    assert torch.equal(zeros.text_embeds, plain.text_embeds)
    assert torch.equal(zeros.logits_per_image, plain.logits_per_image)


def test_only_prompts_and_alphas_get_gradients_of_a_frozen_backbone(clip, draw_pixels, draw_ids):
    clip.requires_grad_(False)
    image, text = mixture(3, (0, 2, 3), 32).double(), fixed([2, 1], 24).double()
    with attached(Branch("image", clip.vision_model), image), attached(Branch("text", clip.text_model), text):
        output = clip(pixel_values=draw_pixels(2), input_ids=draw_ids(3))
    output.logits_per_image.sum().backward()
    assert all(parameter.grad is None for parameter in clip.parameters())
    for parameter in (*image.parameters(), *text.parameters()):
        assert parameter.grad is not None and (parameter.grad != 0).any()


@pytest.mark.parametrize("kind", ["fixed", "mixture"])
def test_autocast_is_close_and_its_gradients_reach_fp32_prompts(make_clip, draw_pixels, draw_ids, kind):
    clip = make_clip(dtype=torch.float32).requires_grad_(False)
    check_half_precision(clip, draw_pixels(3).float(), draw_ids(3), kind, autocast=True)


@pytest.mark.parametrize("kind", ["fixed", "mixture"])
def test_a_bfloat16_model_is_close_and_its_gradients_reach_fp32_prompts(make_clip, draw_pixels, draw_ids, kind):
    clip = make_clip(dtype=torch.bfloat16).requires_grad_(False)
    check_half_precision(clip, draw_pixels(3).bfloat16(), draw_ids(3), kind, autocast=False)


def check_half_precision(clip: CLIPModel, pixels: Tensor, ids: Tensor, kind: str, autocast: bool) -> None:
    """Against the oracle in float64 with the same weights, within what bfloat16's 8 bits allow over three layers."""
    image = fixed([2, 0, 3], 32) if kind == "fixed" else mixture(3, (0, 1, 3), 32)
    text = fixed([1, 4], 24) if kind == "fixed" else mixture(2, (0, 2, 3), 24)
    leaves = [*image.parameters(), *text.parameters()]
    with attached(Branch("image", clip.vision_model), image), attached(Branch("text", clip.text_model), text):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            pixel_output, token_output = clip.vision_model(pixel_values=pixels), clip.text_model(input_ids=ids)
        ours = [pixel_output.last_hidden_state, pixel_output.pooler_output, token_output.pooler_output]
    grads = gradients(ours, leaves)
    assert all(grad.dtype == torch.float32 for grad in grads)
    assert all(tensor.isfinite().all() for tensor in (*ours, *grads))

    for module in (clip, image, text):
        module.double()
    exact_image = oracle.image_branch(clip, pixels.double(), options_of(image))
    exact_text = oracle.text_branch(clip, ids, options_of(text))
    exact = [exact_image.hidden, exact_image.pooled, exact_text.pooled]
    assert relative(ours, exact) < 0.03
    assert relative(grads, gradients(exact, [*image.parameters(), *text.parameters()])) < 0.1


def relative(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """Largest relative distance of two tensors, by their norms."""
    return max((torch.dist(a.double(), b) / b.norm()).item() for a, b in zip(ours, theirs, strict=True) if b.numel())


@pytest.mark.parametrize("settings", [None, {"use_reentrant": False}])
@pytest.mark.parametrize("kind", ["fixed", "mixture"])
def test_gradient_checkpointing_gives_the_same_gradients(clip, draw_pixels, draw_ids, kind, settings):
    clip.requires_grad_(False)
    image = fixed([2, 0, 3], 32).double() if kind == "fixed" else mixture(3, (0, 1, 3), 32).double()
    text = fixed([1, 4], 24).double() if kind == "fixed" else mixture(2, (0, 2, 3), 24).double()
    calls: list[int] = []
    clip.text_model.encoder.layers[1].layer_norm2.register_forward_hook(lambda *_: calls.append(1))

    def run() -> list[Tensor]:
        calls.clear()
        output = clip(pixel_values=draw_pixels(2), input_ids=draw_ids(3))
        return gradients([output.image_embeds, output.text_embeds], [*image.parameters(), *text.parameters()])

    with attached(Branch("image", clip.vision_model), image), attached(Branch("text", clip.text_model), text):
        expected = run()
        assert len(calls) == 1
        # transformers renamed it: the new name where there is one, as the old one warns there.
        checkpointing = "activation" if hasattr(clip, "activation_checkpointing_enable") else "gradient"
        getattr(clip, f"{checkpointing}_checkpointing_enable")(settings)
        clip.train()
        assert largest_difference(run(), expected) < 1e-14
        assert len(calls) == 2  # the layer was indeed run again in the backward pass
        getattr(clip, f"{checkpointing}_checkpointing_disable")()
        clip.eval()
        assert largest_difference(run(), expected) == 0


def test_train_and_eval_mode_give_the_same_without_dropout(clip, draw_ids):
    with attached(Branch("text", clip.text_model), mixture(2, (0, 1, 2), 24).double()):
        evaluated = clip.text_model(input_ids=draw_ids(3)).pooler_output
        trained = clip.train().text_model(input_ids=draw_ids(3)).pooler_output
    assert torch.equal(evaluated, trained)


def test_attention_dropout_is_refused_while_training(clip, draw_ids):
    clip.text_model.encoder.layers[0].self_attn.dropout = 0.1
    with attached(Branch("text", clip.text_model), fixed([1, 0], 24).double()):
        clip.text_model(input_ids=draw_ids(2))
        with pytest.raises(DplError, match="dropout"):
            clip.train().text_model(input_ids=draw_ids(2))


@pytest.mark.parametrize("kind", ["fixed", "mixture"])
def test_attention_weights_of_a_prompted_model_are_refused(clip, draw_pixels, kind):
    prompts = fixed([1, 0, 2], 32).double() if kind == "fixed" else mixture(3, (0, 1), 32).double()
    vision = clip.vision_model
    with attached(Branch("image", vision), prompts) as attachment:
        with pytest.raises(DplError, match="output_attentions: a model with prompts gives no attention weights"):
            vision(draw_pixels(2), output_attentions=True)
        with pytest.raises(DplError, match="output_attentions"):
            clip.get_image_features(draw_pixels(2), output_attentions=True)
        vision(draw_pixels(2), output_attentions=False)
        with attachment.disabled():  # as transformers has it: fused attention has no weights to give
            assert not vision(draw_pixels(2), output_attentions=True).attentions


def test_a_config_that_always_asks_for_attention_weights_is_refused_too(clip, draw_pixels):
    clip.set_attn_implementation("eager")
    clip.vision_model.config.output_attentions = True
    plain = clip.vision_model(draw_pixels(2)).attentions  # None in transformers 5.0
    with attached(Branch("image", clip.vision_model), fixed([1, 0, 2], 32).double()), pytest.raises(DplError, match="attentions"):
        clip.vision_model(draw_pixels(2))
    assert (clip.vision_model(draw_pixels(2)).attentions is None) == (plain is None)


@pytest.fixture(scope="module")
def siglip() -> SiglipModel:
    text = {"hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 3, "num_hidden_layers": 2}
    text |= {"vocab_size": 40, "max_position_embeddings": 8, "projection_size": 32}
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": 2}
    vision |= {"image_size": 16, "patch_size": 8}
    torch.manual_seed(0)
    return SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).double().eval().requires_grad_(False)


def test_siglip_with_all_weight_on_no_prompt_is_the_plain_model(siglip, draw_pixels, draw_ids):
    pixels, ids = draw_pixels(2), draw_ids(2)
    plain = siglip(pixel_values=pixels, input_ids=ids)
    image, text = mixture(2, (0, 1, 3), 32).double(), mixture(2, (0, 2), 24).double()
    for layer in (*layers(image), *layers(text)):
        layer.alphas.data = torch.eye(len(layer.options))[0].double() * 1e4
    with attached(Branch("image", siglip.vision_model), image), attached(Branch("text", siglip.text_model), text):
        ours = siglip(pixel_values=pixels, input_ids=ids)
    assert largest_difference([ours.image_embeds, ours.text_embeds], [plain.image_embeds, plain.text_embeds]) < EXACT


@pytest.mark.parametrize("kind", ["fixed", "mixture"])
def test_siglip_gradients_are_those_of_finite_differences(siglip, draw_pixels, draw_ids, kind):
    pixels, ids = draw_pixels(2), draw_ids(2)
    image = fixed([2, 1], 32).double() if kind == "fixed" else mixture(2, (0, 1, 3), 32).double()
    text = fixed([0, 2], 24).double() if kind == "fixed" else mixture(2, (0, 2), 24).double()
    leaves = [leaf for leaf in (*image.parameters(), *text.parameters()) if leaf.numel()]

    def outputs() -> list[Tensor]:
        output = siglip(pixel_values=pixels, input_ids=ids)
        return [output.image_embeds, output.text_embeds]

    with attached(Branch("image", siglip.vision_model), image), attached(Branch("text", siglip.text_model), text):
        grads = gradients(outputs(), leaves)
        generator = torch.Generator().manual_seed(0)
        for leaf, grad in zip(leaves, grads, strict=True):
            step = 1e-5 * torch.randn(leaf.shape, generator=generator, dtype=torch.float64)
            with torch.no_grad():
                ahead = pull((leaf.add_(step), outputs())[1])
                behind = pull((leaf.sub_(2 * step), outputs())[1])
                leaf.add_(step)
            assert (ahead - behind).item() == pytest.approx(2 * (grad * step).sum().item(), rel=1e-5, abs=1e-10)
