"""Peak memory of a run: of the tensors where a GPU computes, of the whole process otherwise."""

import ctypes
import sys
from contextlib import suppress
from pathlib import Path

import torch

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak_memory(device: torch.device) -> None:
    """From here on the peak is counted anew, where the system allows that: on a GPU and on Linux."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif _RESET.exists():
        _give_back_free_memory()
        with suppress(OSError):  # where it is forbidden, the peak stays that since the process began
            _RESET.write_text("5")  # proc_pid_clear_refs(5): the peak becomes what is resident now


def peak_memory(device: torch.device) -> int | None:
    """Bytes at the peak since `reset_peak_memory`; None where the system does not say.

    Of a process it counts all that is resident: Python, libraries and the backbone. On systems other than Linux it is the
    peak since the process began.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # Not ru_maxrss where VmHWM is: on Linux a process inherits in it the size of the one that started it.
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _give_back_free_memory() -> None:
    """What glibc keeps of freed memory goes back to the system, so that a run does not count what an earlier one has left."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)
