"""The trackers that there are: what each needs, and how it is opened through accelerate, which hides their differences.

An `Accelerator` is not made: it would choose devices. All is imported when a run is tracked, and not before.
"""

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from dpl.data.paths import shown
from dpl.errors import DplError
from dpl.track.values import Plain

PROJECT = "dpl"


class Tracker(Protocol):
    """What of accelerate's `GeneralTracker` is used here."""

    def log(self, values: dict[str, Any], step: int | None) -> None:
        """Numbers and texts of a step."""

    def finish(self) -> None:
        """Writes what is not written yet."""


@dataclass(frozen=True)
class Place:
    """Where, and as what, a run is tracked."""

    run: Path
    id: str
    """The run's own, the same when it goes on."""
    settings: Mapping[str, Plain]
    steps: int
    """Done before, over all stages."""
    is_new: bool
    """Whether nothing was tracked of this run before."""


@dataclass(frozen=True)
class Kind:
    """A tracker: the package that it needs, what else must be so, and how it is opened; that also says how to look at it."""

    package: str
    check: Callable[[], None]
    open: Callable[[Place], tuple[Tracker, str]]

    def check_package(self) -> None:
        """`DplError` where its package or accelerate is not installed."""
        missing = [name for name in ("accelerate", self.package) if not _is_there(name)]
        if missing:
            raise DplError(f"--track {self.package}: is not installed; pip install {' '.join(missing)}")


def _is_there(package: str) -> bool:
    spec = find_spec(package)
    return spec is not None and spec.origin is not None  # a folder of that name is a package without an origin


def _nothing_more() -> None:
    """Nothing else must be so."""


def _open_tensorboard(place: Place) -> tuple[Tracker, str]:
    from accelerate.tracking import TensorBoardTracker
    from torch.utils.tensorboard.summary import hparams

    # Readers leave out what a stopped run has written of later steps.
    purge = {} if place.is_new else {"purge_step": place.steps + 1}
    tracker = _started(TensorBoardTracker("tensorboard", place.run, **purge))
    if place.is_new:  # here, not by store_init_configuration, which makes a run of its own of them
        shown_beside = dict.fromkeys(("result/accuracy", "result/zero_shot_accuracy"), 0.0)
        for summary in hparams(dict(place.settings), shown_beside):
            tracker.tracker.file_writer.add_summary(summary)
        tracker.tracker.flush()
    return tracker, f"tensorboard --logdir {_quoted(place.run / 'tensorboard')}"


def _check_wandb() -> None:
    """`DplError` where wandb would ask for a key, or has one that is none."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # or it reports crashes of its own, even offline
    import wandb

    try:
        mode = wandb.setup(wandb.Settings(silent=True)).settings.mode
        knows = mode in ("offline", "dryrun", "disabled") or wandb.login(prompt=False, verify=False)
    except Exception as error:
        raise DplError(f"--track wandb: {first_line(error)}") from None
    if not knows:
        raise DplError("--track wandb: has no key; log in with wandb login, or stay on this machine with WANDB_MODE=offline")


def _open_wandb(place: Place) -> tuple[Tracker, str]:
    import wandb
    from accelerate.tracking import WandBTracker

    # No prompts, no output into ours, nothing of the folder that the command was given in; an upload may not hold up the end.
    settings = wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True, init_timeout=30, finish_timeout=60)
    about = {"name": place.run.name, "id": place.id, "resume": "allow", "config": dict(place.settings)}
    tracker = _started(WandBTracker(PROJECT, dir=str(place.run), settings=settings, **about))
    return tracker, tracker.tracker.url or f"wandb sync {_quoted(place.run / 'wandb')}/*run-*"


def _open_trackio(place: Place) -> tuple[Tracker, str]:
    folder = place.run / "trackio"
    _forget_other_folder(folder)
    here = {"TRACKIO_DIR": str(folder), "TRACKIO_SPACE_ID": None, "TRACKIO_SERVER_URL": None}
    with _environment(here):
        from accelerate.tracking import TrackioTracker

        about = {"name": place.run.name, "resume": "allow", "config": dict(place.settings)}
        tracker = _started(TrackioTracker(PROJECT, embed=False, auto_log_cpu=False, auto_log_gpu=False, **about))
        # Not the run's own, after which trackio would finish it again as the program ends.
        tracker.finish = import_module("trackio").finish
    return tracker, f"TRACKIO_DIR={_quoted(folder)} trackio show --project {PROJECT}"


def _forget_other_folder(folder: Path) -> None:
    """trackio takes its folder from the environment as it is imported: for another one it is imported again."""
    there = sys.modules.get("trackio.utils")
    if there is not None and folder != there.TRACKIO_DIR:
        for name in [name for name in sys.modules if name.split(".")[0] == "trackio"]:
            del sys.modules[name]


def _started(tracker: Any) -> Any:
    from accelerate.state import PartialState

    PartialState(cpu=True)  # accelerate's log wants to know of processes; this looks for no device
    tracker.start()
    return tracker


@contextmanager
def _environment(values: Mapping[str, str | None]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    try:
        _set(values)
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _quoted(path: Path) -> str:
    return shown(shlex.quote(str(path)))


def first_line(error: Exception) -> str:
    """What an error of a library says, on one line."""
    return shown((str(error).strip() or type(error).__name__).splitlines()[0])


KINDS: Mapping[str, Kind] = {
    "tensorboard": Kind("tensorboard", _nothing_more, _open_tensorboard),
    "wandb": Kind("wandb", _check_wandb, _open_wandb),
    "trackio": Kind("trackio", _nothing_more, _open_trackio),
}
