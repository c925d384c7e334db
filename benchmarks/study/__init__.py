"""Does search pay? Every arm on every task and seed; goes on where it was stopped.

    python -m benchmarks study --seeds 1 2 3 4 5

Each result is a line in benchmarks/study/results/TASK.jsonl; `python -m benchmarks evidence` makes tables and plots of them.
"""

import multiprocessing
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

import dpl
from benchmarks.study.arms import ARMS, FEW_SHOTS, SHOTS, Trial
from benchmarks.study.records import RESULTS, Cell, append, missing, read_records
from dpl.data.synthetic import TASKS
from dpl.data.task import Task
from dpl.data.transforms import decode
from dpl.errors import DplError


@dataclass(frozen=True)
class Settings:
    """What to run."""

    tasks: tuple[str, ...] = ("digits", *TASKS)
    """Tasks of dpl."""
    shots: tuple[int, ...] = (16, 4, 1)
    """Images per class; all arms at 16, a few at others."""
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    """Seeds of shots and training."""
    arms: tuple[str, ...] = ()
    """Only these arms; all by default."""
    processes: int = os.cpu_count() or 1
    """How many runs at once, a thread each."""
    precision: str = "bf16"
    """fp32 or bf16."""
    out: Path = RESULTS
    """Where the results go."""


def cells(settings: Settings) -> Iterator[Cell]:
    """All there is to run: shots by shots, arm by arm in the order of the table, seed by seed."""
    unknown = [arm for arm in settings.arms if arm not in ARMS]
    if unknown:
        raise DplError(f"no arm {unknown[0]!r}: there are {', '.join(ARMS)}")
    for shots in settings.shots:
        for arm in settings.arms or (ARMS if shots == SHOTS else FEW_SHOTS):
            yield from (Cell(task, shots, seed, arm) for seed in settings.seeds for task in settings.tasks)


def main(settings: Settings) -> None:
    """Runs what has no result yet, and says how long the rest will take."""
    todo = missing(list(cells(settings)), read_records(settings.out))
    print(f"{len(todo)} runs to do", flush=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    context, start = multiprocessing.get_context("spawn"), time.perf_counter()
    with ProcessPoolExecutor(settings.processes, context, _begin, (os.getpid(),)) as pool:
        futures = [pool.submit(run, cell, settings.precision, settings.out) for cell in todo]
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                record = future.result() | {"commit": commit}
                append(record, settings.out)
                left = (time.perf_counter() - start) / done * (len(todo) - done)
                what = f"{record['task']}, {record['shots']} shots, seed {record['seed']}, {record['arm']}"
                print(f"{done} of {len(todo)}, {left / 60:.0f} min left: {what}: {record['accuracy']:.1%}", flush=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _begin(parent: int) -> None:
    torch.set_num_threads(1)

    def watch() -> None:  # a parent that was killed cannot stop its children: they would work on for nobody
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run(cell: Cell, precision: str, results: Path = RESULTS) -> dict[str, Any]:
    """The record of one cell."""
    backbone, task = _backbone(precision), _task(cell.task)
    shots = dpl.sample(task, cell.shots, cell.seed)
    outcome = ARMS[cell.arm](Trial(backbone, task, shots, cell.seed, results))
    with torch.no_grad():
        logits = outcome.model(decode(shots.val, backbone.image_size))
    labels = torch.tensor([item.label for item in shots.val])
    gate, accuracy = getattr(outcome.model, "gate", 1.0), dpl.evaluate_classifier(outcome.model, task.test).accuracy
    ungated = accuracy
    if isinstance(outcome.model, dpl.Classifier) and gate != 1:
        outcome.model.gate = 1.0
        ungated = dpl.evaluate_classifier(outcome.model, task.test).accuracy
    return {
        "task": cell.task,
        "shots": cell.shots,
        "seed": cell.seed,
        "arm": cell.arm,
        "accuracy": round(accuracy, 5),
        "gate": gate,
        "ungated_accuracy": round(ungated, 5),
        "validation_loss": round(F.cross_entropy(logits, labels).item(), 5),
        "validation_accuracy": round((logits.argmax(dim=-1) == labels).float().mean().item(), 5),
        "layout": {"image": outcome.layout.image, "text": outcome.layout.text},
        "steps": outcome.steps,
        "images": outcome.images,
        "seconds": {"search": round(outcome.search_seconds, 2), "train": round(outcome.train_seconds, 2)},
    }


@cache
def _backbone(precision: str) -> dpl.Backbone:
    if precision not in ("fp32", "bf16"):
        raise DplError(f"precision {precision!r}: must be fp32 or bf16")
    return dpl.load_backbone(precision=precision)


@cache
def _task(name: str) -> Task:
    return dpl.load_task(name)
