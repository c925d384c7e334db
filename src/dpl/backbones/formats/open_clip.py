"""Reads open_clip's format: open_clip_config.json beside open_clip_model.safetensors or open_clip_pytorch_model.bin."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from dpl.backbones.choices import ActivationChoice
from dpl.backbones.formats.hugging_face import (
    OPENAI_HEAD_WIDTH,
    Config,
    HuggingFaceCheckpoint,
    assemble,
    derive_config,
    heads,
    preprocessor_config,
)
from dpl.backbones.formats.naming import from_openai_names
from dpl.backbones.formats.tensors import read_tensors
from dpl.utils.errors import DplError

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # the first one that exists is read

# Keys that dpl reads, or that do not matter when a model of two plain transformers is evaluated.
_HARMLESS = {
    "model_cfg": {
        "embed_dim",
        "vision_cfg",
        "text_cfg",
        "quick_gelu",
        "custom_text",
        "init_logit_scale",
        "nonscalar_logit_scale",
    },
    "vision_cfg": {"layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size", "norm_kwargs", "patch_dropout"}
    | {"final_ln_after_pool", "output_tokens", "attn_pooler_queries", "attn_pooler_heads", "image_seq_len", "pos_embed_type"}
    | {"timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias", "timm_drop", "timm_drop_path", "timm_model_kwargs"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "norm_kwargs", "final_ln_after_pool"}
    | {"output_tokens", "pad_id", "bos_id", "eos_id", "tiktoken_name", "attention_mode", "pos_embed", "rope_temperature"}
    | {"mlp_type", "norm_eps", "norm_placement"}
    | {"hf_model_pretrained", "hf_proj_type", "hf_pooler_type", "hf_model_config"},
}
# The values of other keys with which a model is plain, besides null, false, 0 and empty ones.
_PLAIN = {
    "vision_cfg": {"pool_type": "tok", "block_type": "default"},
    "text_cfg": {"pool_type": "argmax", "proj_type": "linear", "text_arch": "clip", "block_type": "default"}
    | {"norm_type": "layernorm", "attention_bias": True, "mlp_bias": True},
}
_MEANINGS = {
    "timm_model_name": "an image tower of timm",
    "hf_model_name": "a text tower of Hugging Face",
    "multimodal_cfg": "CoCa",
    "init_logit_bias": "the logit bias of SigLIP",
    "ls_init_value": "layer scale",
    "attentional_pool": "attentional pooling",
    "no_ln_pre": "no norm before the image layers",
    "no_causal_mask": "text attention to later tokens",
    "embed_cls": "a class token in text",
    "tokenizer_kwargs": "another tokenizer",
    "tokenizer_type": "another tokenizer",
}
_CLIP_TOKENIZERS = ("openai/clip-vit-", "laion/CLIP-ViT-")
_SIZES = {  # of open_clip's models, with its defaults, and where transformers has them
    ("vision_cfg", "width", 768): "hidden_size",
    ("vision_cfg", "layers", 12): "num_hidden_layers",
    ("vision_cfg", "patch_size", 16): "patch_size",
    ("vision_cfg", "image_size", 224): "image_size",
    ("text_cfg", "width", 512): "hidden_size",
    ("text_cfg", "layers", 12): "num_hidden_layers",
    ("text_cfg", "context_length", 77): "max_position_embeddings",
    ("text_cfg", "vocab_size", 49408): "vocab_size",
}


@dataclass(frozen=True)
class OpenClipDesign:
    """The part of open_clip_config.json that dpl uses."""

    design: Config
    preprocessor: dict[str, Any]
    model: dict[str, Any]


def convert_open_clip(
    config: dict[str, Any], weights_file: Path, allow_pickle: bool = True, activation: ActivationChoice = "auto"
) -> HuggingFaceCheckpoint:
    """Converts a checkpoint of open_clip.

    Args:
        config: the content of open_clip_config.json.
        weights_file: open_clip_model.safetensors or open_clip_pytorch_model.bin.
        allow_pickle: whether pickles are read, by `torch.load(weights_only=True)`.
        activation: the layers' activation; "auto" follows the config.

    Returns:
        The checkpoint in the Hugging Face form.

    Raises:
        DplError: the model has parts that CLIP in transformers does not have, or the files do not fit together.
    """
    found = read_open_clip_config(config)
    return from_open_clip(found, read_tensors(weights_file, allow_pickle), str(weights_file), activation)


def from_open_clip(
    config: OpenClipDesign, tensors: dict[str, Tensor], where: str, activation: ActivationChoice = "auto"
) -> HuggingFaceCheckpoint:
    """Converts the tensors of an open_clip checkpoint.

    Args:
        config: its config, as `read_open_clip_config` read it.
        tensors: its weights.
        where: the source, for messages.
        activation: the layers' activation; "auto" follows the config.

    Returns:
        The checkpoint in the Hugging Face form.

    Raises:
        DplError: the weights do not fit the config, or have parts that CLIP in transformers does not have.
    """
    design = config.design if activation == "auto" else replace(config.design, activation=activation)
    weights = from_openai_names(tensors, where)
    shapes = derive_config(weights, design, where)
    for (section, key, default), name in _SIZES.items():
        said = config.model[section].get(key, default)
        found = shapes["vision_config" if section == "vision_cfg" else "text_config"][name]
        if _side(said) != found:
            raise DplError(f"{where}: its {section}.{key} is {found}, {CONFIG} says {said}; the two do not belong together")
    return assemble(weights, design, where, config.preprocessor)


def read_open_clip_config(config: dict[str, Any]) -> OpenClipDesign:
    """Reads and checks open_clip_config.json, before any weights.

    Args:
        config: the content of the file.

    Returns:
        The part that dpl uses.

    Raises:
        DplError: the model is not supported; the message names the part.
    """
    model = config.get("model_cfg") if isinstance(config, dict) else None
    if not isinstance(model, dict) or not all(isinstance(model.get(part), dict) for part in ("vision_cfg", "text_cfg")):
        raise DplError(f"{CONFIG}: has no model_cfg with a vision_cfg and a text_cfg; dpl reads CLIPs of images and text")
    vision, text = model["vision_cfg"], model["text_cfg"]
    for section, values in (("model_cfg", model), ("vision_cfg", vision), ("text_cfg", text)):
        _refuse_unsupported(section, values)
    if not isinstance(vision.get("layers", 12), int):
        raise DplError(f"{CONFIG}: vision_cfg.layers is a list, which means a ResNet image tower; not supported")
    tokenizer = text.get("hf_tokenizer_name")
    if tokenizer and not str(tokenizer).startswith(_CLIP_TOKENIZERS):
        raise DplError(f"{CONFIG}: text_cfg.hf_tokenizer_name {tokenizer!r} is another tokenizer than CLIP's; not supported")
    numbers = {"width": vision.get("width", 768), "head_width": vision.get("head_width", OPENAI_HEAD_WIDTH)}
    numbers |= {"text width": text.get("width", 512), "heads": text.get("heads", 8)}
    if bad := [name for name, number in numbers.items() if not isinstance(number, int) or number < 1]:
        raise DplError(f"{CONFIG}: {bad[0]} is {numbers[bad[0]]!r}, no positive number")
    if numbers["text width"] % numbers["heads"]:
        raise DplError(f"{CONFIG}: text_cfg.width {numbers['text width']} is no multiple of its {numbers['heads']} heads")
    design = Config(
        image_heads=heads(numbers["width"], numbers["head_width"], CONFIG),
        text_heads=numbers["heads"],
        activation="quick_gelu" if model.get("quick_gelu") else "gelu",
        image_eps=_eps("vision_cfg", vision),
        text_eps=_eps("text_cfg", text),
    )
    given = config.get("preprocess_cfg") or {}
    if not isinstance(given, dict):
        raise DplError(f"{CONFIG}: its preprocess_cfg is {str(given)[:60]!r}, no table of settings")
    return OpenClipDesign(design, _preprocessor(given, vision.get("image_size", 224)), model)


def _refuse_unsupported(section: str, values: dict[str, Any]) -> None:
    for key, value in values.items():
        if key == "hf_tokenizer_name" or key in _HARMLESS[section] or value in (None, False, 0, "", [], {}):
            continue
        if _PLAIN.get(section, {}).get(key) != value:
            meaning = f" ({_MEANINGS[key]})" if key in _MEANINGS else ""
            raise DplError(
                f"{CONFIG}: {section}.{key} is {str(value)[:60]!r}{meaning}, which is not supported;"
                " dpl reads CLIPs with two plain transformers"
            )


def _eps(section: str, values: dict[str, Any]) -> float:
    norm = values.get("norm_kwargs") or {"eps": 1e-5}
    if not isinstance(norm, dict) or set(norm) != {"eps"} or not isinstance(norm["eps"], float) or norm["eps"] <= 0:
        raise DplError(f"{CONFIG}: {section}.norm_kwargs is {str(norm)[:60]}; only an eps is supported")
    return norm["eps"]


def _preprocessor(given: dict[str, Any], image_size: Any) -> dict[str, Any]:
    """Returns the preprocessing of open_clip's evaluation. It resizes to the model's image size and ignores `size`."""
    size = _side(image_size)
    if size is None:
        raise DplError(f"{CONFIG}: vision_cfg.image_size is {str(image_size)[:60]!r}; only square images are supported")
    resize = given.get("resize_mode") or "shortest"
    if resize not in ("shortest", "squash"):
        raise DplError(f"{CONFIG}: preprocess_cfg.resize_mode is {str(resize)[:60]!r}; shortest and squash are supported")
    filters = {"bicubic": 3, "random": 3, "bilinear": 2}  # open_clip evaluates with bicubic where training drew one at random
    interpolation = given.get("interpolation") or "bicubic"
    if str(interpolation) not in filters:
        raise DplError(
            f"{CONFIG}: preprocess_cfg.interpolation is {str(interpolation)[:60]!r}; {', '.join(filters)} are supported"
        )
    if given.get("mode", "RGB") != "RGB":
        raise DplError(f"{CONFIG}: preprocess_cfg.mode is {given['mode']!r}; only RGB is supported")
    channels = {key: _channels(key, given[key]) for key in ("mean", "std") if given.get(key)}
    return preprocessor_config(size, squash=resize == "squash", resample=filters[interpolation], **channels)


def _channels(key: str, value: Any) -> tuple[float, ...]:
    values = value if isinstance(value, list) else [value] * 3
    if len(values) != 3 or not all(isinstance(number, int | float) for number in values):
        raise DplError(f"{CONFIG}: preprocess_cfg.{key} is {str(value)[:60]!r}, not three numbers")
    return tuple(map(float, values))


def _side(size: Any) -> int | None:
    """Returns the side of a square given as one or two numbers; None for anything else."""
    sides = tuple(size) if isinstance(size, list | tuple) else (size, size)
    return sides[0] if len(sides) == 2 and sides[0] == sides[1] and isinstance(sides[0], int) else None
