"""Reads CLIP checkpoints in the field's other file formats and converts them in memory to the Hugging Face form."""

from dpl.backbones.choices import Activation, ActivationChoice
from dpl.backbones.formats.convert import convert_to_folder, write_checkpoint
from dpl.backbones.formats.hugging_face import HuggingFaceCheckpoint
from dpl.backbones.formats.open_clip import convert_open_clip, from_open_clip, read_open_clip_config
from dpl.backbones.formats.single_file import convert_file
from dpl.backbones.formats.tensors import read_tensors
from dpl.backbones.formats.tokenizer import byte_pair_tokenizer, clip_tokenizer
from dpl.backbones.formats.torchscript import is_torchscript

__all__ = [
    "Activation",
    "ActivationChoice",
    "HuggingFaceCheckpoint",
    "byte_pair_tokenizer",
    "clip_tokenizer",
    "convert_file",
    "convert_open_clip",
    "convert_to_folder",
    "from_open_clip",
    "is_torchscript",
    "read_open_clip_config",
    "read_tensors",
    "write_checkpoint",
]
