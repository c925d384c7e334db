"""Attention over tokens and prompts, as pure functions.

All functions take projected queries, keys and values, split into heads as in transformers' attention functions: query, key and
value are (batch, heads, tokens, head_dim); prompt keys and values are (heads, prompts, head_dim), shared by the batch.
`tokens` defines the attention among the tokens. Every query attends to every prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dpl.prompts.visibility import Heads, Keys, MaskedTokens, PromptHeads, PromptInputs, TokenInputs, TokenVisibility, accum_dtype

_ALL = MaskedTokens()  # every token attends to every token of its sample


def fixed_attention(
    query: Heads,
    key: Keys,
    value: Keys,
    prompt_key: PromptHeads,
    prompt_value: PromptHeads,
    tokens: TokenVisibility = _ALL,
    scale: float | None = None,
    log_gates: Float[Tensor, "prompts"] | None = None,
) -> Heads:
    """Computes Attention(q, K([x ; P]), V([x ; P])) with PyTorch's fused attention.

    A gate multiplies a prompt's term in the softmax: prompt r contributes gate_r exp(score_r) in place of exp(score_r). A gate of
    1 changes nothing, a gate of 0 removes the prompt. The derivative of a loss by a gate at 1, with its sign changed, is to first
    order the increase of the loss when the prompt is removed.

    Gates that need a gradient go through the one-pass mixture of no prompts (weight 0) and all prompts (weight 1). Otherwise
    PyTorch would store the scores of all tokens: its fused attention for CPUs has no gradient for an additive mask.

    Args:
        query: (batch, heads, queries, head_dim).
        key: (batch, heads, keys, head_dim), of the tokens.
        value: (batch, heads, keys, head_dim), of the tokens.
        prompt_key: (heads, prompts, head_dim), of the layer's prompts.
        prompt_value: (heads, prompts, head_dim), of the layer's prompts.
        tokens: the tokens that each query attends to; by default all tokens of its sample.
        scale: factor of the scores; None is head_dim ** -0.5.
        log_gates: (prompts,), the logarithm of each prompt's gate; None means gates of 1.

    Returns:
        (batch, heads, queries, head_dim), in the dtype of `query`.
    """
    if log_gates is None or not log_gates.requires_grad:
        return tokens.attend(TokenInputs(query, key, value, scale), PromptInputs(prompt_key, prompt_value, log_gates))
    factor, options = _factor(query, scale), (0, len(log_gates))
    weights = torch.tensor([0.0, 1.0], device=query.device)
    return _Mixture.apply(query, key, value, prompt_key, prompt_value, weights, log_gates, options, tokens, factor)


def mixture_attention(
    query: Heads,
    key: Keys,
    value: Keys,
    prompt_key: PromptHeads,
    prompt_value: PromptHeads,
    weights: Float[Tensor, "options"],
    options: Sequence[int],
    tokens: TokenVisibility = _ALL,
    scale: float | None = None,
) -> Heads:
    """Computes sum_c weights_c Attention(q, [x ; P_c]) for all options c in one pass (docs/method.md, "The mixture in one pass").

    A fused attention over the tokens gives its output o and L, the logarithm of the sum of the exponentials of the tokens'
    scores. No score of a token is stored. Define m_c = max(L, the option's largest score), e = exp(score - m_c) for the option's
    prompts, t_c = exp(L - m_c) and Z_c = t_c + sum(e). Option c alone would give O_c = (t_c o + e V_P) / Z_c, and

        output = o  sum_c weights_c t_c / Z_c  +  sum_c (weights_c / Z_c) e V_P

    The backward pass uses the fused attention as well. It scales the gradient g by k = sum_c weights_c t_c / Z_c. The gradient of
    the tokens' scores is p_j (k g . v_j - sum_c weights_c t_c / Z_c g . O_c), where p is the softmax over the tokens. This equals
    the backward pass of a plain attention with the mean of the O_c, weighted by weights_c t_c / (k Z_c), as its output.

    Args:
        query: (batch, heads, queries, head_dim).
        key: (batch, heads, keys, head_dim), of the tokens.
        value: (batch, heads, keys, head_dim), of the tokens.
        prompt_key: (heads, sum of options, head_dim); the prompts of one option are contiguous, in the order of `options`.
        prompt_value: as `prompt_key`.
        weights: (options,), the weight of each option.
        options: context lengths, ascending from 0.
        tokens: the tokens that each query attends to; by default all tokens of its sample.
        scale: factor of the scores; None is head_dim ** -0.5.

    Returns:
        (batch, heads, queries, head_dim), in the dtype of `query`. The prompts' scores, their sums and the weights are computed
        in at least fp32.
    """
    factor = _factor(query, scale)
    return _Mixture.apply(query, key, value, prompt_key, prompt_value, weights, None, tuple(options), tokens, factor)


def _factor(query: Tensor, scale: float | None) -> float:
    return query.shape[-1] ** -0.5 if scale is None else scale


class _Mixture(torch.autograd.Function):
    """`mixture_attention`, with `log_gates` added to the scores of the prompts.

    Saves its inputs, o, L and tensors with one entry per query and prompt or option; no token scores.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        prompt_key: Tensor,
        prompt_value: Tensor,
        weights: Tensor,
        log_gates: Tensor | None,
        options: tuple[int, ...],
        tokens: TokenVisibility,
        scale: float,
    ) -> Tensor:
        ctx.options, ctx.tokens, ctx.scale = options, tokens, scale
        with torch.autocast(query.device.type, enabled=False):
            output, log_sum = tokens.forward(query, key, value, scale)
            exps = _exponentials(query, prompt_key, log_sum, log_gates, options, scale)
            kept = (query, key, value, prompt_key, prompt_value, weights, output, log_sum)
            ctx.save_for_backward(*kept, exps.prompts, exps.tokens, exps.sums)
            share = _shares(exps, weights)
            mixed = _flat(output).to(exps.sums.dtype) * share.tokens
            return _heads(mixed.baddbmm_(share.prompts, prompt_value.to(mixed.dtype)), query)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(gradients[0].device.type, enabled=False):
            return (*_Mixture._gradients(ctx, gradients[0]), None, None, None)

    @staticmethod
    def _gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, prompt_key, prompt_value, weights, output, log_sum, *saved = ctx.saved_tensors
        of_tokens = any(ctx.needs_input_grad[:3])
        of_prompt_key, of_prompt_value, of_weights, of_gates = ctx.needs_input_grad[3:7]
        exps = _Exponentials(_owner(ctx.options, saved[0].dtype, query.device), *saved)
        share, dtype = _shares(exps, weights), exps.sums.dtype
        upstream, mean, values = _flat(gradient).to(dtype), _flat(output).to(dtype), prompt_value.to(dtype)

        # g . O_c for every option, from g . o and g . V_P
        by_prompt = upstream @ values.mT
        by_option = exps.tokens * (upstream * mean).sum(dim=-1, keepdim=True)
        by_option = by_option.add_((exps.prompts * by_prompt) @ exps.owner.T).div_(exps.sums)
        scores_grad = by_prompt.sub_(by_option @ exps.owner).mul_(share.prompts)

        token_grads: tuple[Tensor | None, ...] = (None, None, None)
        if of_tokens:
            of_option = exps.tokens * share.coefficients / share.tokens.clamp(min=torch.finfo(dtype).tiny) / exps.sums
            mean = mean * (of_option * exps.tokens).sum(dim=-1, keepdim=True)
            mean = _heads(mean.baddbmm_(exps.prompts * (of_option @ exps.owner), values), query)
            scaled = _heads(upstream * share.tokens, query)
            query_grad, *others = ctx.tokens.backward(scaled, query, key, value, mean, log_sum, ctx.scale)
            token_grads = (query_grad.add_(_heads(scores_grad @ (prompt_key.to(dtype) * ctx.scale), query)), *others)
        return (
            *token_grads,
            (scores_grad.mT @ _flat(query).to(dtype) * ctx.scale).to(prompt_key.dtype) if of_prompt_key else None,
            (share.prompts.mT @ upstream).to(prompt_value.dtype) if of_prompt_value else None,
            by_option.sum(dim=(0, 1)).to(weights.dtype) if of_weights else None,
            scores_grad.sum(dim=(0, 1)) if of_gates else None,
        )


