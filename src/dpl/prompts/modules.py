"""The learned part of one branch: fixed prompts of a layout, prompts to be pruned, or the mixture over prompt options."""

from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dpl.prompts.attention import fixed_attention, mixture_attention
from dpl.prompts.layout import check_options
from dpl.prompts.tokens import Heads, Keys, PromptHeads, Tokens

PROMPT_STD = 0.02
ALPHA_STD = 1e-3


class LayerPrompts(nn.Module):
    """What the injection needs of one layer: its `prompts`, rows before LN1, and how to attend to them.

    With `log_gates`, (rows,), row r counts exp(log_gates_r) times; none: once.
    """

    prompts: nn.Parameter
    log_gates: Tensor | None = None

    def __init__(self, rows: int, width: int, std: float, generator: torch.Generator | None) -> None:
        super().__init__()
        self.prompts = nn.Parameter(torch.randn(rows, width, generator=generator) * std)

    def attend(
        self,
        query: Heads,
        key: Keys,
        value: Keys,
        prompt_key: PromptHeads,
        prompt_value: PromptHeads,
        tokens: Tokens,
        scale: float | None,
    ) -> Heads:
        """Attention over tokens and prompts; `prompt_key` and `prompt_value` are the layer's projections of `prompts`."""
        return fixed_attention(query, key, value, prompt_key, prompt_value, tokens, scale, self.log_gates)


class MixtureLayer(LayerPrompts):
    """The prompts of all options of one layer, (sum of options, width), and its row of alphas, (options,)."""

    def __init__(self, options: Sequence[int], width: int, std: float, generator: torch.Generator | None) -> None:
        super().__init__(sum(options), width, std, generator)
        self.options = tuple(options)
        self.alphas = nn.Parameter(torch.randn(len(options), generator=generator) * ALPHA_STD)

    def attend(
        self,
        query: Heads,
        key: Keys,
        value: Keys,
        prompt_key: PromptHeads,
        prompt_value: PromptHeads,
        tokens: Tokens,
        scale: float | None,
    ) -> Heads:
        """The mixture over the options, weighted by softmax(alphas)."""
        weights = self.alphas.softmax(dim=-1)
        return mixture_attention(query, key, value, prompt_key, prompt_value, weights, self.options, tokens, scale)


class PrunableLayer(LayerPrompts):
    """As many prompts as a layer may have at most, and the share that each has of the saliency of all layers, (rows,)."""

    saliency: Tensor

    def __init__(self, rows: int, width: int, std: float, generator: torch.Generator | None) -> None:
        super().__init__(rows, width, std, generator)
        self.register_buffer("saliency", torch.zeros(rows))


Layer = TypeVar("Layer", bound=LayerPrompts)


class BranchPrompts(nn.Module, Generic[Layer]):
    """The learned part of one branch: `layers`, in the order of the transformer's."""

    layers: Sequence[Layer]

    def __init__(self, layers: Iterable[Layer]) -> None:
        super().__init__()
        self.layers = cast(Sequence[Layer], nn.ModuleList(layers))


class FixedPrompts(BranchPrompts[LayerPrompts]):
    """Prompts in a given layout: `lengths` tokens of `width` per layer, started at N(0, std^2)."""

    def __init__(
        self,
        lengths: Sequence[int],
        width: int,
        std: float = PROMPT_STD,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(LayerPrompts(length, width, std, generator) for length in lengths)


class PrunablePrompts(BranchPrompts[PrunableLayer]):
    """`rows` prompts in each of `depth` layers, of which a search keeps the most salient; started at N(0, std^2)."""

    def __init__(
        self, depth: int, rows: int, width: int, std: float = PROMPT_STD, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(PrunableLayer(rows, width, std, generator) for _ in range(depth))


class PromptMixture(BranchPrompts[MixtureLayer]):
    """Searchable prompts: every layer owns prompts for every option and a row of alphas.

    `options` are context lengths, ascending from 0 (`DplError` otherwise); prompts start at N(0, std^2), alphas at
    1e-3 N(0, 1).
    """

    def __init__(
        self,
        depth: int,
        options: Sequence[int],
        width: int,
        std: float = PROMPT_STD,
        generator: torch.Generator | None = None,
    ) -> None:
        options = check_options(options)
        super().__init__(MixtureLayer(options, width, std, generator) for _ in range(depth))
        self.options = options

    @property
    def alphas(self) -> Float[Tensor, "layers options"]:
        """A copy of the raw alphas, one row per layer."""
        return torch.stack([layer.alphas.detach() for layer in self.layers])
