"""The one-pass attentions against one naive softmax attention per option."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor

from dpl.prompts.attention import fixed_attention, mixture_attention
from dpl.prompts.visibility import MaskedTokens, pad_mask

from .compare import gradients, largest_difference

EXACT = 1e-10

option_sets = st.one_of(
    st.sampled_from([(0, 1), (0, 2, 4, 6), (0, 1, 2, 3, 4, 5, 6), (0, 5, 6, 16)]),
    st.sets(st.integers(1, 9), min_size=1, max_size=5).map(lambda lengths: (0, *sorted(lengths))),
)
masks = st.sampled_from(["none", "causal", "causal float", "padding", "causal padding"])
sizes = st.integers(1, 4)


Leaves = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


@dataclass
class Case:
    """Leaves of one attention: per-sample query, key, value; the prompts' keys and values; the options' weights."""

    query: Tensor
    key: Tensor
    value: Tensor
    prompt_key: Tensor
    prompt_value: Tensor
    weights: Tensor
    mask: Tensor | None

    def leaves(self, dtype: torch.dtype) -> Leaves:
        parts = (self.query, self.key, self.value, self.prompt_key, self.prompt_value, self.weights)
        return leaves(parts, dtype)


def leaves(parts: Sequence[Tensor], dtype: torch.dtype) -> Leaves:
    query, key, value, prompt_key, prompt_value, weights = (part.detach().to(dtype).requires_grad_() for part in parts)
    return query, key, value, prompt_key, prompt_value, weights


def make_mask(kind: str, batch: int, tokens: int, generator: torch.Generator) -> Tensor | None:
    """A mask as transformers would give it; the first token can always be seen, so no row is empty."""
    causal = torch.ones(tokens, tokens).tril().bool()[None, None]
    padding = torch.rand(batch, 1, 1, tokens, generator=generator) < 0.6
    padding[..., 0] = True
    every = {
        "none": None,
        "causal": causal,
        "causal float": torch.zeros(1, 1, tokens, tokens, dtype=torch.float64).masked_fill(~causal, -torch.inf),
        "padding": padding.expand(batch, 1, tokens, tokens),
        "causal padding": causal & padding,
    }
    return every[kind]


def make_case(
    prompts: int, options: int, batch: int, heads: int, tokens: int, head_dim: int, mask: str = "none", seed: int = 0
) -> Case:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    query, key, value = (draw(batch, heads, tokens, head_dim) for _ in range(3))
    prompt_key, prompt_value = (draw(heads, prompts, head_dim) for _ in range(2))
    weights = (2 * draw(options)).softmax(dim=-1)
    return Case(query, key, value, prompt_key, prompt_value, weights, make_mask(mask, batch, tokens, generator))


def naive(
    query: Tensor, key: Tensor, value: Tensor, prompt_key: Tensor, prompt_value: Tensor, mask: Tensor | None, scale: float
) -> Tensor:
    """softmax(q [k ; pk]^T) [v ; pv], every prompt visible."""
    scores = query @ key.transpose(-1, -2) * scale
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    probs = torch.cat([scores, query @ prompt_key.transpose(-1, -2) * scale], dim=-1).softmax(dim=-1)
    tokens = key.shape[-2]
    return probs[..., :tokens] @ value + probs[..., tokens:] @ prompt_value


def naive_mixture(
    leaves: Sequence[Tensor], options: Sequence[int], mask: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """One naive attention per option, each with its own rows of the prompts, summed by weight."""
    query, key, value, prompt_key, prompt_value, weights = leaves
    keys, values = (part.split(list(options), dim=1) for part in (prompt_key, prompt_value))
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    return sum(
        (w * naive(query, key, value, k, v, mask, factor) for w, k, v in zip(weights, keys, values, strict=True)),
        start=torch.zeros_like(query),
    )


@given(option_sets, sizes, sizes, st.integers(1, 7), sizes, masks, st.none() | st.floats(0.1, 2), st.integers(0, 10**6))
def test_mixture_and_its_gradients_equal_one_attention_per_option(options, batch, heads, tokens, head_dim, mask, scale, seed):
    case = make_case(sum(options), len(options), batch, heads, tokens, head_dim, mask, seed)
    ours, theirs = case.leaves(torch.float64), case.leaves(torch.float64)
    output, expected = (
        mixture_attention(*ours, options, MaskedTokens(case.mask), scale),
        naive_mixture(theirs, options, case.mask, scale),
    )
    assert output.shape == case.query.shape and output.dtype == torch.float64
    assert largest_difference([output], [expected]) < EXACT
    assert largest_difference(gradients([output], ours), gradients([expected], theirs)) < EXACT


@given(st.integers(0, 9), sizes, sizes, st.integers(1, 7), sizes, masks, st.none() | st.floats(0.1, 2), st.integers(0, 10**6))
def test_fixed_attention_and_its_gradients_equal_the_naive_attention(length, batch, heads, tokens, head_dim, mask, scale, seed):
    case = make_case(length, 1, batch, heads, tokens, head_dim, mask, seed)
    ours, theirs = case.leaves(torch.float64)[:5], case.leaves(torch.float64)[:5]
    output = fixed_attention(*ours, MaskedTokens(case.mask), scale)
    expected = naive(*theirs, case.mask, head_dim**-0.5 if scale is None else scale)
    assert output.shape == case.query.shape
    assert largest_difference([output], [expected]) < EXACT
    assert largest_difference(gradients([output], ours), gradients([expected], theirs)) < EXACT


@given(option_sets, st.data(), masks, st.integers(0, 10**6))
def test_a_one_hot_mixture_is_the_fixed_attention_of_that_option(options, data, mask, seed):
    chosen = data.draw(st.integers(0, len(options) - 1))
    case = make_case(sum(options), len(options), 2, 2, 5, 3, mask, seed)
    query, key, value, prompt_key, prompt_value, _ = case.leaves(torch.float64)
    weights = torch.nn.functional.one_hot(torch.tensor(chosen), len(options)).double()
    mixed = mixture_attention(query, key, value, prompt_key, prompt_value, weights, options, MaskedTokens(case.mask))
    own_key, own_value = (part.split(list(options), dim=1)[chosen] for part in (prompt_key, prompt_value))
    fixed = fixed_attention(query, key, value, own_key, own_value, MaskedTokens(case.mask))
    ours = gradients([mixed], (query, key, value, prompt_key, prompt_value))
    theirs = gradients([fixed], (query, key, value, own_key, own_value))
    assert largest_difference(ours[:3], theirs[:3]) < EXACT
    for mine, own in zip(ours[3:], theirs[3:], strict=True):  # the other options get exactly nothing
        parts = list(mine.split(list(options), dim=1))
        assert largest_difference([parts.pop(chosen)], [own]) < EXACT
        assert all((part == 0).all() for part in parts)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shift", [-2000.0, -200.0, 200.0, 2000.0])
@pytest.mark.parametrize("part", ["tokens", 1, 2, 3])
@pytest.mark.parametrize("mask", ["none", "causal"])
def test_scores_far_apart_stay_finite_and_right(part, shift, mask, dtype):
    """Scores of the tokens, or of one option, far larger or smaller than all others; the reference is fp64 of equal inputs.

    A score of size s is known to eps s only, and with it every probability; the query's gradient multiplies that error by
    keys of size s.
    """
    options = (0, 1, 3, 4)
    case = make_case(sum(options), len(options), 2, 2, 5, 4, mask)
    case.query[..., 0] = 1  # so that the first entry of a key is added to its scores
    if part == "tokens":
        case.key[..., 0] += shift
    else:
        case.prompt_key.split(list(options), dim=1)[part][..., 0] += shift

    ours = case.leaves(dtype)
    theirs = leaves(ours, torch.float64)
    output, expected = (
        mixture_attention(*ours, options, MaskedTokens(case.mask), 1.0),
        naive_mixture(theirs, options, case.mask, 1.0),
    )
    query, *others = gradients([output], ours)
    right_query, *right = gradients([expected], theirs)
    found = (output, query, *others)
    assert all(tensor.isfinite().all() and tensor.dtype == dtype for tensor in found)
    eps = torch.finfo(dtype).eps
    assert largest_difference([output, *others], [expected, *right]) < 4 * eps * abs(shift)
    assert largest_difference([query], [right_query]) < eps * shift**2


@pytest.mark.parametrize("mask", ["none", "causal", "causal float", "padding"])
def test_bfloat16_comes_back_as_bfloat16_and_close(mask):
    options = (0, 1, 2, 4)
    case = make_case(sum(options), len(options), 2, 3, 6, 8, mask)
    ours = case.leaves(torch.bfloat16)[:5]
    weights = case.weights.float().requires_grad_()
    theirs = leaves((*ours, weights), torch.float64)
    used = case.mask.bfloat16() if mask == "causal float" and case.mask is not None else case.mask
    output = mixture_attention(*ours, weights, options, MaskedTokens(used))
    assert output.dtype == torch.bfloat16
    assert largest_difference([output], [naive_mixture(theirs, options, case.mask)]) < 0.02
    grads = gradients([output], [*ours, weights])
    assert [grad.dtype for grad in grads] == [torch.bfloat16] * 5 + [torch.float32]
    assert all(grad.isfinite().all() for grad in grads)
    fixed = fixed_attention(*ours, MaskedTokens(used))
    assert fixed.dtype == torch.bfloat16
    assert largest_difference([fixed], [naive(*theirs[:5], case.mask, 8**-0.5)]) < 0.02


def test_fixed_attention_without_prompts_is_plain_attention():
    case = make_case(0, 1, 2, 2, 5, 4, "causal padding")
    plain = torch.nn.functional.scaled_dot_product_attention(case.query, case.key, case.value, case.mask)
    output = fixed_attention(case.query, case.key, case.value, case.prompt_key, case.prompt_value, MaskedTokens(case.mask))
    assert torch.equal(output, plain)


@pytest.mark.parametrize("dtype, seen", [(torch.bool, True), (torch.float32, 0.0), (torch.float64, 0.0)])
def test_pad_mask_lets_every_query_see_the_prompts(dtype, seen):
    mask = torch.zeros(2, 1, 3, 4, dtype=dtype)
    if dtype != torch.bool:
        mask = mask - torch.inf
    padded = pad_mask(mask, 5)
    assert padded is not None and padded.shape == (2, 1, 3, 9) and padded.dtype == dtype
    assert torch.equal(padded[..., :4], mask)
    assert (padded[..., 4:] == seen).all()


def test_pad_mask_of_nothing_is_nothing():
    assert pad_mask(None, 3) is None


def test_shapes_that_do_not_fit_are_refused():
    case = make_case(3, 3, 2, 2, 5, 4)
    with pytest.raises(TypeCheckError):
        fixed_attention(case.query, case.key, case.value, case.prompt_key[..., :3], case.prompt_value)


def test_a_query_that_sees_no_token_gets_the_options_prompts_alone():
    """Padding on the left: option 0 gives such a query nothing, as SDPA does; no NaN, in no gradient either."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 2, 4, 8, generator=generator, dtype=torch.float64) for _ in range(3))
    prompt_key, prompt_value = (torch.randn(2, 3, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    leaves = [tensor.requires_grad_() for tensor in (query, key, value, prompt_key, prompt_value, weights)]
    seen = torch.ones(4, 4).tril().bool().repeat(2, 1, 1, 1)
    seen[0, :, :, :2] = False  # the first sample begins at its third token
    expected = weights[0] * torch.nn.functional.scaled_dot_product_attention(query, key, value, seen)
    for weight, own in zip(weights[1:], (slice(0, 1), slice(1, 3)), strict=True):
        parts = (prompt_key[:, own], prompt_value[:, own])
        expected = expected + weight * fixed_attention(query, key, value, *parts, tokens=MaskedTokens(seen))
    output = mixture_attention(query, key, value, prompt_key, prompt_value, weights, (0, 1, 2), MaskedTokens(seen))
    torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-10)
    ours = torch.autograd.grad(output.square().sum(), leaves)
    theirs = torch.autograd.grad(expected.square().sum(), leaves)
    for mine, naive in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, naive, rtol=1e-10, atol=1e-10)


