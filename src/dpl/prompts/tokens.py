"""How the tokens of a sequence see each other: under a mask, or as many texts packed behind one shared opening.

Both kinds offer softmax attention over the tokens alone, in the two forms that prompts need: `attend`, which autograd follows
and which takes more keys that every query sees; and the pair `forward`, `backward`, which also gives the logarithm of the
softmax's denominator and takes the derivative of both results (`dpl.prompts.attention` merges prompts into them).

query, key and value are (batch, heads, tokens, head_dim), as transformers' attention functions have them.
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


class Tokens(ABC):
    """Which tokens a token sees."""

    @abstractmethod
    def attend(
        self,
        query: Heads,
        key: Keys,
        value: Keys,
        prompt_key: PromptHeads,
        prompt_value: PromptHeads,
        scale: float | None,
        log_gates: LogGates = None,
    ) -> Heads:
        """PyTorch's fused attention over the tokens seen and the prompts, of which there may be none.

        `log_gates` are added to the scores of the prompts.
        """

    @abstractmethod
    def forward(self, query: Heads, key: Keys, value: Keys, scale: float) -> tuple[Heads, Rows]:
        """Attention over the tokens alone, and the logarithm of the sum of the exponentials of the scores, fp32 at least."""

    @abstractmethod
    def backward(
        self, gradient: Heads, query: Heads, key: Keys, value: Keys, mean: Heads, log_sum: Rows, scale: float
    ) -> Gradients:
        """Gradients of query, key, value, for d scores = p (gradient . value_j - gradient . mean), p the softmax.

        With `mean` the output of `forward` this is its derivative; another `mean` adds that of the logarithm.
        """


def fast(tensor: Tensor) -> Tensor:
    """In fp32 what is bf16 on a CPU: there the backward of PyTorch's fused attention takes ten times as long in bf16."""
    return tensor.float() if tensor.device.type == "cpu" and tensor.dtype == torch.bfloat16 else tensor


def fused_attention(query: Heads, key: Keys, value: Keys, mask: Mask, scale: float | None) -> Heads:
    """PyTorch's scaled_dot_product_attention."""
    if mask is not None and mask.dtype != torch.bool:
        mask = fast(mask)
    with torch.autocast(query.device.type, enabled=query.device.type != "cpu" and torch.is_autocast_enabled(query.device.type)):
        return F.scaled_dot_product_attention(fast(query), fast(key), fast(value), mask, scale=scale).to(query.dtype)


@dataclass(frozen=True, eq=False)
class Masked(Tokens):
    """Every sample of the batch sees its own tokens, those that `mask` allows (a boolean True, or a float added to scores)."""

    mask: Mask = None

    def attend(
        self,
        query: Heads,
        key: Keys,
        value: Keys,
        prompt_key: PromptHeads,
        prompt_value: PromptHeads,
        scale: float | None,
        log_gates: LogGates = None,
    ) -> Heads:
        """One SDPA over [tokens ; prompts]; the mask lets every query see the prompts."""
        prompts = prompt_key.shape[-2]
        if prompts:
            batch = (key.shape[0], -1, -1, -1)
            key = torch.cat([key, prompt_key.expand(batch)], dim=-2)
            value = torch.cat([value, prompt_value.expand(batch)], dim=-2)
        mask = (
            pad_mask(self.mask, prompts)
            if log_gates is None
            else _gated_mask(self.mask, fast(query), key.shape[2] - prompts, log_gates)
        )
        return fused_attention(query, key, value, mask, scale)

    def forward(self, query: Heads, key: Keys, value: Keys, scale: float) -> tuple[Heads, Rows]:
        """Of the whole batch at once; a query that sees no token gets 0 and the logarithm of 0."""
        inputs = _Inputs(fast(query), fast(key), fast(value), _additive(self.mask, fast(query)), scale)
        output, log_sum = _kernels(query).forward(inputs)
        if inputs.mask is not None:
            log_sum = log_sum.masked_fill((inputs.mask == float("-inf")).all(dim=-1), float("-inf"))
        return output.to(query.dtype), log_sum

    def backward(
        self, gradient: Heads, query: Heads, key: Keys, value: Keys, mean: Heads, log_sum: Rows, scale: float
    ) -> Gradients:
        """Of the whole batch at once."""
        # Where no token is seen every score is -inf; with a finite logarithm exp(score - it) is 0 and not NaN.
        inputs = _Inputs(fast(query), fast(key), fast(value), _additive(self.mask, fast(query)), scale)
        finite = log_sum.nan_to_num(neginf=0.0)
        to_query, to_key, to_value = _kernels(query).backward(inputs, fast(gradient), fast(mean), finite)
        return to_query.to(query.dtype), to_key.to(query.dtype), to_value.to(query.dtype)


