"""The sentences of all classes, as the text branch computes them: packed behind their shared opening, no token twice.

In a causal branch that pools at EOS, no token sees what comes after it. So the opening tokens that all sentences share ("a
photo of a") have the same states in all of them and are computed once, every sentence ends at its EOS, and nothing is padded:
one row of tokens, the opening first, then the own tokens of each sentence. Exact, with prompts as without.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from os.path import commonprefix
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dpl.backbones.loading import Backbone
from dpl.prompts.inject import Attachment, attach
from dpl.prompts.modules import BranchPrompts
from dpl.prompts.tokens import Group, Packed


@dataclass(frozen=True)
class Packing:
    """Texts in one row of `ids`: their shared opening, then the own tokens of each, from the shortest text to the longest.

    `positions` are the places of the tokens in their own texts, `ends` where in the row each text ends, in the order that they
    are packed in, `order` the numbers of the texts in that order.
    """

    tokens: Packed
    ids: list[int]
    positions: list[int]
    ends: list[int]
    order: list[int]

    def tensors(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`ids` and `positions`, (1, tokens); `ends`, (texts,); and, (texts,), where each text is in the order given first."""
        ids, positions, ends, order = (
            torch.tensor(numbers, device=device) for numbers in (self.ids, self.positions, self.ends, self.order)
        )
        return ids[None], positions[None], ends, order.argsort()


def pack(sequences: Sequence[list[int]]) -> Packing:
    """Packs texts that are read at their last tokens."""
    opening = min(len(commonprefix(sequences)), min(map(len, sequences)) - 1)  # an EOS of its own for everyone
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
    """`sentences` for the text branch of `backbone`; `DplError` for one that is too long."""

    ids: Int[Tensor, "1 tokens"]
    """All tokens: the opening, then the sentences from the shortest to the longest."""
    positions: Int[Tensor, "1 tokens"]
    """The place of each token in its own sentence."""
    ends: Int[Tensor, "sentences"]
    """Where the EOS of each sentence is, in the order that they are packed in."""
    tokens: Packed
    """Which token sees which."""

    def __init__(self, backbone: Backbone, sentences: Sequence[str]) -> None:
        self._backbone = backbone
        packing = pack(backbone.tokenize(sentences))
        self.tokens = packing.tokens
        self.ids, self.positions, self.ends, self._unsorted = packing.tensors(backbone.device)
        self._kept: tuple[int, Tensor] | None = None  # states in front of this layer, or the features if it is the depth

    def attach(self, prompts: BranchPrompts) -> Attachment:
        """Hangs `prompts` on the text branch, for these sentences."""
        return attach(self._backbone.text, prompts, self.tokens)

    def features(self, prompts: BranchPrompts) -> Float[Tensor, "sentences dim"]:
        """Projected embeddings, not of unit length, with the `prompts`, which must be attached.

        What lies in front of the first layer with prompts is computed in the first call and kept.
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
        # As a column: transformers takes no row that is longer than the backbone has positions.
        return embed(input_ids=self.ids.mT, position_ids=self.positions.mT).transpose(0, 1)

    def _read(self, states: Tensor, first: int) -> Tensor:
        """From the states in front of layer `first` to the embeddings, in the order of the sentences."""
        clip = self._backbone.clip
        pooled = clip.text_model.final_layer_norm(self._backbone.text.read(states, self.ends, first)[0])
        with torch.autocast(pooled.device.type, enabled=False):
            return clip.text_projection(pooled.to(clip.text_projection.weight.dtype))[self._unsorted]
