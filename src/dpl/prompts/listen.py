"""How much of their attention the tokens give to prompts, told to whoever listens; where nobody does nothing is computed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dpl.prompts.tokens import Heads, Keys, LogGates, PromptHeads, Tokens, wide


@dataclass(frozen=True, eq=False)
class Heard:
    """One call of the attention module `attention`, whose tokens see each other as `tokens` says.

    `share`, 0-1, is the part of each query's softmax that goes to prompts; `real` is False for queries that are prompts.
    """

    attention: nn.Module
    tokens: Tokens
    share: Float[Tensor, "batch heads queries"]
    real: Bool[Tensor, "queries"]


_listener: ContextVar[Callable[[Heard], None] | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Callable[[Heard], None]) -> Iterator[None]:
    """Inside, `listener` is told of every attention of this thread that has prompts in it; that costs a second attention each."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(
    attention: nn.Module,
    tokens: Tokens,
    query: Heads,
    key: Keys,
    prompt_key: PromptHeads,
    scale: float | None,
    log_gates: LogGates = None,
    context: Tensor | slice | None = None,
) -> None:
    """Tells the listener, if there is one, of an attention to `prompt_key` and to those tokens that are `context`.

    Attention is linear in the values: with 1 for a prompt's and 0 for a token's it gives the share that goes to prompts, under
    the same mask and the same gates. Queries are all tokens, or some that are no prompts.
    """
    listener = _listener.get()
    if listener is None:
        return
    with torch.no_grad(), torch.autocast(query.device.type, enabled=False):
        dtype = wide(query)
        query, key, prompt_key = query.to(dtype), key.to(dtype), prompt_key.to(dtype)
        is_prompt = torch.zeros(key.shape[2], dtype=torch.bool, device=key.device)
        if context is not None:
            is_prompt[context] = True
        value = is_prompt.to(dtype)[:, None].expand(key.shape).contiguous()
        output = tokens.attend(query, key, value, prompt_key, torch.ones_like(prompt_key), scale, log_gates)
        all_ask = query.shape[2] == key.shape[2]
        real = ~is_prompt if all_ask else is_prompt.new_ones(query.shape[2])
        listener(Heard(attention, tokens, output[..., 0], real))
