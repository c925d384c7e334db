"""Reads the tensors of a TorchScript archive, such as OpenAI's ViT-B-16.pt, without running or compiling any of its code.

The archive is a zip: `data.pkl` describes the tree of modules, `data/N` contain the bytes of tensors, `code/` is never opened.
"""

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpl.backbones.formats.symbols import Call, Name, Persistent, read_symbols
from dpl.utils.errors import DplError

_REBUILD = "torch._utils._rebuild_tensor_v2"
_STORAGES = {
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.DoubleStorage": torch.float64,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
_MODULES, _LISTS = "__torch__.", "torch.jit._pickle."  # classes of modules, and attributes that are lists of numbers
_CHUNK = 2**20  # bytes read at a time
_MOST_VALUES, _MOST_LEVELS = 100_000, 32  # a small pickle can describe a tree of any size, by naming one branch many times


def is_torchscript(path: Path) -> bool:
    """Returns whether the file is a TorchScript archive; `torch.save` writes zips too, but without constants."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.count("/") == 1 and name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile, NotImplementedError):
        return False


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Reads the tensors of an archive.

    Args:
        path: the archive.

    Returns:
        The tensors by their names in the module's state dict, including tensors that are plain attributes.

    Raises:
        DplError: the archive is broken, or refers to anything but modules and tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _Archive(archive, path).tensors()
    except DplError:
        raise
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise DplError(f"{path}: the TorchScript archive cannot be read ({error}); get it anew") from None


class _Archive:
    def __init__(self, archive: zipfile.ZipFile, path: Path) -> None:
        self.archive, self.path = archive, path
        names = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(names) != 1:
            raise self.broken(f"it has {len(names)} data.pkl")
        self.root = names[0].removesuffix("data.pkl")
        self.storages: dict[str, Tensor] = {}

    def broken(self, why: str) -> DplError:
        return DplError(f"{self.path}: the TorchScript archive is broken: {why}; get it anew")

    def tensors(self) -> dict[str, Tensor]:
        byteorder = f"{self.root}byteorder"
        if byteorder in self.archive.namelist() and self.archive.read(byteorder) != b"little":
            raise DplError(f"{self.path}: was written on a big-endian machine, which is not supported")
        tree = read_symbols(self.archive.read(f"{self.root}data.pkl"), _is_admitted, str(self.path))
        return {name: self.tensor(call) for name, call in self.calls(tree)}

    def calls(self, tree: Any) -> Iterator[tuple[str, Call]]:
        """Yields every tensor below the module `tree`: its name, and the call that would rebuild it."""
        pending = [("", tree)]
        for _ in range(_MOST_VALUES):
            if not pending:
                return
            name, value = pending.pop()
            if name.count(".") > _MOST_LEVELS:
                break
            if not isinstance(value, Call) or not isinstance(value.function, Name):
                continue
            if value.function.text == _REBUILD:
                yield name, value
            elif value.function.text.startswith(_MODULES) and isinstance(value.state, dict):
                prefix = f"{name}." if name else ""
                pending += [(f"{prefix}{key}", child) for key, child in reversed(value.state.items())]
        raise self.broken("its tree of modules does not end")

    def tensor(self, call: Call) -> Tensor:
        match call.arguments:
            case (Persistent(("storage", Name(kind), str(key), _, int(numel))), int(offset), tuple(size), tuple(stride), *_):
                pass
            case _:
                raise self.broken("a tensor is described in another way")
        if kind not in _STORAGES:
            raise DplError(f"{self.path}: has tensors of {kind}, which are not supported")
        numbers = (numel, offset, *size, *stride)
        if len(size) != len(stride) or not all(isinstance(number, int) and number >= 0 for number in numbers):
            raise self.broken("a tensor has an impossible shape")
        last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        if math.prod(size) and (last >= numel or math.prod(size) > numel):
            raise self.broken("a tensor reaches beyond its bytes")
        return self.storage(key, numel, _STORAGES[kind]).as_strided(size, stride, offset)

    def storage(self, key: str, numel: int, dtype: torch.dtype) -> Tensor:
        """Returns the elements in `data/key`; reads them once."""
        if key not in self.storages:
            try:
                entry = self.archive.getinfo(f"{self.root}data/{key}")
            except KeyError:
                raise self.broken(f"data/{key} is missing") from None
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != numel * dtype.itemsize:
                raise self.broken(f"data/{key} has {entry.file_size} bytes, not {numel} x {dtype.itemsize}")
            elements = torch.empty(numel, dtype=dtype)
            buffer = elements.view(torch.uint8).numpy().data
            with self.archive.open(entry) as file:  # checks the CRC at the end
                for start in range(0, len(buffer), _CHUNK):
                    buffer[start : start + _CHUNK] = file.read(_CHUNK)  # ValueError if a part is short
            self.storages[key] = elements
        if self.storages[key].dtype != dtype or len(self.storages[key]) != numel:
            raise self.broken(f"data/{key} is described in two ways")
        return self.storages[key]


def _is_admitted(name: str) -> bool:
    return name in (_REBUILD, "collections.OrderedDict") or name in _STORAGES or name.startswith((_MODULES, _LISTS))
