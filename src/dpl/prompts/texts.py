"""The sentences of all classes, as the text branch computes them: packed behind their shared opening, no token twice.

In a causal branch that pools at EOS, no token sees what comes after it. So the opening tokens that all sentences share ("a
photo of a") have the same states in all of them and are computed once, every sentence ends at its EOS, and nothing is padded:
one row of tokens, the opening first, then the own tokens of each sentence. Exact, with prompts as without.
"""

from collections.abc import Sequence
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
        sequences = backbone.tokenize(sentences)
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
        self.tokens = Packed(opening, tuple(groups))
        self.ids, self.positions = (torch.tensor([row], device=backbone.device) for row in (ids, positions))
        self.ends = torch.tensor(ends, device=backbone.device)
        self._unsorted = torch.tensor(order, device=backbone.device).argsort()  # back to the order they were given in
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
