"""The state of a run under way: learned parameters, optimisers and where it is. Never the backbone, never pickle."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from dpl.errors import DplError
from dpl.files import write_bytes


class Checkpoint:
    """One safetensors file, replaced whole at every step: the tensors of named modules and optimisers, and in its header the
    progress as JSON.

    Random draws are named by epoch and step (`dpl.rng`), so the progress says all there is to say about them.
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
        """Replaces the state; the old one survives a kill or a full disk."""
        tensors = {f"{name}.{key}": part for name, module in modules.items() for key, part in module.state_dict().items()}
        for name, optimizer in optimizers.items():
            for index, state in optimizer.state_dict()["state"].items():
                tensors |= {f"{name}.{index}.{key}": torch.as_tensor(value) for key, value in state.items()}
        tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(self.path, save(tensors, {"progress": json.dumps(progress)}), durable=durable)

    def progress(self) -> dict[str, Any] | None:
        """What `save` was told last; none where there is no state."""
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                return json.loads(file.metadata()["progress"])
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise DplError(f"{self.path}: is no checkpoint of dpl ({error}); start the run anew with --overwrite") from None

    def load(self, modules: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]) -> None:
        """Puts the saved state into modules and optimisers that were built the same way."""
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
