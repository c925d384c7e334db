"""Chooses the files that hold a checkpoint's weights: exactly one set, the safest available."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from dpl.utils.errors import DplError

_SHARD = re.compile(r"(?P<stem>(?!open_clip).+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.(?P<ending>safetensors|bin)")
_WEIGHTS = re.compile(r".+\.(safetensors|bin|msgpack|h5|pt|pth|ckpt|onnx|gguf)")
TOKENIZER = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
PREPROCESSORS = ("processor_config.json", "preprocessor_config.json")


@dataclass(frozen=True)
class WeightFiles:
    """One set of weights.

    Attributes:
        names: the names of its files.
        is_pickle: whether the files are pickles.
        is_open_clip: whether the tensors have open_clip's names.
    """

    names: tuple[str, ...]
    is_pickle: bool = False
    is_open_clip: bool = False


def plan_weights(
    label: str,
    names: Collection[str],
    read_index: Callable[[str], Any],
    allow_pickle: bool = True,
    is_whole: bool = True,
    conversion: Callable[[], str | None] = lambda: None,
) -> WeightFiles:
    """Chooses the files that hold the weights, in this order of preference.

    1. model.safetensors; 2. its index and shards; 3. shards of safetensors without that index, if all are there; 4.
    pytorch_model.bin, 5. its index and shards, 6. shards of .bin without index; 7. open_clip_model.safetensors; 8.
    open_clip_pytorch_model.bin. Without `config.json` only 7 and 8 are considered.

    Args:
        label: the checkpoint's name in messages.
        names: all files of the checkpoint.
        read_index: reads the JSON of an index file.
        allow_pickle: whether pickled weights may be chosen.
        is_whole: whether `names` are all files of the checkpoint, not only those in the hub's cache.
        conversion: finds the revision with the hub's conversion to safetensors; called only if a message needs it.

    Returns:
        The files of one set.

    Raises:
        DplError: there are no such weights, a shard is missing, or an index names other files than weights beside it.
    """
    hugging_face = "config.json" in names
    if hugging_face:
        for ending, stem in (("safetensors", "model"), ("bin", "pytorch_model")):
            if (ending == "safetensors" or allow_pickle) and (found := _set(label, names, read_index, stem, ending)):
                return WeightFiles(found, is_pickle=ending == "bin")
    if "open_clip_config.json" in names:
        for name in ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"):
            if name in names and (allow_pickle or name.endswith(".safetensors")):
                return WeightFiles((name,), is_pickle=name.endswith(".bin"), is_open_clip=True)
    raise DplError(f"backbone {label}: {_why_none(names, allow_pickle, is_whole, conversion)}")


def tokenizer_files(names: Collection[str]) -> tuple[str, ...]:
    """Chooses the files of the tokenizer.

    Args:
        names: all files of the checkpoint.

    Returns:
        tokenizer.json, or else vocabulary and merges; then the small files with settings.
    """
    vocabulary = ("tokenizer.json",) if "tokenizer.json" in names else ("vocab.json", "merges.txt")
    return tuple(name for name in (*vocabulary, *TOKENIZER) if name in names)


def _set(label: str, names: Collection[str], read_index: Callable[[str], Any], stem: str, ending: str) -> tuple[str, ...] | None:
    single, index = f"{stem}.{ending}", f"{stem}.{ending}.index.json"
    if single in names:
        return (single,)
    if index in names:
        return _indexed(label, names, index, read_index(index), ending)
    shards = [match for name in sorted(names) if (match := _SHARD.fullmatch(name)) and match["ending"] == ending]
    for first in shards:
        count = int(first["count"])
        wanted = [f"{first['stem']}-{number:05}-of-{first['count']}.{ending}" for number in range(1, count + 1)]
        missing = [name for name in wanted if name not in names]
        if missing:
            raise DplError(f"backbone {label}: {len(missing)} of {count} shards are missing, the first is {missing[0]}")
        return tuple(wanted)
    return None


def _indexed(label: str, names: Collection[str], index: str, content: Any, ending: str) -> tuple[str, ...]:
    try:
        shards = sorted(set(content["weight_map"].values()))
    except (KeyError, TypeError, AttributeError):
        raise DplError(f"backbone {label}: {index} has no weight_map of tensor names and files") from None
    for shard in shards:
        if not isinstance(shard, str) or "/" in shard or "\\" in shard or not shard.endswith(f".{ending}"):
            raise DplError(f"backbone {label}: {index} names {shard!r}; it may name .{ending} files beside it only")
        if shard not in names:
            raise DplError(f"backbone {label}: {shard}, which {index} names, is missing")
    if not shards:
        raise DplError(f"backbone {label}: {index} names no file")
    return tuple(shards)


def _why_none(names: Collection[str], allow_pickle: bool, is_whole: bool, conversion: Callable[[], str | None]) -> str:
    there = sorted(name for name in names if _WEIGHTS.fullmatch(name))
    if not is_whole and not there:
        return "the Hugging Face cache has its config but no weights; fetch them once with a network (unset HF_HUB_OFFLINE)"
    if not allow_pickle and any(name.endswith(".bin") for name in there):
        revision = conversion()
        other = f"--revision {revision}" if revision else "--revision refs/pr/N, if its community page has one,"
        return f"has pickled weights only ({', '.join(there)}); {other} is the hub's conversion, or leave out --no-pickle"
    listed = f"has only {', '.join(there)}" if there else "has none"
    return f"no weights that can be read, it {listed}; model.safetensors, its shards or pytorch_model.bin are needed"
