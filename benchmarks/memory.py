"""Peak memory of a step, in a process of its own that cannot take more than the machine has.

    python -m benchmarks.memory '{"subject": "ours", "case": {...}, "setup": {...}, "limit": 8e9}'

is that process: it prints one line of JSON. On a CPU its data is limited (RLIMIT_DATA), so that what does not fit ends with an
allocation error rather than with the kernel killing some process.
"""

import json
import resource
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.clips import SHAPES, random_backbone
from benchmarks.counts import step_work
from benchmarks.subjects import Case, Subject, make_step
from dpl.backbones.choices import Precision
from dpl.backbones.loading import Backbone

MIB = 2**20
STEPS = 2  # the second also has the optimisers' states
TIMEOUT = 3600  # seconds
_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "bad_alloc", "MemoryError", "Cannot allocate memory")


@dataclass(frozen=True)
class Setup:
    """The backbone of a measurement."""

    model: str
    precision: Precision
    device: str
    threads: int
    seed: int

    def backbone(self) -> Backbone:
        """A new one; sets the threads."""
        if self.threads:
            torch.set_num_threads(self.threads)
        return random_backbone(SHAPES[self.model], self.precision, self.device, self.seed)


def peak_memory(
    subject: Subject, case: Case, setup: Setup, limit: int | None = None, only_estimate: bool = False
) -> dict[str, Any]:
    """`step_mib`, the peak above `baseline_mib` (the model loaded) in two steps; or `does_not_fit`, why.

    `limit` in bytes; by default 9/10 of what is free. With `only_estimate` nothing is run, and the result is empty where the
    counts say that it may fit. Raises RuntimeError for any other failure of the process.
    """
    limit = limit or free_bytes(setup.device) * 9 // 10
    kept = step_work(subject, case, SHAPES[setup.model], 2 if setup.precision == "bf16" else 4).kept_bytes
    if kept > limit:
        return {"does_not_fit": f"autograd keeps at least {kept // MIB} MiB, {limit // MIB} MiB are free"}
    if only_estimate:
        return {}
    return measure_apart(subject, case, setup, limit)


def measure_apart(subject: Subject, case: Case, setup: Setup, limit: int) -> dict[str, Any]:
    """What `peak_memory` says, found by running the steps in a process that may take `limit` bytes."""
    order = json.dumps({"subject": subject, "case": asdict(case), "setup": asdict(setup), "limit": limit})
    words = [sys.executable, "-m", "benchmarks.memory", order]
    child = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT)
    if child.returncode == 0:
        return json.loads(child.stdout.splitlines()[-1])
    if any(sign in child.stderr for sign in _OUT_OF_MEMORY):
        return {"does_not_fit": f"an allocation failed at {limit // MIB} MiB"}
    raise RuntimeError(f"{subject}, {case.key}: the process ended with {child.returncode}\n{child.stderr[-2000:]}")


def free_bytes(device: str) -> int:
    """Memory that a process may take."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def _measure(subject: Subject, case: Case, setup: Setup, limit: float) -> dict[str, Any]:
    on_gpu = torch.device(setup.device).type == "cuda"
    if not on_gpu:
        allowed = _status_bytes("VmData") + int(limit)  # what the imports reserved is there already
        resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))
    backbone = setup.backbone()
    baseline, _ = _resident(on_gpu)
    step = make_step(subject, case, backbone, SHAPES[setup.model], setup.seed)
    for _ in range(STEPS):
        step()
    _, peak = _resident(on_gpu)
    return {"baseline_mib": baseline / MIB, "peak_mib": peak / MIB, "step_mib": (peak - baseline) / MIB}


def _resident(on_gpu: bool) -> tuple[int, int]:
    """Bytes now, and at the peak until now: of tensors on a GPU, of the process otherwise.

    Not `ru_maxrss`: on Linux a process inherits in it the size of the one that started it.
    """
    if on_gpu:
        return torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
    return _status_bytes("VmRSS"), _status_bytes("VmHWM")


def _status_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    order = json.loads(sys.argv[1])
    print(json.dumps(_measure(order["subject"], Case(**order["case"]), Setup(**order["setup"]), order["limit"])))
