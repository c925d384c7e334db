"""Identifies backbones by digests of everything that changes the features of a frozen model; run folders store them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

_PROBES = (
    "a photo of a cat.", "A Photo of TWO dogs, 3.5 metres apart!", "naïve café — “quoted”", "it's we're I'd",
    "日本語 текст ελληνικά", "snake_case  and\tspaces", "0123456789 10,000 & <b>", "antidisestablishmentarianism", "🙂 emoji", "",
)  # fmt: skip


class TensorDigests:
    """Digests of tensors by name, in fp32 and rounded to fp16, independent of the order of the tensors."""

    def __init__(self) -> None:
        self._digests: dict[str, tuple[str, str]] = {}

    @staticmethod
    def of(tensor: Tensor) -> tuple[str, str]:
        """Computes the digests of one tensor and its shape.

        Args:
            tensor: an fp32 tensor on the CPU.

        Returns:
            SHA-256 of the values in fp32, and of the values rounded to fp16.
        """
        shape = str(tuple(tensor.shape)).encode()
        return _sha(shape, tensor), _sha(shape, tensor.to(torch.float16))

    def add(self, name: str, digests: tuple[str, str]) -> None:
        """Adds the digests of the tensor `name`, as `of` computes them."""
        self._digests[name] = digests

    def joined(self) -> tuple[str, str]:
        """Returns one digest of all tensors in fp32, and one of all in fp16."""
        rows = sorted(self._digests.items())
        exact, half = ("\n".join(f"{name} {pair[place]}" for name, pair in rows) for place in (0, 1))
        return hashlib.sha256(exact.encode()).hexdigest(), hashlib.sha256(half.encode()).hexdigest()


@dataclass(frozen=True)
class Identity:
    """Digests (SHA-256, hexadecimal) of everything that decides a backbone's features; `half`: of the weights rounded to fp16."""

    weights: str
    half: str
    function: str
    tokenizer: str

    @property
    def fingerprint(self) -> str:
        """One digest of weights, function and tokenizer."""
        return digest([self.weights, self.function, self.tokenizer])

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """Lists the differences from another identity.

        Args:
            other: the digests by field name, read from a file.

        Returns:
            Any of "weights", "function" and "tokenizer"; `ROUNDING` in place of "weights" if the weights are equal in fp16.
        """
        mine = asdict(self)
        found = [name for name in ("weights", "function", "tokenizer") if mine[name] != other.get(name)]
        if "weights" in found and self.half == other.get("half"):
            found[found.index("weights")] = ROUNDING
        return found


ROUNDING = "rounding of the weights"
"""A difference that is accepted: one checkpoint is the other in half precision."""


def digest(value: Any) -> str:
    """Returns the SHA-256, in hexadecimal, of a JSON value with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Digests the vocabulary and the token ids of some texts.

    Equal tokenizers have equal digests, also if one is a tokenizer.json and the other the vocabulary and merges that it is made
    of.

    Args:
        tokenizer: the tokenizer.
    """
    rows: Sequence[list[int]] = tokenizer(list(_PROBES), verbose=False)["input_ids"]  # type: ignore[assignment]
    return digest([sorted(tokenizer.get_vocab().items()), [list(row) for row in rows]])


def first_fingerprint(clip: nn.Module) -> str:
    """Computes the fingerprint of runs from before version 2 of config.json's backbone.

    It covers the shapes of all weights, but only the values of the projections, of the last norms and of logit_scale.
    """
    found = hashlib.sha256()
    for key, weight in sorted(clip.state_dict().items()):
        found.update(f"{key}{tuple(weight.shape)}".encode())
        if "projection" in key or "post_layernorm" in key or "final_layer_norm" in key or key == "logit_scale":
            found.update(weight.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def _sha(shape: bytes, tensor: Tensor) -> str:
    found = hashlib.sha256(shape)
    found.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return found.hexdigest()
