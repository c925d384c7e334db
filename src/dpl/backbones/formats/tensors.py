"""Reads the tensors of one file: safetensors, a TorchScript archive, or a pickle of tensors."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.torch_version import TorchVersion

from dpl.backbones.formats.torchscript import is_torchscript, read_torchscript
from dpl.utils.errors import DplError

_SAFE_PICKLES = "2.10"  # in earlier versions `weights_only` could run code (CVE-2026-24747)
_WRAPPERS = ("module.", "_orig_mod.")  # prefixes of distributed and of compiled models


def read_tensors(path: Path, allow_pickle: bool = True) -> dict[str, Tensor]:
    """Reads the tensors in a file by their names, on the CPU, in the file's dtypes.

    The `state_dict` of a training checkpoint is extracted, and the prefixes of distributed training are removed. A TorchScript
    archive is not unpickled and none of its code runs, so it is read regardless of `allow_pickle`.

    Args:
        path: a file of safetensors, a TorchScript archive, or a file that `torch.save` wrote.
        allow_pickle: whether files of `torch.save` are read, by `torch.load(weights_only=True)`.

    Returns:
        The tensors, without gradients.

    Raises:
        DplError: the file cannot be read, is none of these, or contains more than tensors and numbers.
    """
    if not path.is_file():
        raise DplError(f"{path}: no such file")
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise DplError(f"{path}: cannot be read ({error.strerror})") from None
    if path.suffix == ".safetensors" or start[8:] == b"{":
        found: Any = _read_safetensors(path)
    elif is_torchscript(path):
        found = read_torchscript(path)
    else:
        found = _read_pickle(path, allow_pickle)
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)} if isinstance(found, dict) else {}
    if not tensors:
        kind = f"a dict with {some(found)}" if isinstance(found, dict) and found else f"a {type(found).__name__}"
        raise DplError(f"{path}: holds no named tensors but {kind}; give a file with the state dict of a CLIP")
    for prefix in _WRAPPERS:
        if all(str(name).startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    if bad := [name for name in tensors if not str(name).isprintable()]:
        raise DplError(f"{path}: a tensor has the name {str(bad[0])[:60]!r}; give a file with the state dict of a CLIP")
    return {str(name): tensor.detach() for name, tensor in tensors.items()}


def some(names: Any) -> str:
    """Joins the first three of `names` with commas, for messages."""
    first = [str(name)[:60] for name in list(names)[:3]]
    return ", ".join(first) + (", ..." if len(names) > 3 else "")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise DplError(f"{path}: is no whole file of safetensors ({_first_line(error)}); get it anew") from None


def _read_pickle(path: Path, allow_pickle: bool) -> Any:
    if not allow_pickle:
        raise DplError(f"{path}: is a pickle, which --no-pickle refuses; give a .safetensors file")
    if TorchVersion(torch.__version__) < _SAFE_PICKLES:
        raise DplError(
            f"{path}: is a pickle, which torch reads safely from {_SAFE_PICKLES} on (CVE-2026-24747), and needs torch >="
            f" {_SAFE_PICKLES}; here is {torch.__version__}. Update torch or give a .safetensors file"
        )
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, ValueError) as error:
            if "mmap" not in str(error):
                raise
            return torch.load(path, map_location="cpu", weights_only=True)  # torch before 1.6 wrote no zip
    except UnpicklingError:
        raise DplError(
            f"{path}: is no pickle, or one that holds more than tensors, which could run code; nothing of it was run."
            " Give the weights alone, best as .safetensors"
        ) from None
    except Exception as error:  # a broken pickle fails in any way
        raise DplError(f"{path}: is no whole file of torch.save ({_first_line(error)}); get it anew") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:120] or type(error).__name__
