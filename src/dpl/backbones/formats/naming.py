"""Maps the names of weights in OpenAI's CLIP, which open_clip shares, to their names in transformers."""

import re
from collections.abc import Mapping

from torch import Tensor

from dpl.utils.errors import DplError

_TOWERS = {"visual.transformer": "vision_model.encoder", "transformer": "text_model.encoder"}
_NORMS = {
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "ln_final": "text_model.final_layer_norm",
}
_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
# OpenAI's name -> its names in transformers; N is the number of a layer. A tensor with three names is their concatenation.
NAMES: dict[str, tuple[str, ...]] = {
    "logit_scale": ("logit_scale",),
    "visual.class_embedding": ("vision_model.embeddings.class_embedding",),
    "visual.conv1.weight": ("vision_model.embeddings.patch_embedding.weight",),
    "visual.positional_embedding": ("vision_model.embeddings.position_embedding.weight",),
    "visual.proj": ("visual_projection.weight",),
    "token_embedding.weight": ("text_model.embeddings.token_embedding.weight",),
    "positional_embedding": ("text_model.embeddings.position_embedding.weight",),
    "text_projection": ("text_projection.weight",),
}
NAMES |= {f"{name}.{part}": (f"{ours}.{part}",) for name, ours in _NORMS.items() for part in ("weight", "bias")}
NAMES |= {
    f"{tower}.resblocks.N.{name}.{part}": (f"{ours}.layers.N.{module}.{part}",)
    for tower, ours in _TOWERS.items()
    for name, module in _LAYER.items()
    for part in ("weight", "bias")
}
NAMES |= {
    f"{tower}.resblocks.N.attn.in_proj_{part}": tuple(f"{ours}.layers.N.self_attn.{x}_proj.{part}" for x in "qkv")
    for tower, ours in _TOWERS.items()
    for part in ("weight", "bias")
}
_TRANSPOSED = {"visual.proj", "text_projection"}  # OpenAI computes features @ proj, transformers uses a linear layer
# Tensors of OpenAI's archives and of traced models that are not weights, by the last part of their names.
_NO_WEIGHTS = {"attn_mask", "input_resolution", "context_length", "vocab_size"}

# Parts of open_clip's other models, as their weights reveal them.
_UNSUPPORTED = {
    r"visual\.(layer1|attnpool)\.": "a ResNet image tower",
    r"visual\.(trunk|head)\.": "an image tower of timm",
    r"visual\.attn_pool": "attentional pooling",
    r"text_decoder\.|(text\.)?cls_emb$": "the text tower of CoCa",
    r"text\.transformer\.(embeddings|encoder|embed_tokens)\.|text\.(proj|pooler)\.": "a text tower of Hugging Face",
    r"text\.blocks\.": "open_clip's modern text tower",
    r"logit_bias$": "the logit bias of SigLIP",
    r".*\.ls_?[12]\.": "layer scale",
    r".*\.attn\.(ln_q|ln_k|ln_inner|logit_scale|head_scale|[qkv]_proj_weight)|.*\.(ln_attn|mlp\.ln)\.": "custom attention blocks",
    r"(text\.)?text_projection\.": "a text projection with a bias",
}


def has_openai_names(names: Mapping[str, object]) -> bool:
    """Returns whether `names` are the weights of a CLIP in OpenAI's or open_clip's naming, supported or not."""
    return any(name.startswith("visual.") for name in names)


def is_openai_archive(tensors: Mapping[str, Tensor]) -> bool:
    """Returns whether `tensors` come from an archive that OpenAI published; only those have the input resolution."""
    return "input_resolution" in tensors


def from_openai_names(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Renames weights from OpenAI's naming to the one of transformers. The results are views; nothing is copied.

    Args:
        tensors: the weights; the text tower may have the prefix `text.` of open_clip's custom text models.
        where: the source, for messages.

    Returns:
        The weights by their names in transformers.

    Raises:
        DplError: a weight reveals a part that CLIP in transformers does not have.
    """
    for name in tensors:
        for pattern, part in _UNSUPPORTED.items():
            if re.match(pattern, name):
                raise DplError(
                    f"{where}: has {part} ({name}), which is not supported; dpl reads CLIPs with two plain transformers"
                )
    if "visual.ln_pre.weight" not in tensors and "visual.class_embedding" in tensors:
        raise DplError(f"{where}: has no norm before the image layers (no_ln_pre), which is not supported")
    weights: dict[str, Tensor] = {}
    for full_name, tensor in tensors.items():
        name = full_name.removeprefix("text.")
        if name.rpartition(".")[2] in _NO_WEIGHTS:
            continue
        layer = re.search(r"resblocks\.(\d+)\.", name)
        general = name.replace(layer[0], "resblocks.N.") if layer else name
        if general not in NAMES:
            raise DplError(f"{where}: CLIP has no weight {full_name}; dpl reads CLIPs with two plain transformers")
        targets = NAMES[general]
        if general in _TRANSPOSED and tensor.dim() == 2:
            tensor = tensor.T
        if general == "logit_scale" and tensor.numel() == 1:  # some open_clip models keep it as a vector
            tensor = tensor.reshape(())
        parts = tensor.chunk(len(targets)) if tensor.dim() else [tensor]
        for target, part in zip(targets, parts, strict=False):  # a part too few is a missing weight
            weights[target.replace(".N.", f".{layer[1]}.") if layer else target] = part
    return weights
