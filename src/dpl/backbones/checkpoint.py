"""Reads a checkpoint of any supported layout into one form, its config before its weights."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import AutoTokenizer, CLIPConfig, PreTrainedTokenizerBase

from dpl.backbones.clip import read_clip_config
from dpl.backbones.formats import (
    HuggingFaceCheckpoint,
    byte_pair_tokenizer,
    clip_tokenizer,
    convert_file,
    from_open_clip,
    read_open_clip_config,
    read_tensors,
)
from dpl.backbones.plan import PREPROCESSORS, WeightFiles, plan_weights, tokenizer_files
from dpl.backbones.sources import Source
from dpl.backbones.weights import StoredTensors
from dpl.utils.errors import DplError

_CLIP_VOCABULARY = 49408


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint: its config, its weights by transformers' names, and the files that belong to them.

    Attributes:
        label: the checkpoint's name in messages.
        config: the config.
        tensors: the weights by name.
        preprocessor: the content of preprocessor_config.json.
        tokenizer: the tokenizer.
        commit: the hub's commit; None for a folder or file.
        notes: notes for the user, one line each.
    """

    label: str
    config: CLIPConfig
    tensors: Mapping[str, Tensor]
    preprocessor: Mapping[str, Any]
    tokenizer: PreTrainedTokenizerBase
    commit: str | None = None
    notes: tuple[str, ...] = ()


def read_checkpoint(source: Source | Path, allow_pickle: bool = True) -> Checkpoint:
    """Reads a checkpoint. From a repository it fetches the config, then one set of weights, the tokenizer and the preprocessor.

    Args:
        source: the files of a checkpoint, or the path of a single file with all weights.
        allow_pickle: whether weights may be read from a pickle, as weights alone.

    Returns:
        The content of the checkpoint; tensors of safetensors files are read when they are accessed.

    Raises:
        DplError: the checkpoint is not a CLIP, or one of its files is missing, broken or not allowed.
    """
    if isinstance(source, Path):
        return _converted(str(source), convert_file(source, allow_pickle))
    if "config.json" not in source.names:
        if "open_clip_config.json" in source.names:
            return _open_clip(source, allow_pickle)
        raise DplError(f"backbone {source.label}: has no config.json; give a checkpoint folder, or the file of weights itself")
    config = read_clip_config(source.label, _json(source, "config.json"))
    weights = _planned(source, allow_pickle)
    if weights.is_open_clip:
        return _open_clip(source, allow_pickle)
    tokenizer = _tokenizer(source, config)
    files = [source.file(name) for name in weights.names]
    return Checkpoint(
        label=source.label,
        config=config,
        tensors=_unpickled(files) if weights.is_pickle else StoredTensors(files),
        preprocessor=_preprocessor(source),
        tokenizer=tokenizer,
        commit=source.commit,
        notes=_pickle_note(source, weights),
    )


def _planned(source: Source, allow_pickle: bool) -> WeightFiles:
    def index(name: str) -> Any:
        return _json(source, name)

    return plan_weights(source.label, source.names, index, allow_pickle, source.is_whole, source.conversion)


def _unpickled(files: Sequence[Path]) -> dict[str, Tensor]:
    return {name: tensor for file in files for name, tensor in read_tensors(file).items()}


def _open_clip(source: Source, allow_pickle: bool) -> Checkpoint:
    try:
        found = read_open_clip_config(_json(source, "open_clip_config.json"))
    except DplError as error:
        raise DplError(f"backbone {source.label}: {error}") from None
    weights = _planned(source, allow_pickle)
    file = source.file(weights.names[0])
    form = from_open_clip(found, read_tensors(file), str(file))
    config = read_clip_config(source.label, form.config)
    tokenizer = _tokenizer(source, config)
    notes = (*form.notes, *_pickle_note(source, weights))
    return Checkpoint(source.label, config, form.weights, form.preprocessor, tokenizer, source.commit, notes)


def _converted(label: str, form: HuggingFaceCheckpoint) -> Checkpoint:
    config = read_clip_config(label, form.config)
    return Checkpoint(label, config, form.weights, form.preprocessor, _own_tokenizer(label, config), notes=form.notes)


def _pickle_note(source: Source, weights: WeightFiles) -> tuple[str, ...]:
    if not weights.is_pickle:
        return ()
    revision = source.conversion()
    other = f"; the hub's conversion to safetensors is --revision {revision}" if revision else ""
    read = f"{weights.names[0]}, a pickle, is read as weights alone, no code in it runs"
    return (f"backbone {source.label}: {read} (--no-pickle refuses it{other})",)


def _json(source: Source, name: str) -> Any:
    path = source.file(name)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DplError(f"backbone {source.label}: {name} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise DplError(f"backbone {source.label}: {name} is not JSON ({error})") from None


def _preprocessor(source: Source) -> Mapping[str, Any]:
    """Returns the settings of the image preprocessor; empty if the checkpoint has none, which means CLIP's own."""
    for name in PREPROCESSORS:
        if name in source.names:
            settings = _json(source, name)
            if not isinstance(settings, dict):
                raise DplError(f"backbone {source.label}: {name} is no table of settings")
            if name != "processor_config.json" or "image_processor" in settings:
                return settings
    return {}


def _tokenizer(source: Source, config: CLIPConfig) -> PreTrainedTokenizerBase:
    names = tokenizer_files(source.names)
    if not any(name in names for name in ("tokenizer.json", "vocab.json")):
        return _own_tokenizer(source.label, config)
    files = [source.file(name) for name in names]
    try:
        if "tokenizer.json" not in names:  # transformers needs additional packages to convert these
            return _byte_pairs(files[0], source.file("merges.txt"), config)
        return AutoTokenizer.from_pretrained(files[0].parent, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # tokenizers raises plain Exception for a broken tokenizer.json
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DplError(f"backbone {source.label}: the tokenizer cannot be read ({reason})") from None


def _byte_pairs(vocabulary: Path, merges: Path, config: CLIPConfig) -> PreTrainedTokenizerBase:
    """Builds the tokenizer of vocab.json and merges.txt, whose first line may name a version."""
    text: Any = config.text_config
    pairs = [tuple(line.split()) for line in merges.read_text(encoding="utf-8").splitlines()]
    kept = [pair for pair in pairs if len(pair) == 2 and pair[0] != "#version:"]
    return byte_pair_tokenizer(json.loads(vocabulary.read_text(encoding="utf-8")), kept, text.max_position_embeddings)


def _own_tokenizer(label: str, config: CLIPConfig) -> PreTrainedTokenizerBase:
    """Builds CLIP's own tokenizer, for checkpoints without one."""
    text: Any = config.text_config
    if text.vocab_size != _CLIP_VOCABULARY:
        raise DplError(
            f"backbone {label}: has no tokenizer, and its {text.vocab_size} tokens are not the {_CLIP_VOCABULARY} of CLIP's"
        )
    return clip_tokenizer(text.max_position_embeddings)
