"""One transformer of a backbone as the prompts see it: its layers, each with LN1 and an attention with K and V."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from dpl.errors import DplError


@dataclass(frozen=True, eq=False)
class Layer:
    """A transformer layer: `norm` is its LN1, `attention` has `k_proj` and `v_proj`."""

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
            self.layers = tuple(Layer(block.layer_norm1, block.self_attn) for block in blocks)
            self.width: int = self.layers[0].attention.k_proj.in_features
        except (AttributeError, IndexError):
            kind = type(transformer).__name__
            raise DplError(f"{kind}: has no layers with layer_norm1 and self_attn.k_proj; use a CLIP model") from None

    @property
    def depth(self) -> int:
        """How many layers there are."""
        return len(self.layers)
