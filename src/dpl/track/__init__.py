"""Experiment trackers of --track: they log the losses, settings and results of a run, in addition to history.jsonl.

A tracker that fails is dropped, and the run goes on. Trackers do not influence the training. Steps are counted over both stages.
track.json keeps the state of the tracking, so that a resumed run continues the same record.
"""

import io
import random
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any
from uuid import uuid4

from dpl.config import RunConfig
from dpl.optim.checkpoint import Checkpoint
from dpl.optim.stage import read_history
from dpl.prompts.layout import PromptLayout
from dpl.track.kinds import KINDS, Place, Tracker, first_line
from dpl.track.values import epoch_values, layout_text, result_values, settings_values, step_values
from dpl.utils.callbacks import Callback, StepCallback
from dpl.utils.files import read_json, write_json

EVERY = 5
"""Every fifth step is logged. Logging a step to all three trackers takes 0.8 ms, and a step of tiny 15 ms."""

_FILE = "track.json"


def check_trackers(names: Sequence[str]) -> None:
    """Checks that the trackers can be used.

    Args:
        names: names in `KINDS`.

    Raises:
        DplError: a tracker's package is not installed, or the tracker would ask for a key.
    """
    for name in names:
        KINDS[name].check_package()
    for name in names:
        KINDS[name].check()


def forget(run: Path) -> None:
    """Removes the files that trackers have written for a former run in this folder."""
    (run / _FILE).unlink(missing_ok=True)
    for name in KINDS:
        shutil.rmtree(run / name, ignore_errors=True)


class Tracking(Callback):
    """Passes the progress of a run to its trackers and to the caller's `on_step`.

    The calls of `on_step` are the same as without trackers.
    """

    def __init__(self, run: Path, config: RunConfig, on_step: StepCallback | None, say: Callable[[str], None]) -> None:
        self._run, self._config, self._on_step, self._say = run, config, on_step, say
        self._trackers: dict[str, Tracker] = {}
        self._first = self._done = 0  # steps before this stage, and steps of all stages

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Opens the trackers on entry; on exit, also after an error, they write all that was logged."""
        if not self._config.track:
            yield
            return
        is_new = not (self._run / _FILE).exists()
        self._state = {"id": uuid4().hex[:8], "stages": {}} if is_new else read_json(self._run / _FILE)
        self._done = self._steps_done()
        with _quiet_tensorboard_thread():
            place = Place(self._run, self._state["id"], settings_values(self._config), self._done, is_new)
            self._open(place)
            self._save()
            try:
                yield
            finally:
                with redirect_stdout(io.StringIO()):
                    self._each(lambda tracker: tracker.finish())
                self._trackers.clear()

    def __call__(self, stage: str, done: int, total: int, losses: Mapping[str, float]) -> None:
        """Calls the caller's `on_step`."""
        if self._on_step:
            self._on_step(stage, done, total, losses)

    def begin(self, stage: str, steps: int) -> None:
        """Records the begin of a stage with `steps` steps per epoch, or continues a stopped one."""
        if self._trackers:
            stages = self._state["stages"]
            if stage not in stages:
                stages[stage] = {"first": self._steps_before(stage), "steps": steps}
                self._save()
            self._first = stages[stage]["first"]

    def finish_step(self, stage: str, done: int, values: Mapping[str, float]) -> None:
        """Logs the losses and learning rates of every fifth step (`EVERY`)."""
        self._done = self._first + done
        if self._done % EVERY == 0:
            self._log(step_values(stage, values))

    def finish_epoch(self, record: Mapping[str, Any]) -> None:
        """Logs an epoch's record of history.jsonl, at the last step of the epoch."""
        self._log(epoch_values(record))

    def log_layout(self, layout: PromptLayout) -> None:
        """Logs the layout as text, once per run."""
        self._log_once("layout", {"layout": layout_text(layout)})

    def log_result(self, metrics: Mapping[str, Any]) -> None:
        """Logs the numbers of metrics.json, once per run."""
        self._log_once("result", result_values(metrics))

    def _open(self, place: Place) -> None:
        draws = random.getstate()  # some trackers draw names from the global generator
        for name in dict.fromkeys(self._config.track):
            try:
                with redirect_stdout(io.StringIO()):
                    self._trackers[name], view = KINDS[name].open(place)
            except Exception as error:
                self._drop(name, error)
            else:
                self._say(f"--track {name}: {view}")
        random.setstate(draws)

    def _log_once(self, what: str, values: dict[str, Any]) -> None:
        if self._trackers and what not in (logged := self._state.setdefault("logged", [])):
            self._log(values)
            logged.append(what)
            self._save()

    def _log(self, values: dict[str, Any]) -> None:
        self._each(lambda tracker: tracker.log(values, step=self._done))

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                call(tracker)
            except Exception as error:
                del self._trackers[name]
                self._drop(name, error)

    def _drop(self, name: str, error: Exception) -> None:
        self._say(f"--track {name}: has failed ({first_line(error)}); the run goes on without it")

    def _save(self) -> None:
        write_json(self._run / _FILE, self._state)

    def _steps_done(self) -> int:
        """Steps done over all stages, as read from the checkpoint."""
        progress = Checkpoint(self._run / "checkpoint").progress()
        if progress and (stage := self._state["stages"].get(progress["stage"])):
            return stage["first"] + progress["epoch"] * stage["steps"] + progress["step"]
        return self._steps_before(progress["stage"] if progress else None)

    def _steps_before(self, stage: str | None) -> int:
        """Steps of the finished stages, except `stage`."""
        epochs = Counter(record["stage"] for record in read_history(self._run))
        over = ((epochs[name], known) for name, known in self._state["stages"].items() if name != stage)
        return max((known["first"] + count * known["steps"] for count, known in over), default=0)


@contextmanager
def _quiet_tensorboard_thread() -> Iterator[None]:
    """Hides tracebacks of TensorBoard's writer thread, because the next call of the tracker raises the same error."""
    before = threading.excepthook

    def hook(failed: threading.ExceptHookArgs) -> None:
        if not type(failed.thread).__module__.startswith("tensorboard."):
            before(failed)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before
