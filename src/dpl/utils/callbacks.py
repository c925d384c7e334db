"""Types of the functions that receive the progress and the notes of long work."""

from collections.abc import Callable, Mapping
from typing import Any

StepCallback = Callable[[str, int, int, Mapping[str, float]], None]
"""Receives a step: the stage, the steps done, the total steps, and the losses of the step."""

Notify = Callable[[str], None]
"""Receives a note for the user, one sentence."""


class Callback:
    """A `StepCallback` with further events."""

    def __call__(self, stage: str, done: int, total: int, losses: Mapping[str, float]) -> None:
        """Receives a step, as any `StepCallback`.

        Args:
            stage: the name of the stage.
            done: steps of the stage done so far.
            total: steps of the stage.
            losses: the losses of the step, by name.
        """
        raise NotImplementedError

    def begin(self, stage: str, steps: int) -> None:
        """Receives the start, or the resumption, of a stage.

        Args:
            stage: the name of the stage.
            steps: number of steps in an epoch.
        """
        raise NotImplementedError

    def finish_step(self, stage: str, done: int, values: Mapping[str, float]) -> None:
        """Receives a step after its state is saved.

        Args:
            stage: the name of the stage.
            done: steps of the stage done so far.
            values: the losses and learning rates of the step.
        """
        raise NotImplementedError

    def finish_epoch(self, record: Mapping[str, Any]) -> None:
        """Receives the end of an epoch, after its state is saved.

        Args:
            record: the epoch's line of history.jsonl.
        """
        raise NotImplementedError
