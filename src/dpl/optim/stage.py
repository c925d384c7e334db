"""The progress, history and checkpoint of a training stage, shared by search and training."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from dpl.optim.checkpoint import Checkpoint
from dpl.utils.callbacks import Callback, StepCallback
from dpl.utils.errors import DplError
from dpl.utils.files import write_text


class Stage:
    """The progress of a stage: `epoch` and `step` of the next step, and `history`, one record per finished epoch of this stage.

    With a run folder, every step saves the state atomically, so a kill loses at most the step in progress, and `begin` resumes
    from the saved state. Without one, everything stays in memory.

    Args:
        name: the name of the stage.
        run: the run folder, or None.
        on_step: called after every step; a `Callback` receives further events.
    """

    def __init__(self, name: str, run: Path | None = None, on_step: StepCallback | None = None) -> None:
        self.name, self.epoch, self.step = name, 0, 0
        self.history: list[dict[str, Any]] = []
        self._run, self._on_step = run, on_step
        self._follower = on_step if isinstance(on_step, Callback) else None
        self._checkpoint = Checkpoint(run / "checkpoint") if run else None
        self._earlier: list[dict[str, Any]] = []  # records of other stages
        self._sums: dict[str, float] = {}

    def begin(self, modules: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer], epochs: int, steps: int) -> None:
        """Starts the stage, or resumes it from its checkpoint, which restores the modules and optimisers.

        Args:
            modules: the learned modules, by name in the checkpoint.
            optimizers: the optimisers, by name in the checkpoint.
            epochs: number of epochs.
            steps: number of steps in an epoch.

        Raises:
            DplError: the checkpoint in the run folder cannot be read.
        """
        self._modules, self._optimizers, self._epochs, self._steps = modules, optimizers, epochs, steps
        self._clock = time.perf_counter()
        if self._run and self._checkpoint:
            self._resume(self._run, self._checkpoint)
        if self._follower:
            self._follower.begin(self.name, steps)

    def _resume(self, run: Path, checkpoint: Checkpoint) -> None:
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
        """The current step, for messages."""
        place = f"{self.name}, epoch {self.epoch + 1}, step {self.step + 1}"
        return f"{place} (the state before it is kept in {self._run})" if self._run else place

    def finish_step(self, **losses: float) -> None:
        """Counts a step, saves the state after it, and reports the step.

        Args:
            losses: the losses of the step by name.
        """
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
        """Appends a history record and saves the state.

        Args:
            record: items of the record, in addition to the epoch's mean losses and its seconds.
        """
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
        """Returns the learning rates; with several optimisers the keys contain their names."""
        rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in self._optimizers.items()}
        return {f"lr_{name}" if len(rates) > 1 else "lr": rate for name, rate in rates.items()}

    def _save(self, durable: bool = False) -> None:
        if self._checkpoint:
            progress = {"stage": self.name, "epoch": self.epoch, "step": self.step, "sums": self._sums}
            self._checkpoint.save(progress, self._modules, self._optimizers, durable=durable)


def read_history(run: Path) -> list[dict[str, Any]]:
    """Reads the history of a run.

    Args:
        run: the run folder.

    Returns:
        The records of history.jsonl; none if the file does not exist.

    Raises:
        DplError: the file is damaged.
    """
    file = run / "history.jsonl"
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    except ValueError as error:
        raise DplError(f"{file}: is no history of a run ({error})") from None
