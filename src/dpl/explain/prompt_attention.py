"""Measures the share of each head's attention that goes to the prompts."""

from collections import Counter

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from dpl.methods.method import Method
from dpl.prompts.attention_probe import AttentionRecord, listening
from dpl.prompts.visibility import Packed

IMAGES, TEXTS = 32, 64  # largest numbers of images and of class texts to average over

Shares = dict[str, list[list[float]]]


@torch.no_grad()
def prompt_attention(model: Method, pixels: UInt8[Tensor, "images 3 size size"]) -> Shares | None:
    """Computes the share of attention that goes to prompts, for each branch, layer and head.

    For a query with scores s over its visible tokens T and the prompts P, and with gates g, the share is

        sum_{p in P} g_p exp(s_p) / (sum_{t in T} exp(s_t) + sum_{p in P} g_p exp(s_p)).

    The result is the mean over the queries of a layer, without prompts and padding, and then over the first 32 images of
    `pixels` or over up to 64 evenly spaced classes. In the last layer the only queries are CLS or EOS.

    Context tokens that are part of the input (CoOp, VPT, IVLP and the like) count as prompts in every layer that they pass
    through, although the layers before have transformed them. CoCoOp's count without the shift that depends on the image.

    Args:
        model: the trained model.
        pixels: preprocessed images.

    Returns:
        "image" and "text": (layers, heads), 0-1, rounded to four decimals, 0 in a branch without prompts. None if the method
        learns no prompts or context tokens.
    """
    if not model.layout.tokens:
        return None
    branches = (model.backbone.image, model.backbone.text)
    places = {layer.attention: (branch.name, index) for branch in branches for index, layer in enumerate(branch.layers)}
    shares = {
        branch.name: torch.zeros(branch.depth, branch.layers[0].attention.num_heads, dtype=torch.float64) for branch in branches
    }
    few = _of_few_classes(model)

    def listener(record: AttentionRecord) -> None:
        branch, layer = places[record.attention]
        shares[branch][layer] = _mean(record)

    with listening(listener):
        model.image_features(pixels[:IMAGES])
        few.text_features()
    return {branch: [[round(share, 4) for share in row] for row in rows.clamp(0, 1).tolist()] for branch, rows in shares.items()}


def _of_few_classes(model: Method) -> Method:
    """Returns the model for at most `TEXTS` evenly spaced classes, without names that several classes share.

    Returns the model unchanged if it has at most `TEXTS` classes, or if no name is unique.
    """
    names = [name for name, count in Counter(model.class_names).items() if count == 1]
    if len(model.class_names) <= TEXTS or not names:
        return model
    return model.for_classes(names[:: -(-len(names) // TEXTS)])


def _mean(record: AttentionRecord) -> Float[Tensor, "heads"]:
    """Averages over the queries of each sample, then over samples; on the CPU, since not every device has float64."""
    share, real = record.share.cpu().double(), record.real.cpu()
    weights = real.double() / real.sum()
    if isinstance(record.tokens, Packed) and len(weights) == _length(record.tokens):
        weights = _text_by_text(record.tokens, real)
    return share.mean(dim=0) @ weights


def _length(tokens: Packed) -> int:
    return tokens.opening + sum(group.count * group.length for group in tokens.groups)


def _text_by_text(tokens: Packed, real: Bool[Tensor, "tokens"]) -> Float[Tensor, "tokens"]:
    """Returns the weight of each packed token in the mean over texts of the mean over a text's real tokens.

    The opening is part of every text.
    """
    weights, opening = torch.zeros(len(real), dtype=torch.float64), real[: tokens.opening]
    texts = sum(group.count for group in tokens.groups)
    for group in tokens.groups:
        own = slice(group.start, group.start + group.count * group.length)
        rows = real[own].view(group.count, group.length)
        each = 1 / (texts * (opening.sum() + rows.sum(dim=1)).double())
        weights[own] = (rows * each[:, None]).flatten()
        weights[: tokens.opening] += opening * each.sum()
    return weights
