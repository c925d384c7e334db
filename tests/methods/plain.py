"""What the methods of this room compute, by Hugging Face's own model, whose tokens hooks exchange, text by text."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dpl.backbones.loading import Backbone


def ids(backbone: Backbone, *parts: str) -> list[int]:
    """The token ids of phrases one behind the other, SOS to EOS; an opening phrase ends in front of the space."""
    rows = [backbone.tokenizer(part)["input_ids"] for part in parts]
    return [rows[0][0], *(token for row in rows for token in row[1:-1]), rows[0][-1]]


def text_features(backbone: Backbone, rows: Sequence[list[int]], context: Tensor, deep: Sequence[Tensor] = ()) -> Tensor:
    """Unit embeddings of texts whose tokens 1, 2, .. are exchanged for the context, (n, width), and before layers for `deep`."""
    clip: Any = backbone.clip

    def put(_module: Any, _inputs: tuple, embeds: Tensor) -> Tensor:
        return torch.cat([embeds[:, :1], context[None], embeds[:, 1 + len(context) :]], dim=1)

    def exchange(rows: Tensor) -> Any:
        def hook(_module: Any, inputs: tuple) -> tuple:
            hidden = torch.cat([inputs[0][:, :1], rows[None], inputs[0][:, 1 + len(rows) :]], dim=1)
            return (hidden, *inputs[1:])

        return hook

    with ExitStack() as stack:
        stack.callback(clip.text_model.embeddings.token_embedding.register_forward_hook(put).remove)
        for layer, tokens in zip(clip.text_model.encoder.layers[1:], deep, strict=False):
            stack.callback(layer.register_forward_pre_hook(exchange(tokens)).remove)
        found = [clip.get_text_features(input_ids=torch.tensor([row])).pooler_output[0] for row in rows]
    return F.normalize(torch.stack(found), dim=-1)


def image_features(backbone: Backbone, pixels: Tensor, context: Tensor | None = None, deep: Sequence[Tensor] = ()) -> Tensor:
    """Unit embeddings of uint8 pixels with `context`, (n, width), behind the patches, exchanged before layers for `deep`."""
    clip: Any = backbone.clip
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (backbone.preprocessing.mean, backbone.preprocessing.std))

    def append(_module: Any, _inputs: tuple, embeds: Tensor) -> Tensor:
        return embeds if context is None else torch.cat([embeds, context.expand(len(embeds), -1, -1)], dim=1)

    def exchange(rows: Tensor) -> Any:
        def hook(_module: Any, inputs: tuple) -> tuple:
            hidden = torch.cat([inputs[0][:, : -len(rows)], rows.expand(len(inputs[0]), -1, -1)], dim=1)
            return (hidden, *inputs[1:])

        return hook

    with ExitStack() as stack:
        stack.callback(clip.vision_model.embeddings.register_forward_hook(append).remove)
        for layer, tokens in zip(clip.vision_model.encoder.layers[1:], deep, strict=False):
            stack.callback(layer.register_forward_pre_hook(exchange(tokens)).remove)
        found = clip.get_image_features(pixel_values=(pixels / 255 - mean) / std).pooler_output
    return F.normalize(found, dim=-1)


def draw_pixels(images: int = 5, seed: int = 0) -> Tensor:
    """uint8 pixels of the checkpoint's size."""
    return torch.randint(0, 256, (images, 3, 16, 16), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def close(ours: Tensor, theirs: Tensor) -> None:
    """Asserts that two fp32 results are the same sums in another order."""
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)
