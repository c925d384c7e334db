"""`attach_prompts` on models of several families, against an attention that is written out."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    BertConfig,
    BertModel,
    Dinov2Config,
    Dinov2Model,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    SiglipConfig,
    SiglipModel,
    ViTConfig,
    ViTModel,
)
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from dpl.backbones.branch import find_branches
from dpl.prompts.attach import AttachedPrompts, attach_prompts
from dpl.prompts.layout import PromptLayout
from dpl.utils.errors import DplError

SIZES: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": 2}
WORDS: dict[str, Any] = {"vocab_size": 40, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "max_position_embeddings": 16}
VISION: dict[str, Any] = {"image_size": 16, "patch_size": 8}
SHARED: dict[str, Any] = {**SIZES, **WORDS, "num_key_value_heads": 2}  # two heads of queries share one of keys


def siglip() -> nn.Module:
    text = {**SIZES, **WORDS, "max_position_embeddings": 8, "projection_size": 32}
    return SiglipModel(SiglipConfig(text_config=text, vision_config={**SIZES, **VISION}))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "siglip": siglip,
    "vit": lambda: ViTModel(ViTConfig(**SIZES, **VISION)),
    "dinov2": lambda: Dinov2Model(Dinov2Config(hidden_size=32, num_attention_heads=4, num_hidden_layers=2, **VISION)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHARED)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHARED)),
}
REFUSED = {
    "bert": lambda: BertModel(BertConfig(**SIZES, vocab_size=40)),
    "gpt2": lambda: GPT2Model(GPT2Config(n_embd=32, n_layer=1, n_head=4, **WORDS)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHARED, head_dim=8)),
    "linear": lambda: nn.Linear(2, 2),
}


def build(make: Callable[[], nn.Module]) -> nn.Module:
    """A random model, float64, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().double().eval().requires_grad_(False)


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> nn.Module:
    return build(MODELS[request.param])


def run(model: nn.Module) -> Tensor:
    """Every output of a model on fixed inputs, in one row."""
    names = [branch.name for branch in find_branches(model)]
    generator = torch.Generator().manual_seed(0)
    inputs: dict[str, Tensor] = {}
    if "image" in names:
        inputs["pixel_values"] = torch.randn(2, 3, 16, 16, generator=generator, dtype=torch.float64)
    if "text" in names:
        inputs["input_ids"] = torch.randint(3, 40, (2, 6), generator=generator)
    output = model(**inputs)
    kinds = ("logits", "last_hidden_state", "image_embeds", "text_embeds")
    return torch.cat([output[kind].flatten() for kind in kinds if kind in output])