@dataclass(frozen=True)
class _Exponentials:
    """The unnormalised softmax of every option, in at least fp32."""

    owner: Tensor  # (options, prompts), 1 if the prompt belongs to the option, else 0
    prompts: Tensor  # e, (heads, queries, prompts)
    tokens: Tensor  # t_c, (heads, queries, options)
    sums: Tensor  # Z_c, (heads, queries, options)


def _exponentials(
    query: Tensor, prompt_key: Tensor, log_sum: Tensor, log_gates: Tensor | None, options: tuple[int, ...], scale: float
) -> _Exponentials:
    dtype = accum_dtype(query)
    owner = _owner(options, dtype, query.device)
    scores = torch.bmm(_flat(query).to(dtype), (prompt_key.to(dtype) * scale).mT)
    if log_gates is not None:
        scores += log_gates
    log_sum = log_sum.transpose(0, 1).reshape(*scores.shape[:2], 1).clamp(min=torch.finfo(dtype).min)
    # Every option has its own maximum, so that an option with far larger scores cannot underflow the others.
    largest = [score.amax(dim=-1, keepdim=True) for score in scores.split(list(options[1:]), dim=-1)]
    largest = torch.maximum(torch.cat([log_sum, *largest], dim=-1), log_sum)
    prompts, tokens = scores.sub_(largest @ owner).exp_(), largest.sub_(log_sum).neg_().exp_()
    sums = torch.addmm(tokens.flatten(0, 1), prompts.flatten(0, 1), owner.T).view_as(tokens)
    return _Exponentials(owner, prompts, tokens, sums.clamp_(min=torch.finfo(dtype).tiny))


@lru_cache(maxsize=64)
def _owner(options: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # autograd rejects inference tensors, and the cache serves training as well
        options_of_prompts = torch.repeat_interleave(torch.tensor(options, device=device))
        return F.one_hot(options_of_prompts, len(options)).to(dtype).T.contiguous()


@dataclass(frozen=True)
class _Shares:
    """The weights of the tokens and of each prompt in the output."""

    coefficients: Tensor  # weights_c / Z_c, (heads, queries, options)
    tokens: Tensor  # k, (heads, queries, 1)
    prompts: Tensor  # (weights_c / Z_c) e, (heads, queries, prompts)


def _shares(exps: _Exponentials, weights: Tensor) -> _Shares:
    coefficients = weights.to(exps.sums.dtype) / exps.sums
    tokens = (exps.tokens * coefficients).sum(dim=-1, keepdim=True)
    return _Shares(coefficients, tokens, exps.prompts * (coefficients @ exps.owner))


def _flat(heads: Tensor) -> Tensor:
    """(batch, heads, tokens, head_dim) as (heads, batch * tokens, head_dim): a view if memory is ordered token by token."""
    return heads.transpose(1, 2).flatten(0, 1).transpose(0, 1)


def _heads(flat: Tensor, like: Tensor) -> Tensor:
    """Restores the shape and dtype of `like`, in a new tensor with the memory order (batch, tokens, heads, head_dim)."""
    heads = flat.transpose(0, 1).reshape(like.transpose(1, 2).shape).transpose(1, 2)
    return heads.to(like.dtype)
