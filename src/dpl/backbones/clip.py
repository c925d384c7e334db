"""The CLIP family: checks a checkpoint's config before any weight is fetched, and builds the model without weights."""

from typing import Any

import torch
from torch import nn
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerBase

from dpl.backbones.quick_gelu import replace_quick_gelu
from dpl.utils.errors import DplError

_OTHERS = {
    "siglip": "a SigLIP",
    "siglip2": "a SigLIP",
    "vit": "a vision transformer without a text branch",
    "dinov2": "a vision transformer without a text branch",
    "clip_vision_model": "the image branch of a CLIP alone",
    "clip_text_model": "the text branch of a CLIP alone",
    "chinese_clip": "a CLIP whose text branch is a BERT",
    "vision-text-dual-encoder": "a pair of two other models",
}
HIGHEST_ID = 2
"""The `eos_token_id` of configs from before transformers 4.31. It means: pool at the highest token id."""


def read_clip_config(label: str, settings: Any) -> CLIPConfig:
    """Reads and checks the content of a config.json.

    Args:
        label: the checkpoint's name in messages.
        settings: the JSON of the config.

    Returns:
        The complete config.

    Raises:
        DplError: the checkpoint is not a CLIP with two transformers, or its config contradicts itself.
    """
    if not isinstance(settings, dict):
        raise DplError(f"backbone {label}: config.json is no table of settings")
    kind = settings.get("model_type")
    if kind != "clip":
        what = f" ({_OTHERS[kind]})" if kind in _OTHERS else ""
        raise DplError(
            f"backbone {label}: is a {kind!r} checkpoint{what}, not a CLIP with both branches; checkpoints of model_type 'clip',"
            " of open_clip and of OpenAI can be read"
        )
    if "quantization_config" in settings:
        raise DplError(f"backbone {label}: its weights are quantised (quantization_config); take the checkpoint it was made from")
    try:
        config = CLIPConfig.from_dict({key: value for key, value in settings.items() if key != "auto_map"})
    except Exception as error:  # the validators of transformers raise errors of many kinds
        raise DplError(f"backbone {label}: config.json cannot be used ({_reason(error)})") from None
    text, vision = (_checked(label, name, getattr(config, name)) for name in ("text_config", "vision_config"))
    if not isinstance(vision.image_size, int) or not isinstance(vision.patch_size, int) or vision.image_size < vision.patch_size:
        raise DplError(
            f"backbone {label}: images of {vision.image_size} pixels in patches of {vision.patch_size} are not supported"
        )
    if not isinstance(text.eos_token_id, int):
        raise DplError(f"backbone {label}: eos_token_id is {text.eos_token_id}; the text branch pools at one token")
    config._attn_implementation = "sdpa"
    return config


def _reason(error: Exception) -> str:
    return " ".join(str(error.__cause__ or error).split())[:200] or type(error).__name__


def _checked(label: str, name: str, config: Any) -> Any:
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    for size in sizes:
        value = getattr(config, size)
        if not isinstance(value, int) or value < 1:
            raise DplError(f"backbone {label}: {name}.{size} is {value!r}; it must be a whole number above 0")
    if config.hidden_size % config.num_attention_heads:
        heads = f"{config.num_attention_heads} heads"
        raise DplError(f"backbone {label}: {name} has the width {config.hidden_size}, which {heads} do not divide")
    return config


def build(label: str, config: CLIPConfig) -> CLIPModel:
    """Builds the model in eval mode, with its parameters on the meta device.

    Args:
        label: the checkpoint's name in messages.
        config: the checked config.

    Raises:
        DplError: transformers cannot build the model.
    """
    try:
        with torch.device("meta"):
            clip = CLIPModel(config).eval()
    except Exception as error:  # transformers raises many types, e.g. for an unknown activation or sizes that do not fit
        raise DplError(f"backbone {label}: config.json cannot be used ({_reason(error)})") from None
    replace_quick_gelu(clip)
    for module in clip.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if name != "position_ids":
                raise AssertionError(f"{type(module).__name__}.{name}: an unknown buffer")
            module.register_buffer(name, torch.arange(buffer.shape[-1])[None], persistent=False)
    return clip


def linear_parameters(clip: CLIPModel) -> frozenset[str]:
    """Returns the names of the parameters of both branches' linear and convolutional layers; bf16 stores these in bfloat16."""
    return frozenset(
        f"{name}.{own}"
        for name, module in clip.named_modules()
        if name.startswith(("vision_model.", "text_model.")) and isinstance(module, nn.Linear | nn.Conv2d)
        for own, _ in module.named_parameters(recurse=False)
    )


def linear_layers_to_bfloat16(clip: CLIPModel) -> None:
    """Converts the weights of `linear_parameters` to bfloat16 in place; autocast would convert frozen weights in every call."""
    for name in linear_parameters(clip):
        parameter = clip.get_parameter(name)
        parameter.data = parameter.data.to(torch.bfloat16)


def function_settings(config: CLIPConfig) -> dict[str, Any]:
    """Returns the settings that change the outputs of given weights: activation, epsilon, heads, pooling, sizes of image and
    patch."""
    text: Any = config.text_config
    vision: Any = config.vision_config
    both = {
        branch: [own.hidden_act, own.layer_norm_eps, own.num_attention_heads]
        for branch, own in (("text", text), ("image", vision))
    }
    return {**both, "eos": text.eos_token_id, "patch": vision.patch_size, "image": [*both["image"], vision.image_size]}


def pooled_at(row: list[int], eos: int) -> int | None:
    """Finds the token that transformers' text model pools at.

    Args:
        row: the token ids of a text.
        eos: the `eos_token_id` of the text config.

    Returns:
        The position in `row`; None if `eos` is not in it, where transformers pools at the first token.
    """
    if eos == HIGHEST_ID:
        return row.index(max(row))
    return row.index(eos) if eos in row else None


def check_pooling(label: str, config: CLIPConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Checks that texts are pooled at the token with which the tokenizer ends them.

    Args:
        label: the checkpoint's name in messages.
        config: the model's config.
        tokenizer: the checkpoint's tokenizer.

    Raises:
        DplError: the tokenizer never emits the token that the config names, or emits ids that have no embedding in the model.
    """
    text: Any = config.text_config
    row: Any = tokenizer("a photo of a cat.", verbose=False)["input_ids"]
    place = pooled_at(row, text.eos_token_id)
    if place is None or place == 0 or place != len(row) - 1:
        means = "the highest token id" if text.eos_token_id == HIGHEST_ID else f"token {text.eos_token_id}"
        ends = f"ends texts with {row[-1]} ({tokenizer.convert_ids_to_tokens(row[-1])!r})" if row else "gives no tokens"
        raise DplError(
            f"backbone {label}: config.json says that texts are pooled at {means}, but the tokenizer {ends}; set eos_token_id in"
            " text_config to the token that ends texts, or take the tokenizer that belongs to the weights"
        )
    if max(row) >= text.vocab_size:
        raise DplError(
            f"backbone {label}: the tokenizer gives token {max(row)}, the model has {text.vocab_size}; they do not fit"
        )
