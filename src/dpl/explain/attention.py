"""How much the layers use their prompts: the part of every head's attention that goes to them."""

from collections import Counter

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from dpl.methods.method import Method
from dpl.prompts.listen import Heard, listening
from dpl.prompts.tokens import Packed

IMAGES, TEXTS = 32, 64  # at most so many are looked at

Shares = dict[str, list[list[float]]]


@torch.no_grad()
def prompt_attention(model: Method, pixels: UInt8[Tensor, "images 3 size size"]) -> Shares | None:
    """For the "image" and the "text" branch, layer by layer and head by head, the share of attention that goes to prompts, 0-1.

    Of query q, with scores s over the tokens T that it sees and the prompts P, and gates g, it is

        sum_{p in P} g_p exp(s_p) / (sum_{t in T} exp(s_t) + sum_{p in P} g_p exp(s_p)).

    Its mean is taken over the queries of a layer, prompts and padding not among them, then over the first 32 images of `pixels`
    or up to 64 classes, evenly spread. The last layer is asked at CLS or EOS only. A branch without prompts has 0 everywhere.

    Context tokens that are part of the input (CoOp, VPT, IVLP and the like) count wherever they stand, in later layers as well,
    where they have become what the layers before made of them; CoCoOp's without the shift of an image. None where nothing of
    the kind is learned.
    """
    if not model.layout.tokens:
        return None
    branches = (model.backbone.image, model.backbone.text)
    places = {layer.attention: (branch.name, index) for branch in branches for index, layer in enumerate(branch.layers)}
    shares = {
        branch.name: torch.zeros(branch.depth, branch.layers[0].attention.num_heads, dtype=torch.float64) for branch in branches
    }
    few = _of_few_classes(model)

    def listener(heard: Heard) -> None:
        branch, layer = places[heard.attention]
        shares[branch][layer] = _mean(heard).cpu()

    with listening(listener):
        model.image_features(pixels[:IMAGES])
        few.text_features()
    return {branch: [[round(share, 4) for share in row] for row in rows.clamp(0, 1).tolist()] for branch, rows in shares.items()}


def _of_few_classes(model: Method) -> Method:
    """The model, of some of its classes where it has many; of names that several classes have, none."""
    names = [name for name, count in Counter(model.class_names).items() if count == 1]
    if len(model.class_names) <= TEXTS or not names:
        return model
    return model.for_classes(names[:: -(-len(names) // TEXTS)])


def _mean(heard: Heard) -> Float[Tensor, "heads"]:
    """Over the samples, of the means over the queries of each."""
    weights = heard.real.double() / heard.real.sum()
    if isinstance(heard.tokens, Packed) and len(weights) == _length(heard.tokens):
        weights = _text_by_text(heard.tokens, heard.real)
    return heard.share.double().mean(dim=0) @ weights


def _length(tokens: Packed) -> int:
    return tokens.opening + sum(group.count * group.length for group in tokens.groups)


def _text_by_text(tokens: Packed, real: Bool[Tensor, "tokens"]) -> Float[Tensor, "tokens"]:
    """What each token weighs in the mean over texts of the mean over a text's real tokens; the opening is in every text."""
    weights, opening = torch.zeros(len(real), dtype=torch.float64, device=real.device), real[: tokens.opening]
    texts = sum(group.count for group in tokens.groups)
    for group in tokens.groups:
        own = slice(group.start, group.start + group.count * group.length)
        rows = real[own].view(group.count, group.length)
        each = 1 / (texts * (opening.sum() + rows.sum(dim=1)).double())
        weights[own] = (rows * each[:, None]).flatten()
        weights[: tokens.opening] += opening * each.sum()
    return weights
