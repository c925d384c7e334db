"""Prompts as input tokens: learned context tokens among the words of a text or behind the patches of an image.

CoOp and its successors use such prompts. They differ from `dpl.prompts.inject`, where prompts are keys and values only: context
tokens are queries as well. New "deep" tokens replace them in front of each of the first layers; in the later layers the tokens
remain. The functions call the layers of the frozen backbone and do not modify it: no hook, no fork. They ignore prompts
attached to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dpl.backbones.branch import Attend, Layer
from dpl.backbones.loading import Backbone
from dpl.prompts.attention_probe import emit
from dpl.prompts.texts import pack
from dpl.prompts.visibility import MaskedTokens, PromptInputs, TokenInputs, TokenVisibility
from dpl.utils.errors import DplError

Place = Literal["end", "middle", "front"]
Context = Float[Tensor, "context width"] | Float[Tensor, "batch context width"]
TextFeatures = Float[Tensor, "classes dim"] | Float[Tensor, "images classes dim"]


@dataclass(frozen=True)
class ContextText:
    """A text with positions for context tokens.

    Attributes:
        ids: the vocabulary's tokens from SOS to EOS.
        places: the positions of the context tokens in the complete text, ascending.
    """

    ids: tuple[int, ...]
    places: tuple[int, ...]

    @classmethod
    def around(cls, ids: Sequence[int], context: int, name: int = 0, place: Place = "end") -> "ContextText":
        """Inserts context tokens into [SOS][name tokens][rest], relative to the class name as in CoOp.

        Args:
            ids: the vocabulary's tokens from SOS to EOS.
            context: number of context tokens.
            name: number of tokens of the class name.
            place: "end" gives [SOS][context][name][rest], "front" gives [SOS][name][context][rest], "middle" gives half of the
                context on each side of the name; if the number is odd, the larger half is behind the name.

        Example:

            >>> ContextText.around([9, 1, 2, 10], context=3, name=2, place="end").places
            (1, 2, 3)
            >>> ContextText.around([9, 1, 2, 10], context=3, name=2, place="middle").places
            (1, 4, 5)
        """
        before = {"end": context, "middle": context // 2, "front": 0}[place]
        after = range(1 + before + name, 1 + name + context)
        return cls(tuple(ids), (*range(1, 1 + before), *after))

    def order(self, first: int = 0) -> list[int]:
        """Returns all tokens in order.

        Args:
            first: number of the first context token.

        Returns:
            Ids of the vocabulary, and the negative number ~(first + i) for context token i.
        """
        row = list(self.ids)
        for index, place in enumerate(self.places):
            row.insert(place, ~(first + index))
        return row


class ContextTexts:
    """One text with context tokens per class, for the text branch of `backbone`.

    All texts have the same number of context tokens. All texts share them, or each class has its own if `class_specific`. The
    texts are packed as in `Texts`: their common start (SOS, and a shared context in front of the names) is computed once, every
    text ends at its EOS, nothing is padded, and the last layer is computed at EOS only.

    Args:
        backbone: the frozen backbone.
        texts: one text per class.
        class_specific: whether each class has its own context tokens.

    Raises:
        DplError: a text is too long, or the texts have different numbers of context tokens.
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
            raise DplError(f"a text has {longest} tokens with its context, {backbone.name} reads {fits}; use a shorter context")
        packing = pack(rows)
        self._class_specific, self._packed = class_specific, packing.tokens
        ids, positions, self._ends, self._unsorted = packing.tensors(backbone.device)
        self._places = (ids[0] < 0).nonzero()[:, 0]  # indices of the context tokens in the row
        self._which = ~ids[0, self._places]  # the number of each context token
        with torch.inference_mode(False), torch.no_grad():
            self._words = model.embeddings.token_embedding(ids.clamp(min=0))
            self._positions = model.embeddings.position_embedding(positions)

    @property
    def tokens(self) -> int:
        """Number of tokens computed for one context."""
        return self._words.shape[1]

    def features(self, context: Context, deep: Sequence[Context] = ()) -> TextFeatures:
        """Computes the projected text embeddings, fp32, not normalised.

        Args:
            context: context tokens, (n, width); (classes, n, width) if class-specific; or, if not, (images, n, width) for a
                batch of images.
            deep: tokens that replace the context in front of layers 1, 2, ..., each of one of these shapes. They get no position
                embedding.

        Returns:
            (classes, dim), or (images, classes, dim) for a context per image.

        Raises:
            DplError: the shape of a context does not fit the texts, or `deep` has as many contexts as the branch has layers, or
                more.
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
        """Returns `hidden`, (batch or 1, tokens, width), with the context tokens at their places."""
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
    """Computes the projected image embeddings of images with context tokens, fp32, not normalised.

    The context follows the patches, without position embedding, and enters before the first norm. Up to the last replacement
    nothing reads the outputs of the context tokens, so they are keys and values only. The same holds for the last layer, which is
    computed at CLS only.

    Args:
        backbone: the frozen backbone.
        pixels: (images, 3, size, size), normalised, of the backbone's image size.
        context: context tokens, (n, width) or (images, n, width).
        deep: tokens that replace the context in front of layers 1, 2, ..., each of one of these shapes.

    Returns:
        (images, dim).

    Raises:
        DplError: `deep` has as many contexts as the branch has layers, or more.
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
            hidden = layer.read(hidden, slice(read), _attend(layer, MaskedTokens(), slice(own, None)))
        pooled = model.post_layernorm(hidden[:, 0])
    return clip.visual_projection(pooled.to(clip.visual_projection.weight.dtype))


def _check_depth(deep: Sequence[Tensor], layers: int, branch: str) -> None:
    if len(deep) >= layers:
        raise DplError(f"context for layers 0 to {len(deep)}: the {branch} branch has {layers} layers")


def _attend(layer: Layer, visibility: TokenVisibility, context: Tensor | slice) -> Attend:
    """Returns an attention over the tokens only, without any attached prompts; `context` selects the context tokens."""

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        nothing = key.new_empty(key.shape[1], 0, key.shape[-1])
        inputs, prompts = TokenInputs(query, key, value), PromptInputs(nothing, nothing)
        emit(layer.attention, visibility, inputs, prompts, context)
        return visibility.attend(inputs, prompts)

    return attend