@dataclass(frozen=True)
class Group:
    """`count` texts whose own tokens, `length` each, lie one behind the other from `start`."""

    start: int
    count: int
    length: int

    def rows(self, packed: Tensor) -> Tensor:
        """This group's part of (batch, heads, tokens, ...): (batch * count, heads, length, ...), a view where batch is 1."""
        part = packed[:, :, self.start : self.start + self.count * self.length]
        return part.unflatten(2, (self.count, self.length)).transpose(1, 2).flatten(0, 1)


@dataclass(frozen=True, eq=False)
class Packed(Tokens):
    """One long row: `opening` tokens shared by all texts, then the own tokens of each, in groups of equal length.

    Causal: a token sees the opening and what comes before it in its own text, itself included. The queries are those of all
    tokens, or of the last token of every text alone. Batch is 1 in `forward` and `backward`; `attend` takes many such rows.
    """

    opening: int
    groups: tuple[Group, ...]

    def attend(
        self,
        query: Heads,
        key: Keys,
        value: Keys,
        prompt_key: PromptHeads,
        prompt_value: PromptHeads,
        scale: float | None,
        log_gates: LogGates = None,
    ) -> Heads:
        """One SDPA for the opening and for each group; no token is computed twice, none is padding."""
        outputs = [
            Masked(part.mask(query.device)).attend(
                part.queries.rows(query), part.seen(key), part.seen(value), prompt_key, prompt_value, scale, log_gates
            )
            for part in self._parts(query, key)
        ]
        rows = [output.unflatten(0, (query.shape[0], -1)).transpose(1, 2).flatten(2, 3) for output in outputs]
        return torch.cat(rows, dim=2)

    def forward(self, query: Heads, key: Keys, value: Keys, scale: float) -> tuple[Heads, Rows]:
        """Part by part, into one row."""
        output, log_sum = like_heads(query), query.new_empty(query.shape[:-1], dtype=wide(query))
        for part in self._parts(query, key):
            tokens, rows = Masked(part.mask(query.device)), part.queries.rows(query)
            own_output, own_sum = tokens.forward(rows, part.seen(key), part.seen(value), scale)
            part.queries.rows(output).copy_(own_output)
            part.queries.rows(log_sum).copy_(own_sum)
        return output, log_sum

    def backward(
        self, gradient: Heads, query: Heads, key: Keys, value: Keys, mean: Heads, log_sum: Rows, scale: float
    ) -> Gradients:
        """Part by part; the opening's keys and values gather from all texts."""
        query_grad, key_grad, value_grad = like_heads(query), like_heads(key).zero_(), like_heads(value).zero_()
        for part in self._parts(query, key):
            own_gradient, own_query, own_mean, own_sum = map(part.queries.rows, (gradient, query, mean, log_sum))
            tokens, keys, values = Masked(part.mask(query.device)), part.seen(key), part.seen(value)
            grads = tokens.backward(own_gradient, own_query, keys, values, own_mean, own_sum, scale)
            part.queries.rows(query_grad).copy_(grads[0])
            part.add_gradients(key_grad, grads[1])
            part.add_gradients(value_grad, grads[2])
        return query_grad, key_grad, value_grad

    def _parts(self, query: Heads, key: Keys) -> list["_Part"]:
        """The opening, a text of its own, and every group; without the opening where only last tokens ask."""
        if query.shape[2] == key.shape[2]:
            opening = [_Part(Group(0, 1, self.opening), 0, Group(0, 1, self.opening))] if self.opening else []
            return opening + [_Part(group, self.opening, group) for group in self.groups]
        asked = [sum(group.count for group in self.groups[:index]) for index in range(len(self.groups))]
        return [_Part(Group(start, own.count, 1), self.opening, own) for start, own in zip(asked, self.groups, strict=True)]


@dataclass(frozen=True)
class _Part:
    """Queries of equal number and the tokens they see: the first `opening` of the row, and their own."""

    queries: Group
    opening: int
    own: Group

    def mask(self, device: torch.device) -> Tensor | None:
        """Causal, the opening before all; nothing to hide from a last token."""
        return _causal(self.opening, self.own.length, device) if self.queries.length > 1 else None

    def seen(self, packed: Tensor) -> Tensor:
        """The keys or values, (batch * count, heads, opening + own, head_dim)."""
        opening = packed[:, None, :, : self.opening].expand(-1, self.own.count, -1, -1, -1).flatten(0, 1)
        return torch.cat([opening, self.own.rows(packed)], dim=2)

    def add_gradients(self, packed: Tensor, seen: Tensor) -> None:
        """Adds the gradients of what was `seen` to those of the row."""
        packed[0, :, : self.opening] += seen[:, :, : self.opening].sum(dim=0)
        self.own.rows(packed).add_(seen[:, :, self.opening :])


