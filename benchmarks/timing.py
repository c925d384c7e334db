"""Alternating measurements, and what has to be known about the machine that made them."""

import gc
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers


def rounds(
    steps: Mapping[str, Callable[[], Any]], count: int, device: torch.device, warm_up: int = 1
) -> Iterator[dict[str, float]]:
    """Seconds of one step of each, `count` times; who begins changes, so that no one always follows the same other."""
    if count <= 0:
        return
    for _ in range(warm_up):
        for step in steps.values():
            step()
    names = list(steps)
    gc.collect()
    gc.freeze()  # what is here stays; so collecting before every step, for all alike, is quick
    try:
        for index in range(count):
            turn = index % len(names)
            measured = {name: seconds(steps[name], device) for name in names[turn:] + names[:turn]}
            yield {name: measured[name] for name in names}
    finally:
        gc.unfreeze()


def seconds(step: Callable[[], Any], device: torch.device) -> float:
    """Of one call, the device's work included."""
    gc.collect()
    _wait(device)
    start = time.perf_counter()
    step()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def medians(measured: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Seconds, by name."""
    names = measured[0] if measured else ()
    return {name: statistics.median(one[name] for one in measured if name in one) for name in names}


def ratio(times: Mapping[str, float], above: str, below: str) -> str:
    """How much longer `above` takes than `below`; empty where one was not measured."""
    return f"{times[above] / times[below]:.2f}" if above in times and below in times else ""


def session(device: torch.device) -> dict[str, Any]:
    """The command, the machine, the versions, the time."""
    return {
        "command": shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]),
        "began": time.strftime("%Y-%m-%d %H:%M:%S%z"),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "accelerator": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__},
    }


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


def markdown(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
