"""The Hugging Face form of a CLIP: the config is derived from the shapes of the weights, then checked against all of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel
from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from dpl.backbones.choices import Activation
from dpl.backbones.formats.tokenizer import BOS, EOS, VOCABULARY
from dpl.utils.errors import DplError

OPENAI_HEAD_WIDTH = 64
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# The image towers of open_clip's ViT-H, ViT-g, ViT-bigG and ViT-e, by width; all its other towers have heads 64 wide.
_OPEN_CLIP_HEAD_WIDTHS = {1280: 80, 1408: 88, 1664: 104, 1792: 112}


@dataclass(frozen=True, eq=False)
class HuggingFaceCheckpoint:
    """A CLIP checkpoint in the form of `transformers.CLIPModel`, without a tokenizer.

    Attributes:
        config: the content of config.json.
        weights: the tensors by their names in `CLIPModel.state_dict()`, in the dtypes of the source; some share memory.
        preprocessor: the content of preprocessor_config.json.
        notes: assumptions made because the source lacks the information, one sentence each.
    """

    config: dict[str, Any]
    weights: dict[str, Tensor]
    preprocessor: dict[str, Any]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Config:
    """The properties of a CLIP that the shapes of its weights do not determine."""

    image_heads: int
    text_heads: int
    activation: Activation
    image_eps: float = 1e-5
    text_eps: float = 1e-5


def image_head_width(width: int) -> int:
    """Returns the width of a head in an image tower of `width`, by the rule that all published CLIPs follow."""
    return _OPEN_CLIP_HEAD_WIDTHS.get(width, OPENAI_HEAD_WIDTH)


def heads(width: int, head_width: int, where: str) -> int:
    """Computes the number of attention heads.

    Args:
        width: width of a token.
        head_width: width of a head.
        where: the source, for messages.

    Raises:
        DplError: `head_width` does not divide `width`.
    """
    if head_width < 1 or width % head_width:
        raise DplError(f"{where}: a width of {width} is no multiple of the head width {head_width}, so the heads are unknown")
    return width // head_width


def widths(weights: Mapping[str, Tensor], where: str) -> tuple[int, int]:
    """Reads the widths of the image and the text tower from the shapes of the weights.

    Args:
        weights: the tensors in Hugging Face names.
        where: the source, for messages.

    Raises:
        DplError: a weight is missing or has a wrong number of dimensions.
    """
    return (
        _shape(weights, "vision_model.embeddings.class_embedding", 1, where)[0],
        _shape(weights, "text_model.embeddings.token_embedding.weight", 2, where)[1],
    )


def assemble(
    weights: dict[str, Tensor],
    design: Config,
    where: str,
    preprocessor: dict[str, Any] | None = None,
    notes: tuple[str, ...] = (),
) -> HuggingFaceCheckpoint:
    """Derives the config and checks that the weights are exactly those of a CLIP with this config.

    Args:
        weights: the tensors in Hugging Face names.
        design: the properties that shapes do not determine.
        where: the source, for messages.
        preprocessor: the content of preprocessor_config.json; by default the preprocessing of OpenAI's CLIP.
        notes: the assumptions made.

    Returns:
        The checkpoint.

    Raises:
        DplError: a weight is missing, unknown, of another shape or not a floating-point tensor, or the vocabulary is not CLIP's.
    """
    for name, weight in weights.items():
        if weight.dtype not in _DTYPES:
            raise DplError(f"{where}: {name} is {_name(weight.dtype)}; supported are {', '.join(map(_name, _DTYPES))}")
    config = derive_config(weights, design, where)
    _check(weights, config, where)
    if config["text_config"]["vocab_size"] != VOCABULARY:
        raise DplError(
            f"{where}: its vocabulary has {config['text_config']['vocab_size']} entries, CLIP's has {VOCABULARY};"
            " a text tower with another tokenizer is not supported"
        )
    size = config["vision_config"]["image_size"]
    return HuggingFaceCheckpoint(config, weights, preprocessor or preprocessor_config(size), notes)


def derive_config(weights: Mapping[str, Tensor], design: Config, where: str) -> dict[str, Any]:
    """Derives the content of config.json from the shapes of the weights.

    Args:
        weights: the tensors in Hugging Face names.
        design: the properties that shapes do not determine.
        where: the source, for messages.

    Raises:
        DplError: a weight is missing, or the shapes are not those of a CLIP.
    """
    width, text_width = widths(weights, where)
    patch = _shape(weights, "vision_model.embeddings.patch_embedding.weight", 4, where)[-1]
    positions = _shape(weights, "vision_model.embeddings.position_embedding.weight", 2, where)[0]
    grid = math.isqrt(max(positions - 1, 0))
    if grid < 1 or grid**2 + 1 != positions:
        raise DplError(f"{where}: {positions} image positions are not a square of patches and a class token; not supported")
    dim = _shape(weights, "visual_projection.weight", 2, where)[0]
    vision = {"hidden_size": width, "num_attention_heads": design.image_heads, "layer_norm_eps": design.image_eps}
    vision |= {"patch_size": patch, "image_size": patch * grid}
    text = {"hidden_size": text_width, "num_attention_heads": design.text_heads, "layer_norm_eps": design.text_eps}
    text |= {"vocab_size": _shape(weights, "text_model.embeddings.token_embedding.weight", 2, where)[0]}
    text |= {"max_position_embeddings": _shape(weights, "text_model.embeddings.position_embedding.weight", 2, where)[0]}
    text |= {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": EOS}
    for tower, part in (("vision_model", vision), ("text_model", text)):
        layers = {name.split(".")[3] for name in weights if name.startswith(f"{tower}.encoder.layers.")}
        part["num_hidden_layers"] = len(layers)
        part["intermediate_size"] = _shape(weights, f"{tower}.encoder.layers.0.mlp.fc1.weight", 2, where)[0]
        part |= {"hidden_act": design.activation, "projection_dim": dim}
    dtype = reduce(torch.promote_types, (weight.dtype for weight in weights.values()))  # holds every weight exactly
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "dtype": _name(dtype),
        "projection_dim": dim,
        "logit_scale_init_value": math.log(1 / 0.07),
        "vision_config": {"model_type": "clip_vision_model", **vision},
        "text_config": {"model_type": "clip_text_model", **text},
    }


def preprocessor_config(
    size: int,
    *,
    squash: bool = False,
    resample: int = 3,
    mean: tuple[float, ...] = tuple(OPENAI_CLIP_MEAN),
    std: tuple[float, ...] = tuple(OPENAI_CLIP_STD),
) -> dict[str, Any]:
    """Writes the content of preprocessor_config.json.

    Args:
        size: side of the model's images in pixels.
        squash: resize both sides to `size` instead of the shortest side, which is followed by a centre crop.
        resample: PIL's number of the filter: 2 is bilinear, 3 bicubic.
        mean: mean of each RGB channel, 0-1, which is subtracted.
        std: divisor of each channel after the mean is subtracted.

    Returns:
        The settings.
    """
    square = {"height": size, "width": size}
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": square if squash else {"shortest_edge": size},
        "resample": resample,
        "do_center_crop": not squash,
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(std),
    }


def _check(weights: Mapping[str, Tensor], config: dict[str, Any], where: str) -> None:
    with torch.device("meta"):  # shapes without memory
        expected = CLIPModel(CLIPConfig(**config)).state_dict()
    if missing := sorted(expected.keys() - weights.keys()):
        raise DplError(f"{where}: {len(missing)} weights are missing, the first is {missing[0]}")
    if unknown := sorted(weights.keys() - expected.keys()):
        raise DplError(f"{where}: CLIP has no place for {len(unknown)} weights, the first is {unknown[0]}")
    for name, weight in weights.items():
        if weight.shape != expected[name].shape:
            raise DplError(f"{where}: {name} is {_sizes(weight)}, the other weights ask for {_sizes(expected[name])}")


def _shape(weights: Mapping[str, Tensor], name: str, dims: int, where: str) -> torch.Size:
    if name not in weights:
        raise DplError(f"{where}: the weight {name} is missing")
    if weights[name].dim() != dims:
        raise DplError(f"{where}: {name} has {weights[name].dim()} dimensions, CLIP's has {dims}")
    return weights[name].shape


def _sizes(weight: Tensor) -> str:
    return " x ".join(map(str, weight.shape)) or "a single number"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
