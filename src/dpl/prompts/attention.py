"""Attention over tokens and prompts: the pure functions that everything else in this room serves.

All take queries, keys and values that are projected and split into heads, as transformers' attention functions do: query,
key, value are (batch, heads, tokens, head_dim); prompt keys and values are (heads, prompts, head_dim), shared by the batch.
`tokens` says how the tokens see each other. Every query sees every prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dpl.prompts.tokens import Heads, Keys, Masked, PromptHeads, Tokens, wide

_ALL = Masked()  # every token sees every token of its sample


def fixed_attention(
    query: Heads,
    key: Keys,
    value: Keys,
    prompt_key: PromptHeads,
    prompt_value: PromptHeads,
    tokens: Tokens = _ALL,
    scale: float | None = None,
    log_gates: Float[Tensor, "prompts"] | None = None,
) -> Heads:
    """Attention(q, K([x ; P]), V([x ; P])): PyTorch's fused attention over the tokens and the layer's prompts.

    With `log_gates` prompt r counts gate_r times, gate_r exp(score_r) in place of exp(score_r): 1 leaves it as it is, 0 takes
    it away. So minus the derivative by a gate at 1 is, to first order, what taking the prompt away would add to a loss.
    """
    return tokens.attend(query, key, value, prompt_key, prompt_value, scale, log_gates)


def mixture_attention(
    query: Heads,
    key: Keys,
    value: Keys,
    prompt_key: PromptHeads,
    prompt_value: PromptHeads,
    weights: Float[Tensor, "options"],
    options: Sequence[int],
    tokens: Tokens = _ALL,
    scale: float | None = None,
) -> Heads:
    """sum_c weights_c Attention(q, [x ; P_c]) for all options c in one pass (method.md, "The exact one-pass form").

    `options` are the context lengths, ascending from 0; the prompts of option c stand together, in that order. Scores of the
    prompts, their sums and the weights are fp32 at least, whatever the precision of the rest.

    The tokens need one fused attention that also gives L, the logarithm of the sum of the exponentials of their scores; no
    score of a token is ever stored. With o its output, m_c = max(L, the option's largest score), e = exp(score - m_c) over the
    option's prompts, t_c = exp(L - m_c) and Z_c = t_c + sum(e), option c alone would give O_c = (t_c o + e V_P) / Z_c, and

        output = o  sum_c weights_c t_c / Z_c  +  sum_c (weights_c / Z_c) e V_P

    The backward goes through the fused attention as well. The gradient g reaches it scaled by k = sum_c weights_c t_c / Z_c,
    and its scores move by p_j (k g . v_j - sum_c weights_c t_c / Z_c g . O_c), p the softmax over the tokens: the backward of a
    plain attention whose output were the mean of the O_c weighted by weights_c t_c / (k Z_c).
    """
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    return _Mixture.apply(query, key, value, prompt_key, prompt_value, weights, tuple(options), tokens, factor)


class _Mixture(torch.autograd.Function):
    """`mixture_attention`. Keeps its inputs, o, L and what is as long as the prompts: no scores of tokens."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        prompt_key: Tensor,
        prompt_value: Tensor,
        weights: Tensor,
        options: tuple[int, ...],
        tokens: Tokens,
        scale: float,
    ) -> Tensor:
        ctx.options, ctx.tokens, ctx.scale = options, tokens, scale
        with torch.autocast(query.device.type, enabled=False):
            output, log_sum = tokens.forward(query, key, value, scale)
            exps = _exponentials(query, prompt_key, log_sum, options, scale)
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
        of_tokens, (of_prompt_key, of_prompt_value, of_weights) = any(ctx.needs_input_grad[:3]), ctx.needs_input_grad[3:6]
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
        )


@dataclass(frozen=True)
class _Exponentials:
    """The softmax of every option, before it is normalised; fp32 at least."""

    owner: Tensor  # (options, prompts): 1 where a prompt belongs to an option
    prompts: Tensor  # e, (heads, queries, prompts)
    tokens: Tensor  # t_c, (heads, queries, options)
    sums: Tensor  # Z_c, (heads, queries, options)


def _exponentials(query: Tensor, prompt_key: Tensor, log_sum: Tensor, options: tuple[int, ...], scale: float) -> _Exponentials:
    dtype = wide(query)
    owner = _owner(options, dtype, query.device)
    scores = torch.bmm(_flat(query).to(dtype), (prompt_key.to(dtype) * scale).mT)
    log_sum = log_sum.transpose(0, 1).reshape(*scores.shape[:2], 1).clamp(min=torch.finfo(dtype).min)
    # A maximum of its own for every option, so that one whose scores are far larger cannot underflow the others.
    largest = [score.amax(dim=-1, keepdim=True) for score in scores.split(list(options[1:]), dim=-1)]
    largest = torch.maximum(torch.cat([log_sum, *largest], dim=-1), log_sum)
    prompts, tokens = scores.sub_(largest @ owner).exp_(), largest.sub_(log_sum).neg_().exp_()
    sums = torch.addmm(tokens.flatten(0, 1), prompts.flatten(0, 1), owner.T).view_as(tokens)
    return _Exponentials(owner, prompts, tokens, sums.clamp_(min=torch.finfo(dtype).tiny))


@lru_cache(maxsize=64)
def _owner(options: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # else a prediction could leave a tensor that training must not use
        options_of_prompts = torch.repeat_interleave(torch.tensor(options, device=device))
        return F.one_hot(options_of_prompts, len(options)).to(dtype).T.contiguous()


@dataclass(frozen=True)
class _Shares:
    """How much of the output comes from where."""

    coefficients: Tensor  # weights_c / Z_c, (heads, queries, options)
    tokens: Tensor  # k, (heads, queries, 1)
    prompts: Tensor  # (weights_c / Z_c) e, (heads, queries, prompts)


def _shares(exps: _Exponentials, weights: Tensor) -> _Shares:
    coefficients = weights.to(exps.sums.dtype) / exps.sums
    tokens = (exps.tokens * coefficients).sum(dim=-1, keepdim=True)
    return _Shares(coefficients, tokens, exps.prompts * (coefficients @ exps.owner))


def _flat(heads: Tensor) -> Tensor:
    """(batch, heads, tokens, head_dim) as (heads, batch * tokens, head_dim): a view where memory lies token by token."""
    return heads.transpose(1, 2).flatten(0, 1).transpose(0, 1)


def _heads(flat: Tensor, like: Tensor) -> Tensor:
    """Back to the shape and dtype of `like`, a new tensor that lies in memory as (batch, tokens, heads, head_dim)."""
    heads = flat.transpose(0, 1).reshape(like.transpose(1, 2).shape).transpose(1, 2)
    return heads.to(like.dtype)
