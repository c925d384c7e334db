"""A stage under way: where it is, its history, its checkpoint. Both stages advance through it, so both survive the same way."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from dpl.checkpoint import Checkpoint
from dpl.files import write_text

# Told after every step: stage, steps done, steps in all, and the losses of the step.
OnStep = Callable[[str, int, int, Mapping[str, float]], None]


class Follower:
    """An `OnStep` that is told more than others."""

    def __call__(self, stage: str, done: int, total: int, losses: Mapping[str, float]) -> None:
        """As any `OnStep`."""
        raise NotImplementedError

    def begin(self, stage: str, steps: int) -> None:
        """A stage of so many steps an epoch begins, or goes on."""
        raise NotImplementedError

    def finish_step(self, stage: str, done: int, values: Mapping[str, float]) -> None:
        """The losses and learning rates of a step, when its state is saved; so many steps of the stage are done."""
        raise NotImplementedError

    def finish_epoch(self, record: Mapping[str, Any]) -> None:
        """What history.jsonl holds of an epoch, when its state is saved."""
        raise NotImplementedError


class Stage:
    """`epoch` and `step` say what comes next; `history` holds one record per finished epoch of this stage.

    With a run folder the state is saved after every step (atomically, so a kill loses the step under way at most) and
    `begin` goes on from there; without one, everything stays in memory.
    """

    def __init__(self, name: str, run: Path | None = None, on_step: OnStep | None = None) -> None:
        self.name, self.epoch, self.step = name, 0, 0
        self.history: list[dict[str, Any]] = []
        self._run, self._on_step = run, on_step
        self._follower = on_step if isinstance(on_step, Follower) else None
        self._checkpoint = Checkpoint(run / "checkpoint") if run else None
        self._earlier: list[dict[str, Any]] = []  # records of the stages before
        self._sums: dict[str, float] = {}

    def begin(self, modules: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer], epochs: int, steps: int) -> None:
        """Starts from the beginning, or from the checkpoint of this stage: modules and optimisers are then as saved."""
        self._modules, self._optimizers, self._epochs, self._steps = modules, optimizers, epochs, steps
        self._clock = time.perf_counter()
        if self._run and self._checkpoint:
            self._go_on(self._run, self._checkpoint)
        if self._follower:
            self._follower.begin(self.name, steps)

    def _go_on(self, run: Path, checkpoint: Checkpoint) -> None:
        records = read_history(run)
        self._earlier = [record for record in records if record["stage"] != self.name]
        progress = checkpoint.progress()
        if progress and progress["stage"] == self.name:
            checkpoint.load(self._modules, self._optimizers)
            self.epoch, self.step, self._sums = progress["epoch"], progress["step"], progress["sums"]
            mine = [record for record in records if record["stage"] == self.name]
            self.history = [record for record in mine if record["epoch"] < self.epoch]
        self._save()

    @property
    def where(self) -> str:
        """For messages: the step under way."""
        place = f"{self.name}, epoch {self.epoch + 1}, step {self.step + 1}"
        return f"{place} (the state before it is kept in {self._run})" if self._run else place

    def finish_step(self, **losses: float) -> None:
        """Counts a step and saves the state after it."""
        now = time.perf_counter()
        for key, value in {**losses, "seconds": now - self._clock}.items():
            self._sums[key] = self._sums.get(key, 0.0) + value
        self._clock = now
        self.step += 1
        self._save()
        done = self.epoch * self._steps + self.step
        if self._follower:
            self._follower.finish_step(self.name, done, {**losses, **self._rates()})
        if self._on_step:
            self._on_step(self.name, done, self._epochs * self._steps, losses)

    def finish_epoch(self, **record: Any) -> None:
        """Appends a history record: the epoch's mean losses, its seconds, and what `record` adds."""
        seconds = self._sums.pop("seconds", 0.0)
        means = {key: value / self._steps for key, value in self._sums.items()}
        self.history.append({"stage": self.name, "epoch": self.epoch, **means, **record, "seconds": round(seconds, 3)})
        self.epoch, self.step, self._sums = self.epoch + 1, 0, {}
        if self._run:
            lines = [json.dumps(line, allow_nan=False) for line in self._earlier + self.history]
            write_text(self._run / "history.jsonl", "".join(f"{line}\n" for line in lines))
        self._save(durable=True)
        if self._follower:
            self._follower.finish_epoch(self.history[-1])

    def _rates(self) -> dict[str, float]:
        """The learning rate, by the optimiser's name where there are several."""
        rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in self._optimizers.items()}
        return {f"lr_{name}" if len(rates) > 1 else "lr": rate for name, rate in rates.items()}

    def _save(self, durable: bool = False) -> None:
        if self._checkpoint:
            progress = {"stage": self.name, "epoch": self.epoch, "step": self.step, "sums": self._sums}
            self._checkpoint.save(progress, self._modules, self._optimizers, durable=durable)


def read_history(run: Path) -> list[dict[str, Any]]:
    """The records of `run`/history.jsonl, none where there is no such file."""
    file = run / "history.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
