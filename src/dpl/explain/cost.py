"""Counts the operations to embed an image and the texts of all classes with a layout, from the shapes.

A multiply-add is two operations. The count covers matrix products and the patch convolution, as PyTorch's `FlopCounterMode`
does, and leaves out the rest (norms, softmax, activations, sums). Attention has two products, queries by keys and scores by
values; pairs hidden by a causal mask are computed and therefore counted. The count follows the implementation: the last layer
is computed only for the tokens that are read (`Layer.read`), and class texts are packed behind their shared opening
(`dpl.prompts.texts`).

n prompts in a layer of width w add 4 n w^2 for their keys and values, and 4 n w per query. Keys and values are computed once
per call, whatever the batch size. The count is for a batch of one image, where they cost an image the most.
"""

from dataclasses import dataclass
from typing import Any

from dpl.backbones.branch import Branch
from dpl.backbones.loading import Backbone
from dpl.classifier import Classifier, ClipClassifier
from dpl.data.templates import sentences
from dpl.prompts.layout import PromptLayout
from dpl.prompts.texts import pack
from dpl.prompts.visibility import Packed

LENGTHS = (1, 2, 4, 6, 8, 12)
"""Lengths of the uniform layouts to compare with."""


@dataclass(frozen=True)
class Load:
    """Tokens of one pass through a branch: `tokens` in total, of which `read` are read from the last layer.

    `groups` lists (queries, keys) of the attention without prompts in every layer but the last, `last` in the last layer.
    """

    tokens: int
    read: int
    groups: tuple[tuple[int, int], ...]
    last: tuple[tuple[int, int], ...]


def layer_flops(width: int, mlp_width: int, *, asking: int, asked: int, mlp: int, pairs: int) -> int:
    """Counts the operations of one layer.

    Args:
        width: width of the layer.
        mlp_width: width of the MLP's hidden layer.
        asking: rows through the query and the output projection.
        asked: rows through the key and the value projection.
        mlp: rows through the MLP.
        pairs: pairs of a query and a key; each counts once for all heads together.

    Returns:
        Operations, two per multiply-add.

    Example: a plain layer of ViT-B/16 for one image of 197 tokens, in GFLOPs.

        >>> layer_flops(768, 3072, asking=197, asked=197, mlp=197, pairs=197 * 197) / 1e9
        2.90790912
    """
    return 4 * width**2 * (asking + asked) + 4 * width * mlp_width * mlp + 4 * width * pairs


def patch_flops(patches: int, patch: int, width: int) -> int:
    """Counts the operations of the patch convolution.

    Args:
        patches: number of RGB patches.
        patch: pixels per side of a patch.
        width: width of a token.
    """
    return 2 * patches * 3 * patch**2 * width


def image_load(backbone: Backbone) -> Load:
    """Returns the load of one image: the class token, which is read, and the patches."""
    tokens = backbone.clip.vision_model.embeddings.num_patches + 1
    return Load(tokens, 1, ((tokens, tokens),), ((1, tokens),))


def text_load(packed: Packed) -> Load:
    """Returns the load of packed texts; each is read at its last token."""
    opening, groups = packed.opening, packed.groups
    tokens = opening + sum(group.count * group.length for group in groups)
    own = tuple((group.count * group.length, opening + group.length) for group in groups)
    last = tuple((group.count, opening + group.length) for group in groups)
    return Load(tokens, sum(group.count for group in groups), ((opening, opening), *own), last)


def branch_flops(branch: Branch, lengths: tuple[int, ...], load: Load) -> int:
    """Counts the operations of all layers of a branch, without the final projection.

    Args:
        branch: the branch.
        lengths: prompts in each layer.
        load: the tokens that pass through the branch.

    Returns:
        Operations, two per multiply-add.
    """
    total = 0
    for index, (layer, prompts) in enumerate(zip(branch.layers, lengths, strict=True)):
        is_last = index == branch.depth - 1
        asking, groups = (load.read, load.last) if is_last else (load.tokens, load.groups)
        block: Any = layer.block
        total += layer_flops(
            branch.width,
            block.mlp.fc1.out_features,
            asking=asking,
            asked=load.tokens + prompts,
            mlp=asking,
            pairs=sum(queries * (keys + prompts) for queries, keys in groups),
        )
    return total


def layout_flops(backbone: Backbone, packed: Packed, layout: PromptLayout) -> dict[str, float]:
    """Computes the GFLOPs of a layout, with the patch convolution and the final projections.

    Args:
        backbone: the backbone.
        packed: the packed texts of all classes.
        layout: the layout.

    Returns:
        "image": GFLOPs to embed one image. "classes": GFLOPs to embed all class texts once.
    """
    clip: Any = backbone.clip
    embeddings, text = clip.vision_model.embeddings, text_load(packed)
    image = patch_flops(embeddings.num_patches, embeddings.patch_size, backbone.image.width)
    image += branch_flops(backbone.image, layout.image, image_load(backbone))
    image += 2 * backbone.image.width * clip.projection_dim
    classes = branch_flops(backbone.text, layout.text, text) + 2 * text.read * backbone.text.width * clip.projection_dim
    return {"image": image / 1e9, "classes": classes / 1e9}


def cost(model: ClipClassifier) -> dict[str, Any] | None:
    """Computes the GFLOPs of the layout, the frozen model and uniform layouts, in the format of metrics.json.

    Args:
        model: the trained model.

    Returns:
        "image" and "classes" of the layout as in `layout_flops`, the same under "frozen", and a list "uniform" for the lengths
        in `LENGTHS` and the length nearest to the layout's mean. None if the method adds something other than prompts in
        layers.
    """
    if not isinstance(model, Classifier):
        return None
    backbone, layout = model.backbone, model.layout
    packed = pack(backbone.tokenize(sentences(model.template, model.class_names))).tokens
    depths = backbone.image.depth, backbone.text.depth
    lengths = sorted({*LENGTHS, round(layout.tokens / sum(depths))} - {0})
    return {
        **layout_flops(backbone, packed, layout),
        "frozen": layout_flops(backbone, packed, PromptLayout.uniform(0, *depths)),
        "uniform": [
            {"length": length} | layout_flops(backbone, packed, PromptLayout.uniform(length, *depths)) for length in lengths
        ],
    }
