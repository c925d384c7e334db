"""The learned part of one branch: fixed prompts of a layout, or the searchable mixture over prompt options."""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dpl.prompts.attention import fixed_attention, mixture_attention
from dpl.prompts.layout import check_options
from dpl.prompts.tokens import Heads, Keys, PromptHeads, Tokens

PROMPT_STD = 0.02
ALPHA_STD = 1e-3


class LayerPrompts(nn.Module):
    """What the injection needs of one layer: its `prompts`, rows before LN1, and how to attend to them."""

    prompts: nn.Parameter

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
        return fixed_attention(query, key, value, prompt_key, prompt_value, tokens, scale)


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


class FixedPrompts(nn.Module):
    """Prompts of one branch in a given layout: `lengths` tokens of `width` per layer, started at N(0, std^2)."""

    def __init__(
        self,
        lengths: Sequence[int],
        width: int,
        std: float = PROMPT_STD,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        layers = nn.ModuleList(LayerPrompts(length, width, std, generator) for length in lengths)
        self.layers = cast(Sequence[LayerPrompts], layers)


class PromptMixture(nn.Module):
    """The searchable prompts of one branch: every layer owns prompts for every option and a row of alphas.

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
        super().__init__()
        self.options = check_options(options)
        layers = nn.ModuleList(MixtureLayer(self.options, width, std, generator) for _ in range(depth))
        self.layers = cast(Sequence[MixtureLayer], layers)

    @property
    def alphas(self) -> Float[Tensor, "layers options"]:
        """A copy of the raw alphas, one row per layer."""
        return torch.stack([layer.alphas.detach() for layer in self.layers])
