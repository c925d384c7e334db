"""The learned parameters of one branch: fixed prompts of a layout, prunable prompts, or a mixture over prompt options."""

from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dpl.prompts.attention import fixed_attention, mixture_attention
from dpl.prompts.layout import check_options
from dpl.prompts.visibility import Heads, PromptInputs, TokenInputs, TokenVisibility

PROMPT_STD = 0.02
ALPHA_STD = 1e-3


class LayerPrompts(nn.Module):
    """The prompts of one layer, (rows, width), before its LN1, and the attention to them.

    With `log_gates`, (rows,), the term of row r in the softmax is multiplied by exp(log_gates_r); None means by 1.
    """

    prompts: nn.Parameter
    log_gates: Tensor | None = None

    def __init__(self, rows: int, width: int, std: float, generator: torch.Generator | None) -> None:
        super().__init__()
        self.prompts = nn.Parameter(torch.randn(rows, width, generator=generator) * std)

    def attend(self, tokens: TokenInputs, prompts: PromptInputs, visibility: TokenVisibility) -> Heads:
        """Attends to tokens and prompts.

        Args:
            tokens: queries, keys and values of the tokens.
            prompts: `prompts` after the layer's LN1 and its K and V projections, with `log_gates`.
            visibility: the tokens that each query attends to.

        Returns:
            (batch, heads, queries, head_dim).
        """
        parts = (tokens.query, tokens.key, tokens.value, prompts.key, prompts.value)
        return fixed_attention(*parts, visibility, tokens.scale, prompts.log_gates)


class MixtureLayer(LayerPrompts):
    """The prompts of all options of one layer, (sum of options, width), and its alphas, (options,)."""

    def __init__(self, options: Sequence[int], width: int, std: float, generator: torch.Generator | None) -> None:
        super().__init__(sum(options), width, std, generator)
        self.options = tuple(options)
        self.alphas = nn.Parameter(torch.randn(len(options), generator=generator) * ALPHA_STD)

    def attend(self, tokens: TokenInputs, prompts: PromptInputs, visibility: TokenVisibility) -> Heads:
        """Attends to tokens and prompts as the mixture over the options, weighted by softmax(alphas)."""
        parts = (tokens.query, tokens.key, tokens.value, prompts.key, prompts.value)
        return mixture_attention(*parts, self.alphas.softmax(dim=-1), self.options, visibility, tokens.scale)


class PrunableLayer(LayerPrompts):
    """The maximum number of prompts in one layer, and `saliency`, (rows,): each prompt's share of the saliency of all layers."""

    saliency: Tensor

    def __init__(self, rows: int, width: int, std: float, generator: torch.Generator | None) -> None:
        super().__init__(rows, width, std, generator)
        self.register_buffer("saliency", torch.zeros(rows))


Layer = TypeVar("Layer", bound=LayerPrompts)


class BranchPrompts(nn.Module, Generic[Layer]):
    """The learned parameters of one branch: `layers`, in the order of the transformer's layers."""

    layers: Sequence[Layer]

    def __init__(self, layers: Iterable[Layer]) -> None:
        super().__init__()
        self.layers = cast(Sequence[Layer], nn.ModuleList(layers))


class FixedPrompts(BranchPrompts[LayerPrompts]):
    """Prompts in a given layout, initialised at N(0, std^2).

    Args:
        lengths: number of prompts in each layer.
        width: token width of the branch.
        std: standard deviation of the initial values.
        generator: source of the random draws; None is PyTorch's global one.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        width: int,
        std: float = PROMPT_STD,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(LayerPrompts(length, width, std, generator) for length in lengths)


class PrunablePrompts(BranchPrompts[PrunableLayer]):
    """Prompts for the pruning search, which keeps the most salient ones; initialised at N(0, std^2).

    Args:
        depth: number of layers.
        rows: number of prompts in each layer.
        width: token width of the branch.
        std: standard deviation of the initial values.
        generator: source of the random draws; None is PyTorch's global one.
    """

    def __init__(
        self, depth: int, rows: int, width: int, std: float = PROMPT_STD, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(PrunableLayer(rows, width, std, generator) for _ in range(depth))


class PromptMixture(BranchPrompts[MixtureLayer]):
    """Prompts for the mixture search: every layer has prompts for every option and one alpha per option.

    Prompts are initialised at N(0, std^2), alphas at 1e-3 N(0, 1).

    Args:
        depth: number of layers.
        options: context lengths, ascending from 0.
        width: token width of the branch.
        std: standard deviation of the initial prompts.
        generator: source of the random draws; None is PyTorch's global one.

    Raises:
        DplError: the options do not ascend from 0, or there are fewer than two.
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
        """A copy of the raw alphas, (layers, options)."""
        return torch.stack([layer.alphas.detach() for layer in self.layers])
