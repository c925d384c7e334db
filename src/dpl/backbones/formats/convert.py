"""`dpl convert`: writes a checkpoint of another format as a folder in the Hugging Face form."""

import secrets
import shutil
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from dpl.backbones.choices import ActivationChoice
from dpl.backbones.formats.hugging_face import HuggingFaceCheckpoint
from dpl.backbones.formats.open_clip import CONFIG, WEIGHTS, convert_open_clip
from dpl.backbones.formats.single_file import convert_file
from dpl.backbones.formats.tokenizer import clip_tokenizer
from dpl.utils.errors import DplError
from dpl.utils.files import read_json, write_json


def convert_to_folder(
    source: Path, folder: Path, allow_pickle: bool = True, activation: ActivationChoice = "auto"
) -> tuple[str, ...]:
    """Writes `source` in the Hugging Face form to the new `folder`.

    Args:
        source: one file of weights, or a folder with open_clip_config.json and open_clip's weights.
        folder: the new folder of the checkpoint; it must not exist.
        allow_pickle: whether pickles are read, by `torch.load(weights_only=True)`.
        activation: the layers' activation; "auto" takes the one of the source.

    Returns:
        The assumptions made, one sentence each.

    Raises:
        DplError: the source cannot be converted, or `folder` exists or cannot be written.
    """
    _refuse_existing(folder)  # before the work
    if source.is_dir():
        checkpoint = _convert_folder(source, allow_pickle, activation)
    else:
        checkpoint = convert_file(source, allow_pickle, activation)
    tokenizer = clip_tokenizer(checkpoint.config["text_config"]["max_position_embeddings"])
    write_checkpoint(checkpoint, tokenizer, folder)
    return checkpoint.notes


def write_checkpoint(checkpoint: HuggingFaceCheckpoint, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Writes a checkpoint and its tokenizer to the new `folder`. The folder appears only when it is complete.

    Args:
        checkpoint: config, weights and preprocessor.
        tokenizer: the tokenizer.
        folder: the new folder; it must not exist.

    Raises:
        DplError: `folder` exists or cannot be written.
    """
    _refuse_existing(folder)
    temporary = folder.parent / f".{folder.name}.{secrets.token_hex(4)}"
    try:
        temporary.mkdir(parents=True)
        write_json(temporary / "config.json", checkpoint.config)
        write_json(temporary / "preprocessor_config.json", checkpoint.preprocessor)
        tokenizer.save_pretrained(temporary)
        weights = {name: _own(weight) for name, weight in checkpoint.weights.items()}
        save_file(weights, temporary / "model.safetensors", metadata={"format": "pt"})
        (temporary / "model.safetensors").chmod((temporary / "config.json").stat().st_mode)  # safetensors writes 0600
        temporary.rename(folder)
    except OSError as error:
        raise DplError(f"{folder}: cannot be written ({error.strerror or error}); nothing is kept") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _convert_folder(folder: Path, allow_pickle: bool, activation: ActivationChoice) -> HuggingFaceCheckpoint:
    if not (folder / CONFIG).is_file():
        if (folder / "config.json").is_file():
            raise DplError(f"{folder}: is a checkpoint in the Hugging Face form already; use it as --backbone {folder}")
        raise DplError(f"{folder}: has no {CONFIG}; give a folder of open_clip, or one file of weights")
    found = [folder / name for name in WEIGHTS if (folder / name).is_file()]
    if not found:
        raise DplError(f"{folder}: has {CONFIG}, but neither {' nor '.join(WEIGHTS)}")
    return convert_open_clip(read_json(folder / CONFIG), found[0], allow_pickle, activation)


def _refuse_existing(folder: Path) -> None:
    if folder.exists():
        raise DplError(f"{folder}: exists already and is not overwritten; give a new folder")


def _own(weight: Tensor) -> Tensor:
    """Returns the weight alone in its memory: safetensors stores no views."""
    if weight.is_contiguous() and weight.untyped_storage().nbytes() == weight.nbytes:
        return weight
    return weight.contiguous() if not weight.is_contiguous() else weight.clone()
