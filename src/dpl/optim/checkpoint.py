"""Saves and loads the state of an unfinished run: learned parameters, optimisers and progress. No backbone, no pickle."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from dpl.utils.errors import DplError
from dpl.utils.files import write_bytes


class Checkpoint:
    """One safetensors file with the tensors of named modules and optimisers, and the progress as JSON in its header.

    Every save replaces the file atomically.

    Epoch and step name the random draws (`dpl.utils.rng`), so the progress determines them.

    Args:
        folder: the folder of the file; `save` creates it if needed.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "state.safetensors"

    def save(
        self,
        progress: Mapping[str, Any],
        modules: Mapping[str, nn.Module],
        optimizers: Mapping[str, Optimizer],
        *,
        durable: bool = False,
    ) -> None:
        """Replaces the saved state; a kill or a full disk leaves the old one.

        Args:
            progress: the progress of the run, as JSON can hold it.
            modules: the learned modules, by name.
            optimizers: the optimisers, by name.
            durable: whether to flush the file to the disk, against a loss of power.

        Raises:
            DplError: the file cannot be written.
        """
        tensors = {f"{name}.{key}": part for name, module in modules.items() for key, part in module.state_dict().items()}
        for name, optimizer in optimizers.items():
            for index, state in optimizer.state_dict()["state"].items():
                tensors |= {f"{name}.{index}.{key}": torch.as_tensor(value) for key, value in state.items()}
        tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(self.path, save(tensors, {"progress": json.dumps(progress)}), durable=durable)

    def progress(self) -> dict[str, Any] | None:
        """Returns the progress of the last `save`; None without a saved state.

        Raises:
            DplError: the file is not a checkpoint of dpl.
        """
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                return json.loads(file.metadata()["progress"])
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise DplError(f"{self.path}: is no checkpoint of dpl ({error}); start the run anew with --overwrite") from None

    def load(self, modules: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]) -> None:
        """Restores the saved state.

        Args:
            modules: modules of the same construction as the saved ones, by name.
            optimizers: optimisers over parameters in the same order as the saved ones, by name.
        """
        with safe_open(self.path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, not a dict
        for name, module in modules.items():
            module.load_state_dict(_part(tensors, f"{name}."))
        for name, optimizer in optimizers.items():
            state: dict[int, dict[str, Tensor]] = {}
            for key, tensor in _part(tensors, f"{name}.").items():
                index, field = key.split(".")
                state.setdefault(int(index), {})[field] = tensor
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
