from pathlib import Path

import pytest
import torch
from torch import nn

from dpl.optim.checkpoint import Checkpoint
from dpl.utils.errors import DplError


def _training(kind: str) -> tuple[nn.Linear, torch.optim.Optimizer]:
    torch.manual_seed(0)
    module = nn.Linear(3, 2)
    if kind == "sgd":
        return module, torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    return module, torch.optim.AdamW(module.parameters(), lr=0.1)


def _step(module: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    optimizer.zero_grad()
    module(torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_going_on_from_a_checkpoint_gives_the_same_bits(tmp_path: Path, kind: str):
    module, optimizer = _training(kind)
    _step(module, optimizer, 1)
    Checkpoint(tmp_path / "checkpoint").save({"step": 1, "sums": {"loss": 0.1 + 0.2}}, {"model": module}, {"prompts": optimizer})
    _step(module, optimizer, 2)

    other, again = _training(kind)
    checkpoint = Checkpoint(tmp_path / "checkpoint")
    assert checkpoint.progress() == {"step": 1, "sums": {"loss": 0.1 + 0.2}}
    checkpoint.load({"model": other}, {"prompts": again})
    _step(other, again, 2)
    assert torch.equal(module.weight, other.weight) and torch.equal(module.bias, other.bias)


def test_there_is_no_progress_before_the_first_save(tmp_path: Path):
    assert Checkpoint(tmp_path).progress() is None


@pytest.mark.parametrize("content", [b"", b"junk" * 100])
def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path, content: bytes):
    (tmp_path / "state.safetensors").write_bytes(content)
    with pytest.raises(DplError, match="state.safetensors: is no checkpoint"):
        Checkpoint(tmp_path).progress()