def pad_mask(mask: Mask, prompts: int) -> Tensor | None:
    """`mask` with `prompts` more keys that every query may see: True in a boolean mask, 0 in a float one."""
    if mask is None:
        return None
    return F.pad(mask, (0, prompts), value=1 if mask.dtype == torch.bool else 0)


def _gated_mask(mask: Mask, query: Heads, tokens: int, log_gates: Tensor) -> Tensor:
    """`mask` as numbers to add to the scores of so many tokens, then the `log_gates` for those of the prompts."""
    if mask is None:
        mask = query.new_zeros(1, 1, 1, tokens)
    added = mask.to(query.dtype) if mask.dtype != torch.bool else _additive(mask, query)
    assert added is not None
    return torch.cat([added, log_gates.to(query.dtype).expand(*added.shape[:-1], -1)], dim=-1)


@lru_cache(maxsize=256)
def _causal(opening: int, length: int, device: torch.device) -> Tensor:
    """(1, 1, length, opening + length): True for the opening, the token itself and those before it."""
    with torch.inference_mode(False):  # else a prediction could leave a tensor that training must not use
        return torch.ones(1, 1, length, opening + length, dtype=torch.bool, device=device).tril(opening)


def wide(tensor: Tensor) -> torch.dtype:
    """The tensor's precision, fp32 at least."""
    return torch.promote_types(tensor.dtype, torch.float32)


def like_heads(query: Tensor) -> Tensor:
    """An empty tensor of the query's shape that lies in memory as (batch, tokens, heads, head_dim), as projections want it."""
    return query.new_empty(query.transpose(1, 2).shape).transpose(1, 2)


def _additive(mask: Mask, query: Tensor) -> Tensor | None:
    """The mask as a number to add to the scores: 0 or -inf for a boolean one."""
    if mask is None or mask.dtype != torch.bool:
        return None if mask is None else mask.to(query.dtype)
    return torch.zeros(mask.shape, dtype=query.dtype, device=query.device).masked_fill_(~mask, float("-inf"))


@dataclass(frozen=True)
class _Inputs:
    """Of an attention; the mask is added to the scores."""

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    scale: float


class _FlashOnCpu:
    """PyTorch's flash attention for CPUs: no score matrix is ever stored. Its backward reads `out` for out . gradient only."""

    @staticmethod
    def forward(x: _Inputs) -> tuple[Tensor, Tensor]:
        """The output and the log-sum, as `Tokens.forward`."""
        flash: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        output, log_sum = flash(x.query, x.key, x.value, 0.0, False, attn_mask=x.mask, scale=x.scale)
        return output, log_sum

    @staticmethod
    def backward(x: _Inputs, gradient: Tensor, mean: Tensor, log_sum: Tensor) -> Gradients:
        """As `Tokens.backward`."""
        flash: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        return flash(gradient, x.query, x.key, x.value, mean, log_sum, 0.0, False, attn_mask=x.mask, scale=x.scale)


class _Plain:
    """The formulas written out, for any device; the scores are computed again in the backward, not kept."""

    @staticmethod
    def forward(x: _Inputs) -> tuple[Tensor, Tensor]:
        """The output and the log-sum, as `Tokens.forward`."""
        scores = _scores(x)
        log_sum = scores.logsumexp(dim=-1)
        probs = torch.exp(scores - log_sum.nan_to_num(neginf=0.0)[..., None])
        return probs.to(x.value.dtype) @ x.value, log_sum

    @staticmethod
    def backward(x: _Inputs, gradient: Tensor, mean: Tensor, log_sum: Tensor) -> Gradients:
        """As `Tokens.backward`."""
        probs = torch.exp(_scores(x) - log_sum[..., None])
        inner = (gradient.to(probs.dtype) * mean).sum(dim=-1, keepdim=True)
        scores_grad = (probs * ((gradient @ x.value.mT).to(probs.dtype) - inner) * x.scale).to(x.query.dtype)
        return scores_grad @ x.key, scores_grad.mT @ x.query, probs.to(gradient.dtype).mT @ gradient


def _scores(x: _Inputs) -> Tensor:
    scores = (x.query @ x.key.mT).to(wide(x.query)) * x.scale
    return scores if x.mask is None else scores + x.mask


def _kernels(query: Tensor) -> type[_FlashOnCpu] | type[_Plain]:
    return _FlashOnCpu if query.device.type == "cpu" else _Plain
