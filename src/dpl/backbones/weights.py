"""Reads the weights of a checkpoint into a model, one tensor at a time, so that no second copy of the model is in memory."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from dpl.backbones.identity import TensorDigests
from dpl.utils.errors import DplError

_IGNORED = "position_ids"  # a buffer of old checkpoints; transformers computes it


class StoredTensors(Mapping[str, Tensor]):
    """The tensors of safetensors files by name; each is read from its file when it is accessed."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Reads the headers of `files`.

        Raises:
            DplError: a file is broken, or two files have the same tensor.
        """
        self._file_of: dict[str, Path] = {}
        for file in files:
            try:
                with safe_open(file, framework="pt") as opened:
                    names = list(opened.keys())
            except (OSError, SafetensorError) as error:
                raise DplError(f"{file}: the weights cannot be read ({error}); fetch the file again") from None
            for name in names:
                if name in self._file_of:
                    raise DplError(f"{file}: has the tensor {name}, which {self._file_of[name].name} has as well")
                self._file_of[name] = file

    def __getitem__(self, name: str) -> Tensor:
        # A file is mapped only while one of its tensors is read, because mapped files count as memory of the process.
        with safe_open(self._file_of[name], framework="pt") as opened:
            return opened.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._file_of)

    def __len__(self) -> int:
        return len(self._file_of)


@dataclass(frozen=True)
class Placement:
    """The device and the dtypes of the weights: bfloat16 for the parameters named in `narrow`, fp32 for all others."""

    device: torch.device
    narrow: frozenset[str] = frozenset()

    def dtype(self, name: str) -> torch.dtype:
        """Returns the dtype of the parameter `name`."""
        return torch.bfloat16 if name in self.narrow else torch.float32


def fill(label: str, model: nn.Module, tensors: Mapping[str, Tensor], placement: Placement) -> tuple[TensorDigests, list[str]]:
    """Gives `model`, whose parameters are on the meta device, the weights `tensors`, frozen.

    Args:
        label: the checkpoint's name in messages.
        model: a module whose parameters have the checkpoint's names.
        tensors: the stored weights, of any floating dtype.
        placement: the device and dtype of each weight.

    Returns:
        The digests of the weights, and a note for the user if the checkpoint has tensors that the model lacks.

    Raises:
        DplError: weights are missing, have another shape than the config says, or are not finite.
    """
    wanted = {name: parameter.shape for name, parameter in model.named_parameters()}
    _check_names(label, wanted, tensors)

    def read(name: str) -> tuple[str, Tensor, tuple[str, str]]:
        exact = _exact(label, name, tensors[name], wanted[name])
        return name, exact.to(placement.device, placement.dtype(name)), TensorDigests.of(exact)

    digests = TensorDigests()
    with ThreadPoolExecutor(2) as pool:
        for name, weight, digest in pool.map(read, wanted):
            module, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(module), attribute, nn.Parameter(weight, requires_grad=False))
            digests.add(name, digest)
    unknown = sorted(name for name in tensors if name not in wanted and not name.endswith(_IGNORED))
    note = (
        f"backbone {label}: {len(unknown)} tensors of the checkpoint are not used, the first is {unknown[0]}" if unknown else ""
    )
    return digests, [note] if note else []


def _check_names(label: str, wanted: Mapping[str, torch.Size], tensors: Mapping[str, Tensor]) -> None:
    missing = sorted(name for name in wanted if name not in tensors)
    if missing:
        count = f"{len(missing)} weights are missing, the first is" if len(missing) > 1 else "a weight is missing:"
        raise DplError(f"backbone {label}: {count} {missing[0]}")


def _exact(label: str, name: str, stored: Tensor, shape: torch.Size) -> Tensor:
    """Returns the tensor in fp32, after a check of shape, dtype and values."""
    if stored.shape != shape:
        raise DplError(f"backbone {label}: {name} has the shape {tuple(stored.shape)}; by config.json it is {tuple(shape)}")
    if not stored.is_floating_point():
        raise DplError(f"backbone {label}: {name} is stored as {stored.dtype}; quantised checkpoints cannot be read")
    exact = stored.to(torch.float32, copy=True)  # a copy: mapped memory would change with its file
    if not torch.isfinite(exact.sum()):
        raise DplError(f"backbone {label}: {name} holds numbers that are not finite; the checkpoint is broken")
    return exact
