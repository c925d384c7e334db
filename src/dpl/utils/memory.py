"""Peak memory of a run: of the tensors on a GPU, of the whole process otherwise.

Metal (mps) does not count a peak. PyTorch's memory pool on it keeps freed memory, so the size of the pool at the end takes the
place of the peak.
"""

import ctypes
import sys
from contextlib import suppress
from pathlib import Path

import torch

_M_MMAP_THRESHOLD = -3  # malloc.h
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak_memory(device: torch.device) -> None:
    """Restarts the count of the peak, where the system allows it: on a GPU and on Linux."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif device.type == "xpu":
        torch.xpu.reset_peak_memory_stats(device)
    elif device.type == "mps":
        torch.mps.empty_cache()
    elif _RESET.exists():
        _give_back_free_memory()
        with suppress(OSError):  # not permitted: the peak then counts from the start of the process
            _RESET.write_text("5", encoding="ascii")  # proc_pid_clear_refs(5): sets the peak to the memory that is resident now


def peak_memory(device: torch.device) -> int | None:
    """Returns the peak memory since `reset_peak_memory`.

    Without a GPU it is the resident memory of the process, including Python, libraries and the backbone. On systems other than
    Linux that is the peak since the start of the process.

    Args:
        device: the device of the run.

    Returns:
        Bytes; None where the system does not report them.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "xpu":
        return torch.xpu.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    # VmHWM is preferred to ru_maxrss: on Linux a process inherits the ru_maxrss of the process that started it.
    if _STATUS.exists():
        for line in _STATUS.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource  # late: Windows has none
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def return_large_blocks() -> None:
    """Makes the allocator of glibc return freed blocks of 4 MiB and more to the system; does nothing with other allocators.

    By default glibc keeps freed blocks of up to 32 MiB, and later tensors of other sizes do not fill them: in a training step of
    ViT-L/14-336 such blocks took 1.3 GB.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option:
        set_option(_M_MMAP_THRESHOLD, 4 * 2**20)


def _give_back_free_memory() -> None:
    """Makes glibc return freed memory to the system, so that a run does not count the memory of an earlier one."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)
