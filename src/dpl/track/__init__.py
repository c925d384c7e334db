"""Trackers that a person asks for with --track: they are told a run's losses, settings and results, beside history.jsonl.

A tracker that fails is left behind, and what a run learns does not depend on any. Steps are counted over both stages; what
was told is kept in track.json, so that a run that goes on does so in the same place.
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

from dpl.checkpoint import Checkpoint
from dpl.config import RunConfig
from dpl.files import read_json, write_json
from dpl.prompts.layout import PromptLayout
from dpl.stage import Follower, OnStep, read_history
from dpl.track.kinds import KINDS, Place, Tracker, first_line
from dpl.track.values import epoch_values, layout_text, result_values, settings_values, step_values

EVERY = 5
"""Steps from one that is told to the next. To tell all three trackers of one takes 0.8 ms, and a step of tiny 15 ms."""

_FILE = "track.json"


def check_trackers(names: Sequence[str]) -> None:
    """`DplError` where a tracker's package is not installed, or it would ask for a key."""
    for name in names:
        KINDS[name].check_package()
    for name in names:
        KINDS[name].check()


def forget(run: Path) -> None:
    """Removes what was tracked of a former run in this folder."""
    (run / _FILE).unlink(missing_ok=True)
    for name in KINDS:
        shutil.rmtree(run / name, ignore_errors=True)


class Tracking(Follower):
    """The trackers of a run, and the person's own `on_step`, which is told what it would be told without."""

    def __init__(self, run: Path, config: RunConfig, on_step: OnStep | None, say: Callable[[str], None]) -> None:
        self._run, self._config, self._on_step, self._say = run, config, on_step, say
        self._trackers: dict[str, Tracker] = {}
        self._first = self._done = 0  # steps before this stage, and in all

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Inside, the trackers are open; afterwards, however it ends, they have written all that they were told."""
        if not self._config.track:
            yield
            return
        is_new = not (self._run / _FILE).exists()
        self._state = {"id": uuid4().hex[:8], "stages": {}, "told": []} if is_new else read_json(self._run / _FILE)
        self._done = self._steps_done()
        with _tensorboards_thread_kept_quiet():
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
        """Passes it on."""
        if self._on_step:
            self._on_step(stage, done, total, losses)

    def begin(self, stage: str, steps: int) -> None:
        """A stage of so many steps an epoch begins or goes on."""
        if self._trackers:
            stages = self._state["stages"]
            if stage not in stages:
                stages[stage] = {"first": self._steps_before(stage), "steps": steps}
                self._save()
            self._first = stages[stage]["first"]

    def finish_step(self, stage: str, done: int, values: Mapping[str, float]) -> None:
        """Tells the losses and learning rates of every fifth step."""
        self._done = self._first + done
        if self._done % EVERY == 0:
            self._log(step_values(stage, values))

    def finish_epoch(self, record: Mapping[str, Any]) -> None:
        """Tells an epoch's record of history.jsonl, at the step that was its last."""
        self._log(epoch_values(record))

    def tell_layout(self, layout: PromptLayout) -> None:
        """Tells the layout that is trained in, as text; once in a run."""
        self._log_once("layout", {"layout": layout_text(layout)})

    def tell_result(self, metrics: Mapping[str, Any]) -> None:
        """Tells the numbers of metrics.json; once in a run."""
        self._log_once("result", result_values(metrics))

    def _open(self, place: Place) -> None:
        draws = random.getstate()  # of which some of them make names
        for name in dict.fromkeys(self._config.track):
            try:
                with redirect_stdout(io.StringIO()):
                    self._trackers[name], look = KINDS[name].open(place)
            except Exception as error:
                self._leave(name, error)
            else:
                self._say(f"--track {name}: {look}")
        random.setstate(draws)

    def _log_once(self, what: str, values: dict[str, Any]) -> None:
        if self._trackers and what not in self._state["told"]:
            self._log(values)
            self._state["told"].append(what)
            self._save()

    def _log(self, values: dict[str, Any]) -> None:
        self._each(lambda tracker: tracker.log(values, step=self._done))

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                call(tracker)
            except Exception as error:
                del self._trackers[name]
                self._leave(name, error)

    def _leave(self, name: str, error: Exception) -> None:
        self._say(f"--track {name}: has failed ({first_line(error)}); the run goes on without it")

    def _save(self) -> None:
        write_json(self._run / _FILE, self._state)

    def _steps_done(self) -> int:
        """By the checkpoint, which is of the step that the run goes on from."""
        progress = Checkpoint(self._run / "checkpoint").progress()
        if progress and (stage := self._state["stages"].get(progress["stage"])):
            return stage["first"] + progress["epoch"] * stage["steps"] + progress["step"]
        return self._steps_before(progress["stage"] if progress else None)

    def _steps_before(self, stage: str | None) -> int:
        """Those of the stages that are over."""
        epochs = Counter(record["stage"] for record in read_history(self._run))
        over = ((epochs[name], known) for name, known in self._state["stages"].items() if name != stage)
        return max((known["first"] + count * known["steps"] for count, known in over), default=0)


@contextmanager
def _tensorboards_thread_kept_quiet() -> Iterator[None]:
    """Where the thread that writes TensorBoard's file fails, the next call raises it too: the thread's traceback is left out."""
    before = threading.excepthook

    def hook(failed: threading.ExceptHookArgs) -> None:
        if not type(failed.thread).__module__.startswith("tensorboard."):
            before(failed)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before
