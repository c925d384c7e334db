"""Attaches new prompts to a model of transformers: `dpl.attach_prompts`, for training loops of one's own."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Self

from torch import nn

from dpl.backbones.branch import Branch, find_branches
from dpl.prompts.inject import Attachment, attach
from dpl.prompts.layout import PromptLayout, check_lengths
from dpl.prompts.modules import FixedPrompts
from dpl.utils.errors import DplError
from dpl.utils.rng import generator

LayoutLike = PromptLayout | Mapping[str, Sequence[int]] | Sequence[int] | int
"""A layout; lengths by branch, "image" or "text"; the lengths of the only branch; or one length for all layers."""


class AttachedPrompts(nn.Module):
    """Prompts in the layers of a model, as made by `attach_prompts`.

    The parameters are those of the prompts alone, with the names that they have in a run's prompts.safetensors. The end of a
    `with` block detaches the prompts.

    Attributes:
        image: the prompts of the image branch, if the model has one.
        text: the prompts of the text branch, if the model has one.
        layout: the number of prompts of every layer, by branch.
    """

    def __init__(self, branches: Sequence[Branch], layout: Mapping[str, Sequence[int]], std: float, seed: int) -> None:
        super().__init__()
        self.layout = {branch.name: tuple(layout[branch.name]) for branch in branches}
        self._attachments: list[Attachment] = []
        with ExitStack() as undo:
            for branch in branches:
                prompts = FixedPrompts(layout[branch.name], branch.width, std, generator(seed, "prompts", branch.name))
                self.add_module(branch.name, prompts.to(next(branch.layers[0].block.parameters()).device))
                attachment = attach(branch, prompts)
                undo.callback(attachment.detach)
                self._attachments.append(attachment)
            undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    def detach(self) -> None:
        """Removes the prompts from the model, which is then as before. The prompts keep their values."""
        for attachment in self._attachments:
            attachment.detach()
        self._attachments = []

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Context manager: the model runs without the prompts, for example as a frozen teacher."""
        with ExitStack() as stack:
            for attachment in self._attachments:
                stack.enter_context(attachment.disabled())
            yield

    def forward(self, *_: Any, **__: Any) -> Any:
        """Raises DplError: the model that has the prompts is called, not the prompts."""
        raise DplError("prompts are no model: call the model that they are attached to")


def attach_prompts(model: nn.Module, layout: LayoutLike, *, std: float = 0.05, seed: int = 1) -> AttachedPrompts:
    """Attaches new prompts to the layers of a model of transformers: keys and values that every token of a layer sees.

    The model's own calls use the prompts until they are detached. Its code, weights and `state_dict` stay as they are. It must be
    in eval mode if its attention has dropout. With rotary positions the prompts have position 0.

    Args:
        model: a model whose attention goes through `transformers.AttentionInterface`, with K and V projections behind a norm:
            CLIP, SigLIP, ViT, DINOv2, Llama, Mistral, Qwen2 and others of this form.
        layout: the number of prompts of every layer. One number stands for all layers; a sequence, for those of a model with one
            branch; a mapping or a `PromptLayout`, for the branches "image" and "text".
        std: standard deviation of the initial prompts, N(0, std^2).
        seed: seed of the initial prompts.

    Returns:
        The attached prompts, a module whose parameters one trains.

    Raises:
        DplError: the model is not of this form, the layout does not fit it, or it has prompts already.

    Example:
        >>> import dpl
        >>> clip = dpl.load_backbone("tiny").clip
        >>> with dpl.attach_prompts(clip, {"image": [2, 0, 0, 0, 0, 1]}) as prompts:
        ...     sum(parameter.numel() for parameter in prompts.parameters())
        384
    """
    branches = {branch.name: branch for branch in find_branches(model)}
    lengths = _by_branch(layout, branches)
    return AttachedPrompts([branches[name] for name in lengths], lengths, std, seed)


def _by_branch(layout: LayoutLike, branches: Mapping[str, Branch]) -> dict[str, tuple[int, ...]]:
    """Returns the lengths of every branch that gets prompts; raises DplError if they do not fit."""
    if isinstance(layout, PromptLayout):
        layout = {"image": layout.image, "text": layout.text}
    elif not isinstance(layout, Mapping):
        if not isinstance(layout, int) and len(branches) > 1:
            raise DplError('layout: the model has two branches; give {"image": [..], "text": [..]}')
        layout = {name: (layout,) * branch.depth if isinstance(layout, int) else layout for name, branch in branches.items()}
    found: dict[str, tuple[int, ...]] = {}
    for name, lengths in layout.items():
        if name not in branches:
            raise DplError(f"layout: the model has no branch {name!r}, but {' and '.join(branches)}")
        found[name] = check_lengths(name, lengths)
        if len(found[name]) != branches[name].depth:
            raise DplError(f"layout: {name} has {len(found[name])} lengths for {branches[name].depth} layers; give one per layer")
    return found
