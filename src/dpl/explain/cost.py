"""What a layout costs: operations to embed an image and the texts of all classes, counted from the shapes.

A multiply-add is two operations. Counted are matrix products and the patch convolution, as PyTorch's `FlopCounterMode` does;
the rest (norms, softmax, activations, sums) is left out. Attention makes two products, queries by keys and scores by values;
pairs that a causal mask hides are computed, and counted. The last layer is computed for the tokens that are read only
(`Layer.read`), and class texts are packed behind their shared opening (`dpl.prompts.texts`): counted is what is run.

Of n prompts in a layer of width w are counted their keys and values, 4 n w^2, and 4 n w for each query. Keys and values are
computed once per call, whatever the batch: counted is an image alone, the most that they can cost it.
"""

from dataclasses import dataclass
from typing import Any

from dpl.backbones.branch import Branch
from dpl.backbones.loading import Backbone
from dpl.classifier import Classifier, ClipClassifier, sentences
from dpl.prompts.layout import PromptLayout
from dpl.prompts.texts import pack
from dpl.prompts.tokens import Packed

LENGTHS = (1, 2, 4, 6, 8, 12)
"""Uniform layouts to compare with."""


@dataclass(frozen=True)
class Load:
    """What goes through a branch, once: all `tokens`, of which `read` are read at the end.

    `groups` are (queries, keys) of the attention, prompts left out, in every layer but the last; `last` in the last.
    """

    tokens: int
    read: int
    groups: tuple[tuple[int, int], ...]
    last: tuple[tuple[int, int], ...]


def layer_flops(width: int, mlp_width: int, *, asking: int, asked: int, mlp: int, pairs: int) -> int:
    """Operations of one layer: `asking` rows through the query and out projections, `asked` rows through those of keys and
    values, `mlp` rows through the MLP, `pairs` of query and key, over all heads."""
    return 4 * width**2 * (asking + asked) + 4 * width * mlp_width * mlp + 4 * width * pairs


def patch_flops(patches: int, patch: int, width: int) -> int:
    """Operations of the convolution that makes tokens of RGB patches of `patch` x `patch` pixels."""
    return 2 * patches * 3 * patch**2 * width


def image_load(backbone: Backbone) -> Load:
    """One image: the class token, which is read, and the patches."""
    tokens = backbone.clip.vision_model.embeddings.num_patches + 1
    return Load(tokens, 1, ((tokens, tokens),), ((1, tokens),))


def text_load(packed: Packed) -> Load:
    """Packed texts, each read at its last token."""
    opening, groups = packed.opening, packed.groups
    tokens = opening + sum(group.count * group.length for group in groups)
    own = tuple((group.count * group.length, opening + group.length) for group in groups)
    last = tuple((group.count, opening + group.length) for group in groups)
    return Load(tokens, sum(group.count for group in groups), ((opening, opening), *own), last)


def branch_flops(branch: Branch, lengths: tuple[int, ...], load: Load) -> int:
    """Operations of all layers, with so many prompts in each; a projection of what is read is left out."""
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
    """GFLOPs to embed one "image", and to embed all "classes" once, with prompts in `layout`."""
    clip: Any = backbone.clip
    embeddings, text = clip.vision_model.embeddings, text_load(packed)
    image = patch_flops(embeddings.num_patches, embeddings.patch_size, backbone.image.width)
    image += branch_flops(backbone.image, layout.image, image_load(backbone))
    image += 2 * backbone.image.width * clip.projection_dim
    classes = branch_flops(backbone.text, layout.text, text) + 2 * text.read * backbone.text.width * clip.projection_dim
    return {"image": image / 1e9, "classes": classes / 1e9}


def cost(model: ClipClassifier) -> dict[str, Any] | None:
    """What metrics.json holds: GFLOPs of the layout, of the frozen model, and of uniform layouts, as `layout_flops`.

    The uniform layouts are those of `LENGTHS`, and the nearest to as many tokens as the layout has. None where what the method
    adds to the frozen model is not prompts that hang in layers.
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
