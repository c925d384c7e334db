"""The interface to one transformer: its layers, each with the norm in front of its attention, and K and V projections."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from dpl.utils.errors import DplError

NORMS = ("layer_norm1", "layernorm_before", "norm1", "input_layernorm")
"""The names that transformers gives to the norm in front of a layer's attention."""
PROJECTIONS = (("k_proj", "v_proj"), ("key", "value"))
"""The names of an attention's K and V projections; the second pair is older."""
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""An attention function: query, key and value, (batch, heads, tokens, head_dim), to output, (batch, heads, queries, head_dim)."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A transformer layer.

    Attributes:
        block: the whole layer.
        norm: the norm in front of its attention, a LayerNorm or RMSNorm.
        attention: its attention.
        projections: the names of the attention's K and V projections.
    """

    block: nn.Module
    norm: Any
    attention: Any
    projections: tuple[str, str] = PROJECTIONS[0]

    def read(self, hidden: Tensor, asked: Tensor | slice, attend: Attend | None = None) -> Tensor:
        """Computes the layer's output at the tokens `asked` only, with the formulas of transformers' CLIPEncoderLayer.

        All tokens are keys and values; only the tokens `asked` are queries and pass through the MLP.

        Args:
            hidden: (batch, tokens, width), the layer's input at all tokens.
            asked: indices of tokens.
            attend: the attention; None for the attention function of the model's config, where every token sees every token.

        Returns:
            (batch, len(asked), width).
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
        """Returns (batch, queries, heads, head_dim), as transformers' attention functions do."""
        own, name = self.attention, self.attention.config._attn_implementation
        attend = ALL_ATTENTION_FUNCTIONS.get(name, sdpa_attention_forward)
        return attend(own, query, key, value, None, scaling=own.scale, dropout=0.0, is_causal=False)[0]


class Branch:
    """A stack of transformer layers: the image or text transformer of a backbone.

    Attributes:
        name: "image" or "text".
        transformer: the Hugging Face module that contains the layers.
        layers: the layers, in order.
        width: width of a token.
    """

    def __init__(self, name: str, transformer: nn.Module, layers: Sequence[Layer] | None = None) -> None:
        """Creates the branch.

        Args:
            name: "image" or "text".
            transformer: the module that contains the layers.
            layers: the layers; by default those of the only stack in `transformer`.

        Raises:
            DplError: the module has no stack of layers that is understood, or several.
        """
        if layers is None:
            stacks = find_stacks(transformer)
            if len(stacks) > 1:
                raise DplError(f"{type(transformer).__name__}: has {len(stacks)} stacks of layers; give the module of one")
            layers = stacks[0]
        self.name: str = name
        self.transformer: Any = transformer
        self.layers = tuple(layers)
        self.width: int = getattr(self.layers[0].attention, self.layers[0].projections[0]).in_features

    def states(self, hidden: Tensor, first: int = 0, last: int | None = None) -> Tensor:
        """Runs layers `first` to `last` - 1 on the states in front of layer `first`.

        Args:
            hidden: (batch, tokens, width).
            first: index of the first layer.
            last: index behind the last layer; None for all.

        Returns:
            (batch, tokens, width).
        """
        for layer in self.layers[first:last]:
            hidden = layer.block(hidden, None)
        return hidden

    def read(self, hidden: Tensor, tokens: Tensor, first: int = 0) -> Tensor:
        """Runs the layers from `first` on; computes the last one at `tokens` only, since nothing reads its other outputs.

        Args:
            hidden: (batch, tokens, width), the states in front of layer `first`.
            tokens: indices of tokens.
            first: index of the first layer, at most `depth` - 1.

        Returns:
            (batch, len(tokens), width).
        """
        return self.layers[-1].read(self.states(hidden, first, self.depth - 1), tokens)

    @property
    def config(self) -> Any:
        """The config that the attentions of all layers share at present."""
        return self.layers[0].attention.config

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self.layers)


def find_branches(model: nn.Module) -> tuple[Branch, ...]:
    """Finds the transformers of a model: "image" for one whose config has a patch size, "text" for any other.

    Args:
        model: a model of transformers.

    Returns:
        The branches, one or two, with different names.

    Raises:
        DplError: a layer is not understood, or there are two branches of one kind.
    """
    branches = [Branch("image" if hasattr(stack[0].attention.config, "patch_size") else "text", model, stack)
                for stack in find_stacks(model)]  # fmt: skip
    names = [branch.name for branch in branches]
    if len(set(names)) < len(names):
        raise DplError(
            f"{type(model).__name__}: has {len(names)} stacks of layers, {' and '.join(names)}; give the module of one"
        )
    return tuple(branches)


def find_stacks(model: nn.Module) -> list[tuple[Layer, ...]]:
    """Finds the stacks of layers of a model: the module lists whose elements all have one attention behind a norm.

    Args:
        model: a module of transformers.

    Returns:
        The layers of every stack, at least one stack.

    Raises:
        DplError: there is no such stack, the attention has no K and V projections of its own, it norms keys or does not use the
            attention functions of transformers.
    """
    lists = [part for part in model.modules() if isinstance(part, nn.ModuleList) and len(part)]
    read = [(part, [layer for block in part if (layer := _layer(block))]) for part in lists]
    stacks = [tuple(layers) for part, layers in read if len(layers) == len(part)]
    kind = type(model).__name__
    if not stacks:
        needed = f"a norm ({', '.join(NORMS)}) and one attention with {' or '.join('/'.join(pair) for pair in PROJECTIONS)}"
        raise DplError(f"{kind}: has no layers with {needed}; prompts cannot be attached to it")
    for stack in stacks:
        if any(hasattr(layer.attention, "k_norm") for layer in stack):
            raise DplError(f"{kind}: its attention norms keys (k_norm); prompts cannot be attached to it")
        if not all(hasattr(layer.attention, "config") for layer in stack):
            raise DplError(
                f"{kind}: its attention has no config that names an attention function; prompts cannot be attached to it"
            )
    return stacks


def _layer(block: nn.Module) -> Layer | None:
    """Reads a layer; None if it has no known norm, or not exactly one attention."""
    norm = next((getattr(block, name) for name in NORMS if hasattr(block, name)), None)
    attentions = [(part, pair) for part in block.modules() for pair in PROJECTIONS if _projects(part, pair)]
    return Layer(block, norm, *attentions[0]) if norm is not None and len(attentions) == 1 else None


def _projects(part: nn.Module, names: tuple[str, str]) -> bool:
    return all(hasattr(getattr(part, name, None), "in_features") for name in names)
