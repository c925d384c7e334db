"""The floors: a plain frozen forward and backward of Hugging Face's own modules, without a prompt.

`plain` computes every sentence whole, padded to the longest. `ideal` computes no token twice: the opening that all sentences
share once, as a batch of 1, and the own tokens of the classes as one plain batch per length. Own tokens there do not even look
at the opening, so in operations it is a lower bound. Gradients flow to the input of the first layer of both branches.
"""

from collections.abc import Sequence
from itertools import groupby
from os.path import commonprefix
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dpl.backbones.loading import Backbone
from dpl.classifier import ClipClassifier
from dpl.data.pixels.transforms import normalise
from dpl.data.templates import sentences


class Floor(ClipClassifier):
    """A plain frozen CLIP over the trimmed sentences of all classes; `shared`: the ideal floor."""

    def __init__(self, backbone: Backbone, class_names: Sequence[str], template: str, shared: bool) -> None:
        super().__init__(backbone, class_names)
        rows = backbone.tokenize(sentences(template, class_names))
        batches = _each_token_once(rows) if shared else [_padded(rows)]
        embeddings = backbone.text.transformer.embeddings
        ids = [torch.tensor(batch, device=backbone.device) for batch in batches]
        self.inputs: list[Tensor] = [embeddings(input_ids=batch).detach().requires_grad_() for batch in ids]
        self._ends = [(batch == rows[0][-1]).int().argmax(dim=-1) for batch in ids]
        self._has_opening = shared and len(batches[0]) == 1

    @property
    def text_tokens(self) -> int:
        """Tokens of the text branch, padding included."""
        return sum(batch.shape[0] * batch.shape[1] for batch in self.inputs)

    def step(self, pixels: Tensor, labels: Tensor) -> float:
        """One forward and backward of cross entropy; returns the loss."""
        leaf = self._embedded(pixels)
        loss = F.cross_entropy(self.logits(self._image_features(leaf), self.text_features()), labels)
        value = loss.item()
        for batch in self.inputs:
            batch.grad = None
        loss.backward(inputs=[leaf, *self.inputs])
        return value

    def _embedded(self, pixels: Tensor) -> Tensor:
        backbone, model = self.backbone, self.backbone.image.transformer
        pixels = normalise(pixels.to(backbone.device), backbone.preprocessing)
        with torch.no_grad(), backbone.autocast():
            hidden: Tensor = model.pre_layrnorm(model.embeddings(pixels))
        return hidden.requires_grad_()

    def _image_features(self, hidden: Tensor) -> Tensor:
        backbone, model = self.backbone, self.backbone.image.transformer
        with backbone.autocast():
            pooled = model.post_layernorm(model.encoder(inputs_embeds=hidden).last_hidden_state[:, 0])
        projection: Any = backbone.clip.visual_projection
        return F.normalize(projection(pooled.to(projection.weight.dtype)))

    def text_features(self) -> Tensor:
        """(classes, dim), of unit length; of the ideal floor, classes are ordered by length."""
        backbone, model = self.backbone, self.backbone.text.transformer
        with backbone.autocast():
            states = [model.encoder(inputs_embeds=batch, is_causal=True).last_hidden_state for batch in self.inputs]
            opening = states.pop(0) if self._has_opening else None
            ends = self._ends[1:] if self._has_opening else self._ends
            pooled = torch.cat([own[torch.arange(len(own)), end] for own, end in zip(states, ends, strict=True)])
            pooled = model.final_layer_norm(pooled)
        projection: Any = backbone.clip.text_projection
        features = F.normalize(projection(pooled.to(projection.weight.dtype)))
        # The opening's backward is part of the step: a gradient of zeros costs as much as any.
        return features if opening is None else features + 0.0 * opening[:, -1:].sum()


def _padded(rows: Sequence[list[int]]) -> list[list[int]]:
    longest = max(map(len, rows))
    return [row + row[-1:] * (longest - len(row)) for row in rows]


def _each_token_once(rows: Sequence[list[int]]) -> list[list[list[int]]]:
    """The opening in a batch of 1, if there is one, then a batch per length of own tokens."""
    opening = list(commonprefix(list(rows)))
    own = sorted((row[len(opening) :] for row in rows), key=len)
    return [*([[opening]] if opening else []), *(list(group) for _, group in groupby(own, key=len))]
