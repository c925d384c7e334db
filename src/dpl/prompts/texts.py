"""Computes the text embeddings of all classes in one packed row, every token once.

In a causal branch that pools at EOS, no token sees later tokens. So the first tokens that all sentences share ("a photo of a")
have the same states in every sentence and are computed once, every sentence ends at its EOS, and nothing is padded. The row
holds the shared opening, then the remaining tokens of each sentence. The result is exact, with and without prompts.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import groupby
from os.path import commonprefix
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dpl.backbones.loading import Backbone
from dpl.prompts.inject import prompted
from dpl.prompts.modules import BranchPrompts
from dpl.prompts.visibility import Group, Packed


@dataclass(frozen=True)
class Packing:
    """Texts packed into one row: their shared opening, then the other tokens of each text, from the shortest text to the longest.

    Attributes:
        tokens: the tokens of the row that each query attends to.
        ids: the token ids of the row.
        positions: the position of each token in its own text.
        ends: the index in the row of each text's last token, in packed order.
        order: the indices of the texts, in packed order.
    """

    tokens: Packed
    ids: list[int]
    positions: list[int]
    ends: list[int]
    order: list[int]

    def tensors(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns the numbers as tensors.

        Args:
            device: the device of the tensors.

        Returns:
            `ids`, (1, tokens); `positions`, (1, tokens); `ends`, (texts,); and the indices that restore the original order,
            (texts,).
        """
        ids, positions, ends, order = (
            torch.tensor(numbers, device=device) for numbers in (self.ids, self.positions, self.ends, self.order)
        )
        return ids[None], positions[None], ends, order.argsort()


def pack(sequences: Sequence[list[int]]) -> Packing:
    """Packs texts whose embeddings are read at their last tokens.

    Args:
        sequences: the token ids of each text, at least one.

    Returns:
        The row, and the place of every text in it.

    Example: two sentences share their first two tokens.

        >>> packing = pack([[1, 2, 3, 9], [1, 2, 9]])
        >>> packing.ids, packing.positions
        ([1, 2, 9, 3, 9], [0, 1, 2, 2, 3])
        >>> packing.ends, packing.order
        ([2, 4], [1, 0])
    """
    opening = min(len(commonprefix(sequences)), min(map(len, sequences)) - 1)  # every text keeps its own EOS
    order = sorted(range(len(sequences)), key=lambda index: len(sequences[index]))
    own = [sequences[index][opening:] for index in order]
    ids, positions, ends, groups = list(sequences[0][:opening]), list(range(opening)), [], []
    for length, rows in groupby(own, key=len):
        start, count = len(ids), 0
        for row in rows:
            ids += row
            positions += range(opening, opening + length)
            ends.append(len(ids) - 1)
            count += 1
        groups.append(Group(start, count, length))
    return Packing(Packed(opening, tuple(groups)), ids, positions, ends, order)


class Texts:
    """Sentences for the text branch of a backbone.

    Args:
        backbone: the frozen backbone.
        sentences: the texts, one per class.

    Raises:
        DplError: a sentence is too long for the backbone, or would not be pooled at its end.
    """

    ids: Int[Tensor, "1 tokens"]
    """All tokens: the opening, then the sentences from the shortest to the longest."""
    positions: Int[Tensor, "1 tokens"]
    """The position of each token in its own sentence."""
    ends: Int[Tensor, "sentences"]
    """The index of each sentence's EOS, in packed order."""
    tokens: Packed
    """The tokens that each query attends to."""

    def __init__(self, backbone: Backbone, sentences: Sequence[str]) -> None:
        self._backbone = backbone
        packing = pack(backbone.tokenize(sentences))
        self.tokens = packing.tokens
        self.ids, self.positions, self.ends, self._unsorted = packing.tensors(backbone.device)
        self._kept: tuple[int, Tensor] | None = None  # (layer, states in front of it), or (depth, features)

    def prompted(self, prompts: BranchPrompts) -> AbstractContextManager[None]:
        """Context manager: the text branch has `prompts` inside, for these sentences; see `dpl.prompts.inject.prompted`."""
        return prompted(self._backbone.text, prompts, self.tokens)

    def features(self, prompts: BranchPrompts) -> Float[Tensor, "sentences dim"]:
        """Computes the projected embeddings, (sentences, dim), not normalised.

        The first call computes the states in front of the first layer with prompts and keeps them for later calls.

        Args:
            prompts: the text prompts; call it inside `prompted`.
        """
        depth = len(prompts.layers)
        first = next((index for index, layer in enumerate(prompts.layers) if len(layer.prompts)), depth)
        if self._kept is None or self._kept[0] != first:
            with torch.inference_mode(False), torch.no_grad(), self._backbone.autocast():
                states = self._embeddings()
                self._kept = first, self._read(states, 0) if first == depth else self._backbone.text.states(states, 0, first)
        kept = self._kept[1]
        if first == depth:
            return kept
        with self._backbone.autocast():
            return self._read(kept, first)

    def _embeddings(self) -> Tensor:
        embed: Any = self._backbone.clip.text_model.embeddings
        # A column, because transformers rejects rows longer than the backbone's positions.
        return embed(input_ids=self.ids.mT, position_ids=self.positions.mT).transpose(0, 1)

    def _read(self, states: Tensor, first: int) -> Tensor:
        """Computes the embeddings, in the order of the sentences, from the states in front of layer `first`."""
        clip = self._backbone.clip
        pooled = clip.text_model.final_layer_norm(self._backbone.text.read(states, self.ends, first)[0])
        with torch.autocast(pooled.device.type, enabled=False):
            return clip.text_projection(pooled.to(clip.text_projection.weight.dtype))[self._unsorted]
