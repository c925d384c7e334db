"""The formulation of the paper, written plainly: what `dpl` is compared with.

Every option of a layer has its own LN1([x ; P]) joined per sample, its own query, key, value and out projections and its own
attention; the outputs are summed with the weights softmax(alpha). A fixed layout is one option of weight 1. Every class is a
text of its own, template included, padded to all positions. As in `clip/model.py` of the authors' release (github.com/
Zhenhan-Huang/Differentiable-Prompt-Learn), which also norms the queries' tokens a second time; the attention inside is PyTorch's
fused one, as `nn.MultiheadAttention` there becomes with a recent PyTorch, or the softmax written out, as it was before 2.0.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Generic

import torch
import torch.nn.functional as F
from torch import Tensor

from dpl.backbones.branch import Branch
from dpl.backbones.loading import Backbone
from dpl.classifier import ClipClassifier, Prompts
from dpl.data.pixels.transforms import normalise
from dpl.data.templates import sentences
from dpl.prompts.modules import LayerPrompts, MixtureLayer

Options = list[tuple[Tensor | None, Tensor]]
"""(weight, rows) of every option of a layer; no weight: 1."""


class NaiveClassifier(ClipClassifier, Generic[Prompts]):
    """The logits of `dpl.Classifier` with the same prompts, the slow way. The prompt modules only hold the leaves."""

    def __init__(
        self,
        backbone: Backbone,
        class_names: Sequence[str],
        template: str,
        image: Prompts,
        text: Prompts,
        fused: bool = True,
    ) -> None:
        super().__init__(backbone, class_names)
        self._attend = F.scaled_dot_product_attention if fused else _written_out
        self.image: Prompts = image.to(backbone.device)
        self.text: Prompts = text.to(backbone.device)
        rows = backbone.tokenize(sentences(template, class_names))
        positions, end = backbone.clip.text_model.config.max_position_embeddings, rows[0][-1]
        padded = [row + [end] * (positions - len(row)) for row in rows]
        self._ids = torch.tensor(padded, device=backbone.device)
        self._ends = torch.tensor([len(row) - 1 for row in rows], device=backbone.device)

    def image_features(self, pixels: Tensor) -> Tensor:
        """(images, dim), of unit length."""
        backbone, model = self.backbone, self.backbone.image.transformer
        pixels = normalise(pixels.to(backbone.device), backbone.preprocessing)
        with backbone.autocast():
            hidden = model.pre_layrnorm(model.embeddings(pixels))
            hidden = self._run(backbone.image, hidden, self.image, causal=False)
            pooled = model.post_layernorm(hidden[:, 0])
        return _projected(backbone.clip.visual_projection, pooled)

    def text_features(self) -> Tensor:
        """(classes, dim), of unit length."""
        backbone, model = self.backbone, self.backbone.text.transformer
        with backbone.autocast():
            hidden = model.embeddings(input_ids=self._ids)
            hidden = self._run(backbone.text, hidden, self.text, causal=True)
            pooled = model.final_layer_norm(hidden[torch.arange(len(hidden)), self._ends])
        return _projected(backbone.clip.text_projection, pooled)

    def _run(self, branch: Branch, hidden: Tensor, prompts: Any, causal: bool) -> Tensor:
        for layer, own in zip(branch.layers, prompts.layers, strict=True):
            block: Any = layer.block
            hidden = hidden + self._mixed(block, hidden, _options(own), causal)
            hidden = hidden + block.mlp(block.layer_norm2(hidden))
        return hidden

    def _mixed(self, block: Any, hidden: Tensor, options: Options, causal: bool) -> Tensor:
        outputs: Iterator[Tensor] = (
            self._attention(block, hidden, rows, causal)
            if weight is None
            else weight * self._attention(block, hidden, rows, causal)
            for weight, rows in options
        )
        mixed = next(outputs)
        for output in outputs:
            mixed = mixed + output
        return mixed

    def _attention(self, block: Any, hidden: Tensor, rows: Tensor, causal: bool) -> Tensor:
        """Out(Attention(Q(LN1(x)), K and V(LN1([x ; P]))))."""
        attention, tokens = block.self_attn, hidden.shape[1]
        seen = block.layer_norm1(torch.cat([hidden, rows.to(hidden.dtype).expand(len(hidden), -1, -1)], dim=1))
        parts = (attention.q_proj(seen[:, :tokens]), attention.k_proj(seen), attention.v_proj(seen))
        query, key, value = (part.unflatten(-1, (-1, attention.head_dim)).transpose(1, 2) for part in parts)
        mask = _causal_mask(tokens, len(rows), hidden.device) if causal else None
        output = self._attend(query, key, value, mask)
        return attention.out_proj(output.transpose(1, 2).flatten(2))


def _options(layer: LayerPrompts) -> Options:
    if not isinstance(layer, MixtureLayer):
        return [(None, layer.prompts)]
    return list(zip(layer.alphas.softmax(dim=-1), layer.prompts.split(layer.options), strict=True))


@cache
def _causal_mask(tokens: int, prompts: int, device: torch.device) -> Tensor:
    seen = torch.ones(tokens, tokens, dtype=torch.bool, device=device).tril()
    return F.pad(seen, (0, prompts), value=True)


def _written_out(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    scores = query @ key.mT * query.shape[-1] ** -0.5
    return (scores if mask is None else scores.masked_fill(~mask, float("-inf"))).softmax(dim=-1) @ value


def _projected(projection: Any, pooled: Tensor) -> Tensor:
    return F.normalize(projection(pooled.to(projection.weight.dtype)))
