"""The available trackers: the requirements of each, and how it is opened through accelerate's common interface.

No `Accelerator` is made, because it would choose devices. The packages are imported only when a run is tracked.
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
from dpl.track.values import Plain
from dpl.utils.errors import DplError

PROJECT = "dpl"


class Tracker(Protocol):
    """The part of accelerate's `GeneralTracker` that dpl uses."""

    def log(self, values: dict[str, Any], step: int | None) -> None:
        """Logs numbers and texts of a step."""

    def finish(self) -> None:
        """Writes all pending data."""


@dataclass(frozen=True)
class Place:
    """Folder, identity and state of a tracked run."""

    run: Path
    id: str
    """Identifies the run; a resumed run keeps it."""
    settings: Mapping[str, Plain]
    steps: int
    """Steps done before, over all stages."""
    is_new: bool
    """Whether this run was not tracked before."""


@dataclass(frozen=True)
class Kind:
    """A kind of tracker.

    `package` is the package that it needs. `check` raises `DplError` if another requirement is not met. `open` returns the
    tracker and a command or address to view its records.
    """

    package: str
    check: Callable[[], None]
    open: Callable[[Place], tuple[Tracker, str]]

    def check_package(self) -> None:
        """Checks the installation.

        Raises:
            DplError: the package or accelerate is not installed.
        """
        missing = [name for name in ("accelerate", self.package) if not _is_there(name)]
        if missing:
            raise DplError(f"--track {self.package}: is not installed; pip install {' '.join(missing)}")


def _is_there(package: str) -> bool:
    spec = find_spec(package)
    return spec is not None and spec.origin is not None  # without an origin it is only a folder of that name


def _no_requirements() -> None:
    """No further requirements."""


def _open_tensorboard(place: Place) -> tuple[Tracker, str]:
    from accelerate.tracking import TensorBoardTracker
    from torch.utils.tensorboard.summary import hparams

    # purge_step hides the later steps that a stopped run may have written.
    purge = {} if place.is_new else {"purge_step": place.steps + 1}
    tracker = _started(TensorBoardTracker("tensorboard", place.run, **purge))
    if place.is_new:  # not by store_init_configuration, which would store them as a separate run
        metrics = dict.fromkeys(("result/accuracy", "result/zero_shot_accuracy"), 0.0)
        for summary in hparams(dict(place.settings), metrics):
            tracker.tracker.file_writer.add_summary(summary)
        tracker.tracker.flush()
    return tracker, f"tensorboard --logdir {_quoted(place.run / 'tensorboard')}"


def _check_wandb() -> None:
    """Raises `DplError` if wandb would ask for a key, or its key is malformed."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # otherwise wandb sends its own crash reports, even offline
    import wandb

    try:
        mode = wandb.setup(wandb.Settings(silent=True)).settings.mode
        usable = mode in ("offline", "dryrun", "disabled") or wandb.login(prompt=False, verify=False)
    except Exception as error:
        raise DplError(f"--track wandb: {first_line(error)}") from None
    if not usable:
        raise DplError("--track wandb: has no key; log in with wandb login, or stay on this machine with WANDB_MODE=offline")


def _open_wandb(place: Place) -> tuple[Tracker, str]:
    import wandb
    from accelerate.tracking import WandBTracker

    # No prompts, no console output, no code or git state of the working directory, and no long wait for uploads at the end.
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
        # Not the tracker's own `finish`: after it trackio would finish the run again at exit.
        tracker.finish = import_module("trackio").finish
    return tracker, f"TRACKIO_DIR={_quoted(folder)} trackio show --project {PROJECT}"


def _forget_other_folder(folder: Path) -> None:
    """Unloads trackio if it was imported for another folder; it reads its folder from the environment on import."""
    there = sys.modules.get("trackio.utils")
    if there is not None and folder != there.TRACKIO_DIR:
        for name in [name for name in sys.modules if name.split(".")[0] == "trackio"]:
            del sys.modules[name]


def _started(tracker: Any) -> Any:
    from accelerate.state import PartialState

    PartialState(cpu=True)  # accelerate's logging needs the process state; cpu=True avoids a search for devices
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
    """Returns the first line of an error's message, or the name of its type if it has none."""
    return shown((str(error).strip() or type(error).__name__).splitlines()[0])


KINDS: Mapping[str, Kind] = {
    "tensorboard": Kind("tensorboard", _no_requirements, _open_tensorboard),
    "wandb": Kind("wandb", _check_wandb, _open_wandb),
    "trackio": Kind("trackio", _no_requirements, _open_trackio),
}
