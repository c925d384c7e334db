"""Converts a single file without a config: OpenAI's archive, or a state dict in OpenAI's, open_clip's or transformers' naming."""

from pathlib import Path

from torch import Tensor

from dpl.backbones.choices import Activation, ActivationChoice
from dpl.backbones.formats.hugging_face import (
    OPENAI_HEAD_WIDTH,
    Config,
    HuggingFaceCheckpoint,
    assemble,
    heads,
    image_head_width,
    widths,
)
from dpl.backbones.formats.naming import from_openai_names, has_openai_names, is_openai_archive
from dpl.backbones.formats.open_clip import CONFIG, from_open_clip, read_open_clip_config
from dpl.backbones.formats.tensors import read_tensors, some
from dpl.utils.errors import DplError
from dpl.utils.files import read_json

# Words in file names that indicate the activation of the weights if it is not the library's default.
_QUICK_GELU = ("quickgelu", "quick_gelu", "openai", "metaclip")
_GELU = ("laion", "datacomp", "open_clip", "openclip")


def convert_file(path: Path, allow_pickle: bool = True, activation: ActivationChoice = "auto") -> HuggingFaceCheckpoint:
    """Converts one file of weights. If open_clip_config.json is beside it, its settings are used.

    Args:
        path: OpenAI's TorchScript archive, or a state dict (.pt, .pth, .bin, .safetensors) in the naming of OpenAI and open_clip,
            or in the one of transformers.
        allow_pickle: whether a pickle is read, by `torch.load(weights_only=True)`. A TorchScript archive is never unpickled.
        activation: the layers' activation; "auto" takes the one of the source, or else assumes one and notes it.

    Returns:
        The checkpoint in the Hugging Face form.

    Raises:
        DplError: the file is none of these, is broken, or is a model that is not supported.
    """
    where = str(path)
    tensors = read_tensors(path, allow_pickle)
    if has_openai_names(tensors):
        archive = is_openai_archive(tensors)
        if not archive and (path.parent / CONFIG).is_file():
            return from_open_clip(read_open_clip_config(read_json(path.parent / CONFIG)), tensors, where, activation)
        weights = from_openai_names(tensors, where)
        if archive:
            chosen: Activation = "quick_gelu" if activation == "auto" else activation
            return assemble(weights, _design(weights, chosen, where, OPENAI_HEAD_WIDTH), where)
        default: Activation = "quick_gelu" if _named(path, _QUICK_GELU) else "gelu"
    elif "vision_model.embeddings.class_embedding" in tensors:
        if (path.parent / "config.json").is_file():
            raise DplError(f"{path}: there is a config.json beside it; give the folder, {path.parent}, so that it is used")
        weights = {name: tensor for name, tensor in tensors.items() if not name.endswith(".position_ids")}
        default = "gelu" if _named(path, _GELU) else "quick_gelu"
    else:
        raise DplError(
            f"{path}: is no CLIP that dpl knows, it holds {some(tensors)}; supported are the weights of OpenAI's CLIP and of"
            " open_clip (visual.conv1.weight), and of transformers' CLIPModel (vision_model.embeddings.class_embedding)"
        )
    chosen = default if activation == "auto" else activation
    design = _design(weights, chosen, where)
    return assemble(weights, design, where, notes=_notes(path, design, activation == "auto"))


def _design(weights: dict[str, Tensor], activation: Activation, where: str, head_width: int | None = None) -> Config:
    width, text_width = widths(weights, where)
    image_heads = heads(width, head_width or image_head_width(width), where)
    return Config(image_heads, heads(text_width, OPENAI_HEAD_WIDTH, where), activation)


def _notes(path: Path, design: Config, guessed: bool) -> tuple[str, ...]:
    count = f"{design.image_heads} heads in the image and {design.text_heads} in the text layers, by the rule of published CLIPs"
    notes = (f"{path.name} has no config: assumed are {count}, and OpenAI's preprocessing of images",)
    if not guessed:
        return notes
    other = "gelu" if design.activation == "quick_gelu" else "quick_gelu"
    return (
        *notes,
        f"{path.name} has no config: assumed is {design.activation}; dpl convert --activation {other} takes the other",
    )


def _named(path: Path, words: tuple[str, ...]) -> bool:
    return any(word in path.name.lower() for word in words)
