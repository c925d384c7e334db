"""One transformer of a backbone as the prompts see it: its layers, each with LN1 and an attention with K and V."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from dpl.errors import DplError

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From query, key, value, (batch, heads, tokens, head_dim), to what the queries read, (batch, heads, queries, head_dim)."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A transformer layer, the module `block`: `norm` is its LN1, `attention` has `k_proj` and `v_proj`."""

    block: nn.Module
    norm: nn.LayerNorm
    attention: Any

    def read(self, hidden: Tensor, asked: Tensor | slice, attend: Attend | None = None) -> Tensor:
        """The states (batch, len(asked), width) behind this layer at the tokens `asked`, from those in front of it at all tokens.

        Every token is there for keys and values, but only those `asked` ask, and run the MLP. The same sums as transformers'
        CLIPEncoderLayer; without `attend` by the attention function of the model's config, where every token sees every token.
        """
        block: Any = self.block
        normed, residual = self.norm(hidden), hidden[:, asked]
        projections = (self.attention.q_proj, self.attention.k_proj, self.attention.v_proj)
        inputs = zip(projections, (normed[:, asked], normed, normed), strict=True)
        heads = [project(x).unflatten(-1, (-1, self.attention.head_dim)).transpose(1, 2) for project, x in inputs]
        mixed = self._attend(*heads) if attend is None else attend(*heads).transpose(1, 2)
        residual = residual + self.attention.out_proj(mixed.flatten(-2))
        return residual + block.mlp(block.layer_norm2(residual))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(batch, queries, heads, head_dim), as transformers' attention functions return it."""
        own, name = self.attention, self.attention.config._attn_implementation
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(name, sdpa_attention_forward)
        return attend(own, query, key, value, None, scaling=own.scale, dropout=0.0, is_causal=False)[0]


class Branch:
    """The image or text transformer: `layers` in order, token `width`, and the Hugging Face module they live in."""

    def __init__(self, name: str, transformer: nn.Module) -> None:
        """Reads the layers of `transformer` (a CLIP image or text model); `DplError` where it has none that fit."""
        self.name: str = name
        self.transformer: Any = transformer
        blocks = getattr(getattr(transformer, "encoder", None), "layers", ())
        try:
            self.layers = tuple(Layer(block, block.layer_norm1, block.self_attn) for block in blocks)
            self.width: int = self.layers[0].attention.k_proj.in_features
        except (AttributeError, IndexError):
            kind = type(transformer).__name__
            raise DplError(f"{kind}: has no layers with layer_norm1 and self_attn.k_proj; use a CLIP model") from None

    def states(self, hidden: Tensor, first: int = 0, last: int | None = None) -> Tensor:
        """The states (batch, tokens, width) behind layer `last` - 1, from those in front of layer `first`."""
        for layer in self.layers[first:last]:
            hidden = layer.block(hidden, None)
        return hidden

    def read(self, hidden: Tensor, tokens: Tensor, first: int = 0) -> Tensor:
        """The states (batch, len(tokens), width) behind the last layer at `tokens`, from those in front of layer `first`.

        The last layer is asked for `tokens` only: the others would reach nobody.
        """
        return self.layers[-1].read(self.states(hidden, first, self.depth - 1), tokens)

    @property
    def depth(self) -> int:
        """How many layers there are."""
        return len(self.layers)
