"""Reports attention mass on prompts to an optional listener; without a listener nothing is computed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dpl.prompts.visibility import PromptInputs, TokenInputs, TokenVisibility, accum_dtype


@dataclass(frozen=True, eq=False)
class AttentionRecord:
    """The attention mass on prompts in one call of an attention module.

    Attributes:
        attention: the attention module.
        tokens: the tokens that each query attended to.
        share: (batch, heads, queries), the part of each query's softmax on prompts, 0-1.
        real: (queries,), False for queries that are prompts themselves.
    """

    attention: nn.Module
    tokens: TokenVisibility
    share: Float[Tensor, "batch heads queries"]
    real: Bool[Tensor, "queries"]


_listener: ContextVar[Callable[[AttentionRecord], None] | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Callable[[AttentionRecord], None]) -> Iterator[None]:
    """Context manager: reports every attention call of this thread that has prompts.

    Args:
        listener: receives a record after every call; each record costs a second attention.
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def emit(
    attention: nn.Module,
    visibility: TokenVisibility,
    tokens: TokenInputs,
    prompts: PromptInputs,
    context: Tensor | slice | None = None,
) -> None:
    """Reports one attention call to the listener, if there is one.

    Attention is linear in the values. With the value 1 for prompts and 0 for other tokens, under the same mask and gates, its
    output is the share of the prompts.

    Args:
        attention: the attention module, for the report.
        visibility: the tokens that each query attends to.
        tokens: its tokens; the queries are all tokens, or some tokens that are not prompts.
        prompts: its prompts that are keys and values only.
        context: the indices of tokens that are prompts; None if there are none.
    """
    listener = _listener.get()
    if listener is None:
        return
    with torch.no_grad(), torch.autocast(tokens.query.device.type, enabled=False):
        dtype = accum_dtype(tokens.query)
        query, key, prompt_key = tokens.query.to(dtype), tokens.key.to(dtype), prompts.key.to(dtype)
        is_prompt = torch.zeros(key.shape[2], dtype=torch.bool, device=key.device)
        if context is not None:
            is_prompt[context] = True
        value = is_prompt.to(dtype)[:, None].expand(key.shape).contiguous()
        ones = PromptInputs(prompt_key, torch.ones_like(prompt_key), prompts.log_gates)
        output = visibility.attend(TokenInputs(query, key, value, tokens.scale), ones)
        all_ask = query.shape[2] == key.shape[2]
        real = ~is_prompt if all_ask else is_prompt.new_ones(query.shape[2])
        listener(AttentionRecord(attention, visibility, output[..., 0], real))
