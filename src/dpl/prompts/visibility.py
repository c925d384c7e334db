"""Attention among the tokens of a sequence: under a mask, or for many texts packed behind one shared opening.

Both kinds offer softmax attention over the tokens in two forms. `attend` is differentiable by autograd and accepts prompts, more
keys that every query sees. The pair `forward` and `backward` also returns the logarithm of the softmax's denominator and
differentiates both results; `dpl.prompts.attention` merges prompts into them.

query, key and value are (batch, heads, tokens, head_dim), as in transformers' attention functions.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

Heads = Float[Tensor, "batch heads tokens head_dim"]
Keys = Float[Tensor, "batch heads keys head_dim"]
PromptHeads = Float[Tensor, "heads prompts head_dim"]
Rows = Float[Tensor, "batch heads tokens"]
Mask = Bool[Tensor, "#batch #heads #tokens keys"] | Float[Tensor, "#batch #heads #tokens keys"] | None
LogGates = Float[Tensor, "prompts"] | None
Gradients = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class TokenInputs:
    """The tokens of one attention call, after the layer's projections.

    Attributes:
        query: (batch, heads, queries, head_dim).
        key: (batch, heads, keys, head_dim).
        value: (batch, heads, keys, head_dim).
        scale: factor of the scores; None is head_dim ** -0.5.
    """

    query: Heads
    key: Keys
    value: Keys
    scale: float | None = None


@dataclass(frozen=True, eq=False)
class PromptInputs:
    """The prompts of one attention call as keys and values, which all samples share.

    Attributes:
        key: (heads, prompts, head_dim), of any number of prompts, also 0.
        value: (heads, prompts, head_dim).
        log_gates: (prompts,), added to the scores of the prompts; None adds nothing.
    """

    key: PromptHeads
    value: PromptHeads
    log_gates: LogGates = None


class TokenVisibility(ABC):
    """Defines the tokens that each query attends to."""

    @abstractmethod
    def attend(self, tokens: TokenInputs, prompts: PromptInputs) -> Heads:
        """Computes PyTorch's fused attention over the visible tokens and the prompts.

        Args:
            tokens: queries, keys and values of the tokens.
            prompts: keys and values of the prompts; every query sees them.

        Returns:
            (batch, heads, queries, head_dim).
        """

    @abstractmethod
    def forward(self, query: Heads, key: Keys, value: Keys, scale: float) -> tuple[Heads, Rows]:
        """Computes attention over the tokens only.

        Args:
            query: (batch, heads, queries, head_dim).
            key: (batch, heads, keys, head_dim).
            value: (batch, heads, keys, head_dim).
            scale: factor of the scores.

        Returns:
            The output, (batch, heads, queries, head_dim), and the logarithm of the sum of the exponentials of the scores, (batch,
            heads, queries), in at least fp32.
        """

    @abstractmethod
    def backward(
        self, gradient: Heads, query: Heads, key: Keys, value: Keys, mean: Heads, log_sum: Rows, scale: float
    ) -> Gradients:
        """Computes the gradients of query, key and value for d scores = p (gradient . value_j - gradient . mean), p the softmax.

        With the output of `forward` as `mean`, this is the derivative of the output. Another `mean` adds a derivative of the
        logarithm.

        Args:
            gradient: (batch, heads, queries, head_dim), the gradient of the output.
            query: the input of `forward`.
            key: the input of `forward`.
            value: the input of `forward`.
            mean: (batch, heads, queries, head_dim).
            log_sum: (batch, heads, queries), the logarithm from `forward`.
            scale: the input of `forward`.

        Returns:
            The gradients of query, key and value, each in the shape of its input.
        """


def upcast_on_cpu(tensor: Tensor) -> Tensor:
    """Converts a bf16 tensor on a CPU to fp32, and returns any other tensor as it is.

    On a CPU the backward of PyTorch's fused attention takes ten times as long in bf16.
    """
    return tensor.float() if tensor.device.type == "cpu" and tensor.dtype == torch.bfloat16 else tensor


def fused_attention(query: Heads, key: Keys, value: Keys, mask: Mask, scale: float | None) -> Heads:
    """Calls PyTorch's scaled_dot_product_attention; computes bf16 inputs on a CPU in fp32, and returns the dtype of `query`.

    Args:
        query: (batch, heads, queries, head_dim).
        key: (batch, heads, keys, head_dim).
        value: (batch, heads, keys, head_dim).
        mask: boolean, True for visible keys; or float, added to the scores; or None.
        scale: factor of the scores; None is head_dim ** -0.5.

    Returns:
        (batch, heads, queries, head_dim).
    """
    if mask is not None and mask.dtype != torch.bool:
        mask = upcast_on_cpu(mask)
    with torch.autocast(query.device.type, enabled=query.device.type != "cpu" and torch.is_autocast_enabled(query.device.type)):
        return F.scaled_dot_product_attention(
            upcast_on_cpu(query), upcast_on_cpu(key), upcast_on_cpu(value), mask, scale=scale
        ).to(query.dtype)


@dataclass(frozen=True, eq=False)
class MaskedTokens(TokenVisibility):
    """Tokens of separate samples, restricted by `mask`: boolean, True for visible keys; or float, added to the scores."""

    mask: Mask = None

    def attend(self, tokens: TokenInputs, prompts: PromptInputs) -> Heads:
        """Calls SDPA once on [tokens ; prompts]; the extended mask lets every query see the prompts."""
        query, key, value, count = tokens.query, tokens.key, tokens.value, prompts.key.shape[-2]
        mask = (
            pad_mask(self.mask, count)
            if prompts.log_gates is None
            else _gated_mask(self.mask, upcast_on_cpu(query), key.shape[2], prompts.log_gates)
        )
        if count:
            batch = (key.shape[0], -1, -1, -1)
            key = torch.cat([key, prompts.key.expand(batch)], dim=-2)
            value = torch.cat([value, prompts.value.expand(batch)], dim=-2)
        return fused_attention(query, key, value, mask, tokens.scale)

    def forward(self, query: Heads, key: Keys, value: Keys, scale: float) -> tuple[Heads, Rows]:
        """Processes the whole batch at once; a query that sees no token gets the output 0 and the logarithm of 0."""
        inputs = _Inputs(
            upcast_on_cpu(query), upcast_on_cpu(key), upcast_on_cpu(value), _additive(self.mask, upcast_on_cpu(query)), scale
        )
        output, log_sum = _kernels(query).forward(inputs)
        if inputs.mask is not None:
            log_sum = log_sum.masked_fill((inputs.mask == float("-inf")).all(dim=-1), float("-inf"))
        return output.to(query.dtype), log_sum

    def backward(
        self, gradient: Heads, query: Heads, key: Keys, value: Keys, mean: Heads, log_sum: Rows, scale: float
    ) -> Gradients:
        """Processes the whole batch at once."""
        # A query that sees no token has only scores of -inf; a finite log_sum makes exp(score - log_sum) 0 in place of NaN.
        inputs = _Inputs(
            upcast_on_cpu(query), upcast_on_cpu(key), upcast_on_cpu(value), _additive(self.mask, upcast_on_cpu(query)), scale
        )
        finite = log_sum.nan_to_num(neginf=0.0)
        to_query, to_key, to_value = _kernels(query).backward(inputs, upcast_on_cpu(gradient), upcast_on_cpu(mean), finite)
        return to_query.to(query.dtype), to_key.to(query.dtype), to_value.to(query.dtype)


@dataclass(frozen=True)
class Group:
    """`count` texts of equal length: their own tokens, `length` each, are contiguous from `start`."""

    start: int
    count: int
    length: int

    def rows(self, packed: Tensor) -> Tensor:
        """Selects this group.

        Args:
            packed: (batch, heads, tokens, ...).

        Returns:
            (batch * count, heads, length, ...), a view if batch is 1.
        """
        part = packed[:, :, self.start : self.start + self.count * self.length]
        return part.unflatten(2, (self.count, self.length)).transpose(1, 2).flatten(0, 1)


@dataclass(frozen=True, eq=False)
class Packed(TokenVisibility):
    """One long row: `opening` tokens shared by all texts, then the own tokens of each text, in groups of equal length.

    Attention is causal: a token sees the opening, the earlier tokens of its own text, and itself. The queries are all tokens, or
    only the last token of every text. `forward` and `backward` need a batch of 1; `attend` accepts any batch of rows.
    """

    opening: int
    groups: tuple[Group, ...]

    def attend(self, tokens: TokenInputs, prompts: PromptInputs) -> Heads:
        """Calls SDPA once for the opening and once for each group; each token is computed once, and there is no padding."""
        query, key, value = tokens.query, tokens.key, tokens.value
        outputs = [
            MaskedTokens(part.mask(query.device)).attend(
                TokenInputs(part.queries.rows(query), part.seen(key), part.seen(value), tokens.scale), prompts
            )
            for part in self._parts(query, key)
        ]
        rows = [output.unflatten(0, (query.shape[0], -1)).transpose(1, 2).flatten(2, 3) for output in outputs]
        return torch.cat(rows, dim=2)

    def forward(self, query: Heads, key: Keys, value: Keys, scale: float) -> tuple[Heads, Rows]:
        """Computes the parts one by one and joins them into one row."""
        output, log_sum = like_heads(query), query.new_empty(query.shape[:-1], dtype=accum_dtype(query))
        for part in self._parts(query, key):
            tokens, rows = MaskedTokens(part.mask(query.device)), part.queries.rows(query)
            own_output, own_sum = tokens.forward(rows, part.seen(key), part.seen(value), scale)
            part.queries.rows(output).copy_(own_output)
            part.queries.rows(log_sum).copy_(own_sum)
        return output, log_sum

    def backward(
        self, gradient: Heads, query: Heads, key: Keys, value: Keys, mean: Heads, log_sum: Rows, scale: float
    ) -> Gradients:
        """Computes the parts one by one; the keys and values of the opening sum the gradients of all texts."""
        query_grad, key_grad, value_grad = like_heads(query), like_heads(key).zero_(), like_heads(value).zero_()
        for part in self._parts(query, key):
            own_gradient, own_query, own_mean, own_sum = map(part.queries.rows, (gradient, query, mean, log_sum))
            tokens, keys, values = MaskedTokens(part.mask(query.device)), part.seen(key), part.seen(value)
            grads = tokens.backward(own_gradient, own_query, keys, values, own_mean, own_sum, scale)
            part.queries.rows(query_grad).copy_(grads[0])
            part.add_gradients(key_grad, grads[1])
            part.add_gradients(value_grad, grads[2])
        return query_grad, key_grad, value_grad

    def _parts(self, query: Heads, key: Keys) -> list["_Part"]:
        """Returns the opening as one text, then every group; omits the opening if the queries are last tokens only."""
        if query.shape[2] == key.shape[2]:
            opening = [_Part(Group(0, 1, self.opening), 0, Group(0, 1, self.opening))] if self.opening else []
            return opening + [_Part(group, self.opening, group) for group in self.groups]
        asked = [sum(group.count for group in self.groups[:index]) for index in range(len(self.groups))]
        return [_Part(Group(start, own.count, 1), self.opening, own) for start, own in zip(asked, self.groups, strict=True)]


@dataclass(frozen=True)
class _Part:
    """Queries of texts of equal length and the tokens that they see: the first `opening` tokens of the row, and their own."""

    queries: Group
    opening: int
    own: Group

    def mask(self, device: torch.device) -> Tensor | None:
        """The causal mask, which shows the opening to all; None for last tokens, which see everything."""
        return _causal(self.opening, self.own.length, device) if self.queries.length > 1 else None

    def seen(self, packed: Tensor) -> Tensor:
        """Selects the visible keys or values, (batch * count, heads, opening + own, head_dim)."""
        opening = packed[:, None, :, : self.opening].expand(-1, self.own.count, -1, -1, -1).flatten(0, 1)
        return torch.cat([opening, self.own.rows(packed)], dim=2)

    def add_gradients(self, packed: Tensor, seen: Tensor) -> None:
        """Adds the gradients of the output of `seen` to the gradients of the row."""
        packed[0, :, : self.opening] += seen[:, :, : self.opening].sum(dim=0)
        self.own.rows(packed).add_(seen[:, :, self.opening :])


def pad_mask(mask: Mask, prompts: int) -> Tensor | None:
    """Appends keys that every query sees to a mask.

    Args:
        mask: (#batch, #heads, #tokens, keys), boolean or float, or None.
        prompts: number of keys to append.

    Returns:
        The mask with `prompts` more keys, True in a boolean mask and 0 in a float one; None if `mask` is None.
    """
    if mask is None:
        return None
    return F.pad(mask, (0, prompts), value=1 if mask.dtype == torch.bool else 0)


def _gated_mask(mask: Mask, query: Heads, tokens: int, log_gates: Tensor) -> Tensor:
    """Returns an additive mask: `mask`, or zeros, for the `tokens` keys, then `log_gates` for the prompts."""
    if mask is None:
        mask = query.new_zeros(1, 1, 1, tokens)
    added = mask.to(query.dtype) if mask.dtype != torch.bool else _additive(mask, query)
    assert added is not None
    return torch.cat([added, log_gates.to(query.dtype).expand(*added.shape[:-1], -1)], dim=-1)


@lru_cache(maxsize=256)
def _causal(opening: int, length: int, device: torch.device) -> Tensor:
    """(1, 1, length, opening + length): True for the opening, the token itself and earlier tokens."""
    with torch.inference_mode(False):  # autograd rejects inference tensors, and the cache serves training as well
        return torch.ones(1, 1, length, opening + length, dtype=torch.bool, device=device).tril(opening)


def accum_dtype(tensor: Tensor) -> torch.dtype:
    """Returns the dtype for sums: that of the tensor, promoted to at least fp32."""
    return torch.promote_types(tensor.dtype, torch.float32)


def like_heads(query: Tensor) -> Tensor:
    """Returns an empty tensor of the query's shape with the memory order (batch, tokens, heads, head_dim), as in projections."""
    return query.new_empty(query.transpose(1, 2).shape).transpose(1, 2)


def _additive(mask: Mask, query: Tensor) -> Tensor | None:
    """Converts a boolean mask to an additive one: 0 or -inf, in the dtype of `query`."""
    if mask is None or mask.dtype != torch.bool:
        return None if mask is None else mask.to(query.dtype)
    return torch.zeros(mask.shape, dtype=query.dtype, device=query.device).masked_fill_(~mask, float("-inf"))


@dataclass(frozen=True)
class _Inputs:
    """Inputs of one attention call; `mask` is additive."""

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    scale: float


class _FlashOnCpu:
    """PyTorch's flash attention for CPUs, which stores no score matrix. Its backward reads `out` for out . gradient only."""

    @staticmethod
    def forward(x: _Inputs) -> tuple[Tensor, Tensor]:
        """Returns the output and the log-sum, as `TokenVisibility.forward`."""
        flash: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        output, log_sum = flash(x.query, x.key, x.value, 0.0, False, attn_mask=x.mask, scale=x.scale)
        return output, log_sum

    @staticmethod
    def backward(x: _Inputs, gradient: Tensor, mean: Tensor, log_sum: Tensor) -> Gradients:
        """Returns the gradients, as `TokenVisibility.backward`."""
        flash: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        return flash(gradient, x.query, x.key, x.value, mean, log_sum, 0.0, False, attn_mask=x.mask, scale=x.scale)


class _Plain:
    """The formulas in plain PyTorch, for any device; the backward recomputes the scores."""

    @staticmethod
    def forward(x: _Inputs) -> tuple[Tensor, Tensor]:
        """Returns the output and the log-sum, as `TokenVisibility.forward`."""
        scores = _scores(x)
        log_sum = scores.logsumexp(dim=-1)
        probs = torch.exp(scores - log_sum.nan_to_num(neginf=0.0)[..., None])
        return probs.to(x.value.dtype) @ x.value, log_sum

    @staticmethod
    def backward(x: _Inputs, gradient: Tensor, mean: Tensor, log_sum: Tensor) -> Gradients:
        """Returns the gradients, as `TokenVisibility.backward`."""
        probs = torch.exp(_scores(x) - log_sum[..., None])
        inner = (gradient.to(probs.dtype) * mean).sum(dim=-1, keepdim=True)
        scores_grad = (probs * ((gradient @ x.value.mT).to(probs.dtype) - inner) * x.scale).to(x.query.dtype)
        return scores_grad @ x.key, scores_grad.mT @ x.query, probs.to(gradient.dtype).mT @ gradient


def _scores(x: _Inputs) -> Tensor:
    scores = (x.query @ x.key.mT).to(accum_dtype(x.query)) * x.scale
    return scores if x.mask is None else scores + x.mask


def _kernels(query: Tensor) -> type[_FlashOnCpu] | type[_Plain]:
    return _FlashOnCpu if query.device.type == "cpu" else _Plain
