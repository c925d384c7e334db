"""One transformer of a backbone as the prompts see it: its layers, each with LN1 and an attention with K and V."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from dpl.errors import DplError


@dataclass(frozen=True, eq=False)
class Layer:
    """A transformer layer, the module `block`: `norm` is its LN1, `attention` has `k_proj` and `v_proj`."""

    block: nn.Module
    norm: nn.LayerNorm
    attention: Any


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

        The last layer has every token for keys and values, but asks, and runs its MLP, for `tokens` only: the others would
        reach nobody. The same sums as transformers' CLIPEncoderLayer.
        """
        hidden = self.states(hidden, first, self.depth - 1)
        block: Any = self.layers[-1].block
        attention, normed, residual = block.self_attn, block.layer_norm1(hidden), hidden[:, tokens]
        inputs = zip((attention.q_proj, attention.k_proj, attention.v_proj), (normed[:, tokens], normed, normed), strict=True)
        heads = [project(x).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2) for project, x in inputs]
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(attention.config._attn_implementation, sdpa_attention_forward)
        mixed, _ = attend(attention, *heads, None, scaling=attention.scale, dropout=0.0, is_causal=False)
        residual = residual + attention.out_proj(mixed.flatten(-2))
        return residual + block.mlp(block.layer_norm2(residual))

    @property
    def depth(self) -> int:
        """How many layers there are."""
        return len(self.layers)
