"""Attention over tokens and prompts: the two pure functions that everything else in this room serves.

Both take queries, keys and values that are projected and split into heads, as transformers' attention functions do: query,
key, value are (batch, heads, tokens, head_dim); prompt keys and values are (heads, prompts, head_dim), shared by the batch.
A boolean mask is True where a query may look; a float mask is added to the scores. Every query sees every prompt.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

Heads = Float[Tensor, "batch heads tokens head_dim"]
PromptHeads = Float[Tensor, "heads prompts head_dim"]
Mask = Bool[Tensor, "#batch #heads #tokens keys"] | Float[Tensor, "#batch #heads #tokens keys"] | None


def pad_mask(mask: Mask, prompts: int) -> Tensor | None:
    """`mask` with `prompts` more keys that every query may see: True in a boolean mask, 0 in a float one."""
    if mask is None:
        return None
    return F.pad(mask, (0, prompts), value=1 if mask.dtype == torch.bool else 0)


def fixed_attention(
    query: Heads,
    key: Heads,
    value: Heads,
    prompt_key: PromptHeads,
    prompt_value: PromptHeads,
    mask: Mask = None,
    scale: float | None = None,
) -> Heads:
    """Attention(q, K([x ; P]), V([x ; P])): PyTorch's fused attention over the tokens and the layer's prompts."""
    batch = (key.shape[0], -1, -1, -1)
    key = torch.cat([key, prompt_key.expand(batch)], dim=-2)
    value = torch.cat([value, prompt_value.expand(batch)], dim=-2)
    return F.scaled_dot_product_attention(query, key, value, pad_mask(mask, prompt_key.shape[-2]), scale=scale)


def mixture_attention(
    query: Heads,
    key: Heads,
    value: Heads,
    prompt_key: PromptHeads,
    prompt_value: PromptHeads,
    weights: Float[Tensor, "options"],
    options: Sequence[int],
    mask: Mask = None,
    scale: float | None = None,
) -> Heads:
    """sum_c weights_c Attention(q, [x ; P_c]) for all options c in one pass (method.md, "The exact one-pass form").

    `options` are the context lengths, ascending from 0; the prompts of option c stand together, in that order. With
    log Z_c = logaddexp(lse_x, lse_{P_c}), where lse is the log of the sum of the exponentials of the scores,

        output = softmax(s_x) V_x  sum_c weights_c exp(lse_x - log Z_c)  +  sum_c weights_c exp(s_{P_c} - log Z_c) V_{P_c}

    which is the method's formula with the sums kept as logarithms: no row maximum over all options is needed, so an option
    whose scores are far larger than the others' cannot underflow them. Scores and their sums are fp32 at least.
    """
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    wide = torch.promote_types(query.dtype, torch.float32)
    scores = (query @ key.transpose(-1, -2)).to(wide) * factor
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    prompt_scores = (query @ prompt_key.transpose(-1, -2)).to(wide) * factor
    # Subtracting what all options share changes nothing but rounding: exp(scores - lse) then sums to 1 more exactly.
    shift = scores.detach().amax(dim=-1, keepdim=True).nan_to_num(neginf=0.0)
    scores, prompt_scores = scores - shift, prompt_scores - shift
    # A query that sees no token at all (padding on the left) has lse = -inf; the smallest number keeps 0 from becoming NaN.
    lse = scores.logsumexp(dim=-1, keepdim=True).clamp(min=torch.finfo(wide).min)
    lse_prompts = [part.logsumexp(dim=-1) for part in prompt_scores.split(list(options[1:]), dim=-1)]
    log_z = torch.logaddexp(lse, torch.stack(lse_prompts, dim=-1))

    weights = weights.to(wide)
    kept = weights[0] + torch.exp(lse - log_z) @ weights[1:, None]
    owner = torch.repeat_interleave(torch.tensor(options[1:], device=query.device))
    prompt_probs = torch.exp(prompt_scores - log_z[..., owner]) * weights[1:][owner]
    tokens = torch.exp(scores - lse).to(value.dtype) @ value
    return (tokens * kept + prompt_probs.to(prompt_value.dtype) @ prompt_value).to(query.dtype)
