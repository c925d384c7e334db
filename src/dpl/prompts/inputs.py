"""Prompts that are tokens of the input: learned context tokens among the words of a text or behind the patches of an image.

CoOp's way, and that of the methods after it: unlike prompts that are only keys and values (`dpl.prompts.inject`), such tokens
ask as well. "Deep" ones are replaced by fresh ones in front of each of the first layers, later they stay and evolve. All is
computed from the layers of the frozen backbone, which is not touched: no hook, no fork. Prompts attached to it do not count.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dpl.backbones.branch import Attend, Layer
from dpl.backbones.loading import Backbone
from dpl.errors import DplError
from dpl.prompts.listen import tell
from dpl.prompts.texts import pack
from dpl.prompts.tokens import Masked, Tokens

Place = Literal["end", "middle", "front"]
Context = Float[Tensor, "context width"] | Float[Tensor, "batch context width"]
TextFeatures = Float[Tensor, "classes dim"] | Float[Tensor, "images classes dim"]


@dataclass(frozen=True)
class ContextText:
    """A text with context tokens in it.

    `ids` are the vocabulary's tokens from SOS to EOS, `places` where the context tokens stand, in order, once they are in.
    """

    ids: tuple[int, ...]
    places: tuple[int, ...]

    @classmethod
    def around(cls, ids: Sequence[int], context: int, name: int = 0, place: Place = "end") -> "ContextText":
        """So many `context` tokens in [SOS][name tokens][rest], the class name at CoOp's `place`, `name` its number of tokens.

        end: [SOS][context][name][rest]; front: [SOS][name][context][rest]; middle: half of the context on either side of the
        name, of an odd number the larger half behind it.
        """
        before = {"end": context, "middle": context // 2, "front": 0}[place]
        after = range(1 + before + name, 1 + name + context)
        return cls(tuple(ids), (*range(1, 1 + before), *after))

    def order(self, first: int = 0) -> list[int]:
        """All tokens: ids of the vocabulary, and below zero ~(first + i) for context token i."""
        row = list(self.ids)
        for index, place in enumerate(self.places):
            row.insert(place, ~(first + index))
        return row


class ContextTexts:
    """One text per class for the text branch of `backbone`; `DplError` where a text is too long.

    All texts have context tokens of the same number: the same ones or, if `class_specific`, each its own. Texts are packed as
    in `Texts`: what all of them open with, SOS and a shared context in front of the names, is computed once; every text ends
    at its EOS; nothing is padded; the last layer is computed at EOS alone.
    """

    def __init__(self, backbone: Backbone, texts: Sequence[ContextText], class_specific: bool = False) -> None:
        self._backbone = backbone
        model: Any = backbone.clip.text_model
        self._shape = (len(texts), len(texts[0].places))
        if any(len(text.places) != self._shape[1] for text in texts):
            raise DplError("the texts have different numbers of context tokens")
        rows = [text.order(index * self._shape[1] if class_specific else 0) for index, text in enumerate(texts)]
        longest, fits = max(map(len, rows)), model.config.max_position_embeddings
        if longest > fits:
            raise DplError(f"a text has {longest} tokens with its context, {backbone.name} reads {fits}; take a shorter context")
        packing = pack(rows)
        self._class_specific, self._packed = class_specific, packing.tokens
        ids, positions, self._ends, self._unsorted = packing.tensors(backbone.device)
        self._places = (ids[0] < 0).nonzero()[:, 0]  # of all context tokens in the row, and
        self._which = ~ids[0, self._places]  # which one each is
        with torch.inference_mode(False), torch.no_grad():
            self._words = model.embeddings.token_embedding(ids.clamp(min=0))
            self._positions = model.embeddings.position_embedding(positions)

    @property
    def tokens(self) -> int:
        """How many tokens are computed for one context."""
        return self._words.shape[1]

    def features(self, context: Context, deep: Sequence[Context] = ()) -> TextFeatures:
        """Projected embeddings, fp32, not of unit length.

        `context` is (n, width); (classes, n, width) if class-specific; or, if not, (images, n, width) where each of a batch of
        images has its own. The tokens of `deep`, of such a shape each, replace it in front of layers 1, 2, ...; no position is
        added to them.
        """
        branch, clip = self._backbone.text, self._backbone.clip
        _check_depth(deep, branch.depth, "text")
        with self._backbone.autocast():
            hidden = self._placed(self._words, context) + self._positions
            for index, layer in enumerate(branch.layers):
                if 0 < index <= len(deep):
                    hidden = self._placed(hidden, deep[index - 1])
                asked = self._ends if index == branch.depth - 1 else slice(None)
                hidden = layer.read(hidden, asked, _attend(layer, self._packed, self._places))
            pooled = clip.text_model.final_layer_norm(hidden)[:, self._unsorted]
        features = clip.text_projection(pooled.to(clip.text_projection.weight.dtype))
        is_batch = not self._class_specific and any(tensor.dim() == 3 for tensor in (context, *deep))
        return features if is_batch else features[0]

    def _placed(self, hidden: Tensor, context: Tensor) -> Tensor:
        """`hidden`, (batch or 1, tokens, width), with the context tokens at their places."""
        shape = self._shape if self._class_specific else self._shape[1:]
        if tuple(context.shape[:-1][-len(shape) :]) != shape or (self._class_specific and context.dim() != 3):
            raise DplError(f"a context of shape {tuple(context.shape)}: the texts have places for {shape}")
        table = context.flatten(0, 1)[None] if self._class_specific else context if context.dim() == 3 else context[None]
        rows = table.to(hidden.dtype)[:, self._which]
        batch = (max(len(hidden), len(rows)), -1, -1)
        return hidden.expand(batch).index_copy(1, self._places, rows.expand(batch))


def image_features(
    backbone: Backbone, pixels: Float[Tensor, "images 3 size size"], context: Context, deep: Sequence[Context] = ()
) -> Float[Tensor, "images dim"]:
    """Projected image embeddings of normalised pixels, fp32, not of unit length.

    `context`, (n, width) or (images, n, width), stands behind the patches, without position, in front of the first norm. The
    tokens of `deep` replace it in front of layers 1, 2, ... So before the last of these nobody reads what becomes of context
    tokens, and they are keys and values only; nor does anybody in the last layer, which is computed at CLS alone.
    """
    branch, clip = backbone.image, backbone.clip
    _check_depth(deep, branch.depth, "image")
    model: Any = clip.vision_model
    with backbone.autocast():
        hidden = model.pre_layrnorm(model.embeddings(pixels))
        own = hidden.shape[1]
        contexts = (model.pre_layrnorm(context.to(hidden.dtype)), *deep)
        for index, layer in enumerate(branch.layers):
            if index < len(contexts):
                rows = contexts[index].to(hidden.dtype).expand(len(hidden), -1, -1)
                hidden = torch.cat([hidden, rows], dim=1)
            read = 1 if index == branch.depth - 1 else own if index + 1 < len(contexts) else None
            hidden = layer.read(hidden, slice(read), _attend(layer, Masked(), slice(own, None)))
        pooled = model.post_layernorm(hidden[:, 0])
    return clip.visual_projection(pooled.to(clip.visual_projection.weight.dtype))


def _check_depth(deep: Sequence[Tensor], layers: int, branch: str) -> None:
    if len(deep) >= layers:
        raise DplError(f"context for layers 0 to {len(deep)}: the {branch} branch has {layers} layers")


def _attend(layer: Layer, tokens: Tokens, context: Tensor | slice) -> Attend:
    """Attention over the tokens alone, whatever prompts are attached to the branch; `context` says which are context tokens."""

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        nothing = key.new_empty(key.shape[1], 0, key.shape[-1])
        tell(layer.attention, tokens, query, key, nothing, None, context=context)
        return tokens.attend(query, key, value, nothing, nothing, None)

    return attend
