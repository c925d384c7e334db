"""Peak memory: it rises with what is allocated, and falls when it is counted anew."""

import sys
from pathlib import Path

import pytest
import torch

from dpl.utils import memory
from dpl.utils.memory import peak_memory, reset_peak_memory

CPU = torch.device("cpu")
MIB = 2**20
linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is counted anew on Linux only")


def _peak() -> int:
    found = peak_memory(CPU)
    assert found is not None
    return found


def _touch(size: int) -> None:
    """Has `size` bytes in memory for a moment."""
    assert len(bytearray(b"1") * size) == size


@linux
def test_the_peak_is_that_since_the_reset():
    reset_peak_memory(CPU)
    before = _peak()
    _touch(256 * MIB)
    high = _peak()
    assert 250 * MIB < high - before < 300 * MIB  # the kernel counts in batches
    reset_peak_memory(CPU)
    assert abs(_peak() - before) < 40 * MIB


@linux
def test_where_a_reset_is_forbidden_the_peak_stays(monkeypatch, tmp_path):
    _touch(256 * MIB)
    high = _peak()
    monkeypatch.setattr(memory, "_RESET", tmp_path)  # a folder: writing to it is an OSError
    reset_peak_memory(CPU)
    assert _peak() >= high


def test_without_proc_it_is_the_peak_of_the_process(monkeypatch, tmp_path):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "none")
    unit = 1 if sys.platform == "darwin" else 1024
    assert abs(_peak() - resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit) < 8 * MIB
    monkeypatch.setitem(sys.modules, "resource", None)  # importing it fails, as on Windows
    assert peak_memory(CPU) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_it_is_that_of_the_tensors():
    device = torch.device("cuda")
    reset_peak_memory(device)
    before = torch.cuda.memory_allocated(device)
    torch.empty(64 * MIB, dtype=torch.uint8, device=device)
    assert peak_memory(device) == before + 64 * MIB


def test_other_accelerators_say_it_themselves(monkeypatch):
    calls: list[str] = []
    monkeypatch.setattr(torch.xpu, "reset_peak_memory_stats", lambda device: calls.append(f"reset {device}"))
    monkeypatch.setattr(torch.xpu, "max_memory_allocated", lambda device: 3 * MIB)
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: calls.append("emptied"))
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 5 * MIB)
    found = []
    for device in (torch.device("xpu:0"), torch.device("mps")):
        reset_peak_memory(device)
        found.append(peak_memory(device))
    assert calls == ["reset xpu:0", "emptied"]
    assert found == [3 * MIB, 5 * MIB]