def naive_gated(case: Case, gates: Tensor, scale: float) -> Tensor:
    """exp(scores), those of prompts times their gates, normalised."""
    scores = case.query @ case.key.transpose(-1, -2) * scale
    if case.mask is not None:
        scores = scores.masked_fill(~case.mask, -torch.inf) if case.mask.dtype == torch.bool else scores + case.mask
    tokens, prompts = scores.exp(), (case.query @ case.prompt_key.transpose(-1, -2) * scale).exp() * gates
    total = tokens.sum(dim=-1, keepdim=True) + prompts.sum(dim=-1, keepdim=True)
    return (tokens @ case.value + prompts @ case.prompt_value) / total


@given(sizes, sizes, sizes, st.integers(1, 7), st.sampled_from([1, 3, 8, 9]), masks, st.integers(0, 10**6))
def test_gated_prompts_and_the_gates_gradients_equal_the_sum_written_out(prompts, batch, heads, tokens, head_dim, mask, seed):
    case = make_case(prompts, 2, batch, heads, tokens, head_dim, mask, seed)
    log_gates = torch.randn(prompts, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    parts = case.leaves(torch.float64)[:5]
    ours = fixed_attention(*parts, MaskedTokens(case.mask), 0.7, log_gates)
    theirs = naive_gated(Case(*parts, case.weights, case.mask), log_gates.exp(), 0.7)
    assert largest_difference([ours], [theirs]) < EXACT
    without = fixed_attention(*parts, MaskedTokens(case.mask), 0.7, log_gates.detach())
    assert largest_difference([without], [theirs]) < EXACT
    ours, theirs = (torch.autograd.grad(output.square().sum(), (*parts, log_gates)) for output in (ours, theirs))
    assert largest_difference(ours, theirs) < EXACT


def test_gradients_of_gates_keep_no_score_of_a_token():
    case = make_case(3, 2, 2, 2, 40, 8, "causal")
    log_gates, kept = torch.zeros(3, requires_grad=True), []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        fixed_attention(*case.leaves(torch.float32)[:5], MaskedTokens(case.mask), log_gates=log_gates)
    assert kept and max(kept) <= case.query.numel()  # the scores are 5 times as many


def test_gates_of_one_change_nothing_and_gates_of_zero_take_a_prompt_away():
    case = make_case(4, 2, 2, 3, 5, 8)
    parts = case.leaves(torch.float64)[:5]
    plain = fixed_attention(*parts)
    assert torch.allclose(fixed_attention(*parts, log_gates=torch.zeros(4, dtype=torch.float64)), plain, atol=1e-14)
    query, key, value, prompt_key, prompt_value = parts
    first = fixed_attention(query, key, value, prompt_key[:, :3], prompt_value[:, :3])
    log_gates = torch.tensor([0.0, 0.0, 0.0, -torch.inf], dtype=torch.float64)
    assert torch.allclose(fixed_attention(*parts, log_gates=log_gates), first, atol=1e-14)
