"""Does search pay? Every arm on every task and seed; goes on where it was stopped.

    python -m benchmarks study --seeds 1 2 3 4 5

Each result is a line in benchmarks/study/results/TASK.jsonl; `python -m benchmarks evidence` makes tables and plots of them.
"""

import multiprocessing
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

import dpl
from benchmarks.study.arms import ARMS, FEW_SHOTS, SHOTS, Found, Outcome, Trial, train
from benchmarks.study.records import RESULTS, Cell, append, missing, read_records
from dpl.data.pixels.transforms import decode
from dpl.data.sources.synthetic import TASKS
from dpl.data.task import Task
from dpl.utils.errors import DplError


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
    """How many stacks of runs at once, a thread each."""
    together: int = 10
    """How many runs of a task are trained in one stack, at most; a kill loses the stacks under way."""
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


def groups(cells: Sequence[Cell], together: int) -> list[list[Cell]]:
    """Cells that are trained as one: of one task, with as many shots, of arms of one stem (random-07, random-12), in the order
    of the first of each group."""
    stems: dict[tuple[str, str, int], list[Cell]] = {}
    for cell in cells:
        stem = cell.arm.rstrip("0123456789")
        stems.setdefault((stem, cell.task, cell.shots), []).append(cell)
    rows = [sorted(row, key=lambda cell: cell.seed) for row in stems.values()]  # few seeds a stack: they share images
    split = [row[start : start + together] for row in rows for start in range(0, len(row), together)]
    places = {cell: place for place, cell in enumerate(cells)}
    return sorted(split, key=lambda group: min(places[cell] for cell in group))


def main(settings: Settings) -> None:
    """Runs what has no result yet, and says how long the rest will take."""
    if min(settings.processes, settings.together) < 1:
        raise DplError(f"processes {settings.processes}, together {settings.together}: both must be 1 at least")
    todo = missing(list(cells(settings)), read_records(settings.out))
    print(f"{len(todo)} runs to do", flush=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    context, start, done = multiprocessing.get_context("spawn"), time.perf_counter(), 0
    with ProcessPoolExecutor(settings.processes, context, _begin, (os.getpid(),)) as pool:
        futures = [pool.submit(run, group, settings.precision, settings.out) for group in groups(todo, settings.together)]
        try:
            for future in as_completed(futures):
                for record in future.result():
                    append(record | {"commit": commit}, settings.out)
                    done += 1
                    what = f"{record['task']}, {record['shots']} shots, seed {record['seed']}, {record['arm']}"
                    print(f"{what}: {record['accuracy']:.1%}", flush=True)
                left = (time.perf_counter() - start) / done * (len(todo) - done)
                print(f"{done} of {len(todo)}, {left / 60:.0f} min left", flush=True)
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


def run(group: Sequence[Cell], precision: str, results: Path = RESULTS) -> list[dict[str, Any]]:
    """The records of cells of one task and as many shots, trained as one."""
    backbone, task = _backbone(precision), _task(group[0].task)
    shots = {seed: dpl.sample(task, group[0].shots, seed) for seed in {cell.seed for cell in group}}
    trials = {cell: Trial(backbone, task, shots[cell.seed], cell.seed, results) for cell in group}
    found: dict[Cell, Found] = {}
    for arm in dict.fromkeys(cell.arm for cell in group):
        own = [cell for cell in group if cell.arm == arm]
        found |= zip(own, ARMS[arm]([trials[cell] for cell in own]), strict=True)
    outcomes = train([trials[cell] for cell in group], [found[cell] for cell in group])
    return [_record(cell, trials[cell], outcome, len(group)) for cell, outcome in zip(group, outcomes, strict=True)]


def _record(cell: Cell, trial: Trial, outcome: Outcome, together: int) -> dict[str, Any]:
    model, val = outcome.model, trial.shots.val
    with torch.no_grad():
        logits = model(decode(val, trial.backbone.preprocessing)).cpu()
    labels = torch.tensor([item.label for item in val])
    scale, accuracy = model.prompt_scale, dpl.evaluate_classifier(model, trial.task.test).accuracy
    unscaled = accuracy
    if scale != 1:
        model.prompt_scale = 1.0
        unscaled = dpl.evaluate_classifier(model, trial.task.test).accuracy
    return {
        "task": cell.task,
        "shots": cell.shots,
        "seed": cell.seed,
        "arm": cell.arm,
        "accuracy": round(accuracy, 5),
        "prompt_scale": scale,
        "unscaled_accuracy": round(unscaled, 5),
        "validation_loss": round(F.cross_entropy(logits, labels).item(), 5),
        "validation_accuracy": round((logits.argmax(dim=-1) == labels).float().mean().item(), 5),
        "layout": model.layout.to_dict(),
        "steps": outcome.steps,
        "images": outcome.images,
        "seconds": {"search": round(outcome.search_seconds, 2), "train": round(outcome.train_seconds, 2)},
        "together": together,
    }


@cache
def _backbone(precision: str) -> dpl.Backbone:
    if precision not in ("fp32", "bf16"):
        raise DplError(f"precision {precision!r}: must be fp32 or bf16")
    return dpl.load_backbone(precision=precision)


@cache
def _task(name: str) -> Task:
    return dpl.load_task(name)