def reference(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    """Softmax attention over the tokens and the prompts of the module, written out."""
    layer, prompts = module.__dict__["_reference"]
    normed = layer.norm(prompts.double())
    own = [getattr(module, name)(normed).unflatten(-1, (key.shape[1], -1)).transpose(0, 1) for name in layer.projections]
    key, value = (torch.cat([old, new.expand(len(old), -1, -1, -1)], 2) for old, new in zip((key, value), own, strict=True))
    key, value = (heads.repeat_interleave(query.shape[1] // heads.shape[1], dim=1) for heads in (key, value))
    scores = query @ key.mT * scaling
    if attention_mask is not None:
        scores[..., : attention_mask.shape[-1]] += attention_mask
    return (scores.softmax(dim=-1) @ value).transpose(1, 2), None


AttentionInterface.register("reference", reference)
AttentionMaskInterface.register("reference", eager_mask)


def by_hand(model: nn.Module, prompts: AttachedPrompts) -> Tensor:
    """The outputs of a copy of a model without prompts, whose attention is `reference`."""
    twin: Any = copy.deepcopy(model)
    for branch in find_branches(twin):
        for layer, own in zip(branch.layers, getattr(prompts, branch.name).layers, strict=True):
            layer.attention.__dict__["_reference"] = layer, own.prompts
    twin.set_attn_implementation("reference")
    return run(twin)


def layout_of(model: nn.Module, lengths: tuple[int, ...] = (3, 1)) -> dict[str, tuple[int, ...]]:
    return {branch.name: lengths for branch in find_branches(model)}


def test_prompts_are_keys_and_values_of_every_layer(model):
    plain, names = run(model), list(model.state_dict())
    with attach_prompts(model, layout_of(model), std=1.0) as prompts:
        prompted = run(model)
        assert list(model.state_dict()) == names
    assert torch.equal(run(model), plain)
    assert torch.allclose(prompted, by_hand(model, prompts), rtol=0, atol=1e-12)
    assert not torch.allclose(prompted, plain, rtol=0, atol=1e-3)


def test_a_step_of_gradient_descent_changes_the_prompts_alone(model):
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    with attach_prompts(model, layout_of(model), std=1.0) as prompts:
        optimizer = torch.optim.SGD(prompts.parameters(), lr=0.01)
        before = run(model)[::3].mean()
        before.backward()
        assert all((parameter.grad != 0).any() for parameter in prompts.parameters())
        optimizer.step()
        assert run(model)[::3].mean() < before
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())


def test_another_attention_set_meanwhile_leaves_the_prompts_and_holds_after_them(model: Any):
    plain = run(model)
    with attach_prompts(model, layout_of(model), std=1.0) as prompts:
        prompted = run(model)
        model.set_attn_implementation("eager")
        assert torch.equal(run(model), prompted)
        assert torch.allclose(by_hand_of(model, prompts), prompted, rtol=0, atol=1e-12)
    assert {branch.config._attn_implementation for branch in find_branches(model)} == {"eager"}
    assert torch.allclose(run(model), plain, rtol=0, atol=1e-5)  # eager computes softmax in fp32


def test_a_model_is_saved_as_it_is_without_prompts(model: Any, tmp_path: Path):
    model.save_pretrained(tmp_path / "plain")
    with attach_prompts(model, layout_of(model)):
        model.save_pretrained(tmp_path / "prompted")
    for file in (tmp_path / "plain").iterdir():
        assert (tmp_path / "prompted" / file.name).read_bytes() == file.read_bytes()


def by_hand_of(model: nn.Module, prompts: AttachedPrompts) -> Tensor:
    """As `by_hand`, while the prompts are attached."""
    with prompts.disabled():
        return by_hand(model, prompts)


def test_two_models_and_nested_blocks_do_not_interfere():
    first, second = build(MODELS["vit"]), build(MODELS["vit"])
    plain = run(first)
    with attach_prompts(first, 2, std=1.0) as outer:
        prompted = run(first)
        with attach_prompts(second, 1, std=1.0, seed=2):
            assert torch.equal(run(first), prompted) and not torch.equal(run(second), prompted)
        assert torch.equal(run(second), plain) and torch.equal(run(first), prompted)
        with pytest.raises(DplError, match="has prompts already; detach them first"):
            attach_prompts(first, 1)
        with outer.disabled():
            assert torch.equal(run(first), plain)
        assert torch.equal(run(first), prompted)
    assert torch.equal(run(first), plain)


def test_an_error_in_a_block_detaches_the_prompts():
    model = build(MODELS["vit"])
    plain = run(model)
    with pytest.raises(ZeroDivisionError), attach_prompts(model, 2):
        _ = 1 / 0
    assert torch.equal(run(model), plain)


def test_if_one_branch_is_refused_the_other_is_left_alone():
    model = build(siglip)
    text = attach_prompts(model, {"text": (1, 1)})
    prompted = run(model)
    with pytest.raises(DplError, match="the text branch has prompts already"):
        attach_prompts(model, 1)
    assert torch.equal(run(model), prompted)
    text.detach()
    attach_prompts(model, 1).detach()


def test_a_language_model_generates_with_prompts_and_a_cache():
    model: Any = build(MODELS["llama"])
    ids = torch.tensor([[5, 9, 11]])
    with attach_prompts(model, 3, std=1.0):
        options = {"max_new_tokens": 5, "do_sample": False, "attention_mask": torch.ones_like(ids)}
        assert torch.equal(model.generate(ids, use_cache=True, **options), model.generate(ids, use_cache=False, **options))


def test_padding_of_a_batch_does_not_change_a_prompted_text():
    model: Any = build(MODELS["llama"])
    with attach_prompts(model, 2, std=1.0):
        alone = model(input_ids=torch.tensor([[5, 9, 11]])).logits
        mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
        padded = model(input_ids=torch.tensor([[5, 9, 11, 0], [7, 8, 9, 10]]), attention_mask=mask).logits
    assert torch.allclose(padded[:1, :3], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("layout", [2, (2, 2), [2, 2], {"image": [2, 2]}])
def test_a_layout_can_be_given_in_several_forms(layout):
    with attach_prompts(build(MODELS["vit"]), layout) as prompts:
        assert prompts.layout == {"image": (2, 2)} and sum(parameter.numel() for parameter in prompts.parameters()) == 4 * 32


def test_prompts_have_the_names_and_the_first_values_of_a_run(make_clip):
    layout = PromptLayout((2, 0, 1), (1, 2))
    with attach_prompts(make_clip(), layout, seed=3) as prompts, attach_prompts(make_clip(), layout, seed=3) as same:
        assert list(prompts.state_dict())[0] == "image.layers.0.prompts"
        assert all(torch.equal(a, b) for a, b in zip(prompts.parameters(), same.parameters(), strict=True))
        with pytest.raises(DplError, match="call the model that they are attached to"):
            prompts(1)


@pytest.mark.parametrize("kind", REFUSED)
def test_a_model_of_another_form_is_one_line(kind: str):
    with pytest.raises(DplError, match="prompts cannot be attached to it$") as raised:
        attach_prompts(build(REFUSED[kind]), 1)
    assert "\n" not in str(raised.value)


def test_an_attention_with_another_formula_is_refused_when_it_is_called():
    model = build(lambda: Gemma2ForCausalLM(Gemma2Config(**SHARED, head_dim=8)))
    with attach_prompts(model, 1), pytest.raises(DplError, match="Gemma2Attention: uses softcap, which attention with prompts"):
        run(model)


@pytest.mark.parametrize(
    "layout, line",
    [
        ((1, 1), r'the model has two branches; give \{"image": \[..\], "text": \[..\]\}'),
        ({"image": (1,)}, "image has 1 lengths for 2 layers; give one per layer"),
        ({"audio": (1, 1)}, "no branch 'audio', but text and image"),
        ({"image": (1, -1)}, "lengths are whole numbers from 0"),
        (-1, "lengths are whole numbers from 0"),
    ],
)
def test_a_layout_that_does_not_fit_is_one_line(layout, line):
    model = build(siglip)
    with pytest.raises(DplError, match=line):
        attach_prompts(model, layout)
    attach_prompts(model, 1).detach()
