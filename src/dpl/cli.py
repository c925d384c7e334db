"""The command `dpl`: an explicit table of commands; heavy imports only where a command needs them."""

import json
import os
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro
from tyro.conf import Positional

from dpl.errors import DplError

if TYPE_CHECKING:
    from dpl.config import RunConfig

HELP = """dpl: fits a frozen vision-language model to your classes from a few labelled images,
by prompts whose lengths per layer are searched by gradient descent.

usage: dpl COMMAND ...        dpl COMMAND --help for its options

  fit DATA            search a prompt layout, train prompts in it, evaluate, report: the main job
  search DATA         only search a layout
  train DATA          only train, in a given --layout
  evaluate RUN        accuracy of a run on its test images, or on others with --on
  predict RUN IMAGE   classes and probabilities of images, folders, or - for a list on stdin
  report RUN          write the run's report.html again
  methods             the ways to adapt a backbone, for fit --method
  datasets            the built-in tasks; with --pictures FILE.html examples of their images

DATA is a built-in task such as digits, or a folder: class name/*.jpg, or train/ [val/] test/ of such.
A stopped fit, search or train goes on with  dpl fit --resume RUN.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status: 0, 2 for bad input (told in one line), 130 for Ctrl-C."""
    # Threads that spin while they wait make a step three times slower where another program wants the cores too, and
    # save a tenth of it where none does.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        print(HELP, end="")
        return 0
    if name == "--version":
        from importlib.metadata import version

        print(f"dpl {version('differentiable-prompt-learning')}")
        return 0
    try:
        if name not in COMMANDS:
            raise DplError(f"no command {name!r}: there are {', '.join(COMMANDS)}; see dpl --help")
        COMMANDS[name](rest)
    except DplError as error:
        print(f"dpl: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"\ndpl: stopped{stop.args[0] if stop.args else ''}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away: `dpl predict ... | head`
        sys.stderr.close()
        return 141
    return 0


def _run(kind: str, rest: Sequence[str]) -> None:
    """fit, search and train: begin a run, or go on with one."""
    from dpl.terminal import quiet, run_progress, summary

    if any(word.split("=")[0] == "--resume" for word in rest):
        run = _parse(Resume, rest, f"dpl {kind}").resume
        config = None
    else:
        config = parse_run(kind, rest)
        from dpl.pipeline import default_folder

        run = config.out or default_folder(config)
    quiet()
    try:
        from dpl.pipeline import fit, resume

        with run_progress() as (on_step, say):
            run = fit(config, on_step, say) if config else resume(run, on_step, say)
    except KeyboardInterrupt:
        began = (run / "checkpoint").exists()
        raise KeyboardInterrupt(f"; go on with: dpl {kind} --resume {run}" if began else "; nothing was begun") from None
    summary(run)


def parse_run(kind: str, rest: Sequence[str]) -> "RunConfig":
    """Settings from the command line, on top of those of the method and preset that it names."""
    from dpl.config import PRESETS, preset
    from dpl.runs import run_settings

    early = ArgumentParser(add_help=False, allow_abbrev=False)
    for name, default in (("method", "dpl"), ("preset", "default"), ("shots", "16")):
        early.add_argument(f"--{name}", nargs="?", const="", default=default)
    words = early.parse_known_args(list(rest))[0]
    if words.preset not in PRESETS:
        raise DplError(f"no preset {words.preset!r}: there are {', '.join(PRESETS)}")
    shots = int(words.shots) if words.shots.isdecimal() else 16  # what is no number is refused with the other settings
    cls = run_settings(kind, words.method)
    return _parse(cls, rest, f"dpl {kind}", preset(cls, words.preset, data=tyro.MISSING, shots=shots))


def _parse(cls: type, rest: Sequence[str], prog: str, default: Any = None) -> Any:
    config = (tyro.conf.FlagCreatePairsOff, tyro.conf.HelptextFromCommentsOff)
    extra = {} if default is None else {"default": default}
    return tyro.cli(cls, args=rest, prog=prog, description=cls.__doc__, config=config, **extra)


def _evaluate(rest: Sequence[str]) -> None:
    arguments = _parse(Evaluate, rest, "dpl evaluate")
    from dpl.terminal import print_metrics, quiet

    quiet()
    from dpl.apply import evaluate_run

    result = evaluate_run(arguments.run, arguments.on, **_where(arguments), say=_note)
    print(json.dumps(result, indent=1)) if arguments.json else print_metrics(result)


def _predict(rest: Sequence[str]) -> None:
    arguments = _parse(Predict, rest, "dpl predict")
    from dpl.terminal import print_predictions, quiet

    quiet()
    from dpl.apply import predict_files

    result = predict_files(
        arguments.run, arguments.images, arguments.top, arguments.backbone, arguments.device, arguments.precision, _note
    )
    print(json.dumps(result, indent=1, ensure_ascii=False)) if arguments.json else print_predictions(result)


def _report(rest: Sequence[str]) -> None:
    arguments = _parse(Report, rest, "dpl report")
    from dpl.reports.html import write_report

    print(write_report(arguments.run))


def _datasets(rest: Sequence[str]) -> None:
    arguments = _parse(Datasets, rest, "dpl datasets")
    if arguments.pictures is None:
        from dpl.terminal import print_datasets

        print_datasets()
    else:
        from dpl.data.gallery import write_gallery

        write_gallery(arguments.pictures)
        print(arguments.pictures)


def _methods(rest: Sequence[str]) -> None:
    _parse(Methods, rest, "dpl methods")
    from dpl.terminal import print_methods

    print_methods()


def _where(arguments: "Evaluate | Predict") -> dict[str, Any]:
    return {"backbone": arguments.backbone, "device": arguments.device, "precision": arguments.precision}


def _note(text: str) -> None:
    """A remark for the person, apart from the output proper."""
    print(text, file=sys.stderr)


@dataclass(frozen=True)
class Resume:
    """Go on with a run that was stopped; its settings are those it was started with."""

    resume: Path
    """The run folder."""


@dataclass(frozen=True)
class Evaluate:
    """Accuracy of a trained run."""

    run: Positional[Path]
    """The run folder."""
    on: str | None = None
    """Other data than the run's own test images: its classes are named to the same prompts."""
    backbone: str | None = None
    """Where the backbone is now, if it moved."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """What the backbone's layers compute in; auto: bf16 where it is faster."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class Predict:
    """Classes and probabilities of images."""

    run: Positional[Path]
    """The run folder."""
    images: Positional[tuple[str, ...]]
    """Image files, folders of images, or - for a list on stdin, one path a line."""
    top: int = 3
    """How many classes to show."""
    backbone: str | None = None
    """Where the backbone is now, if it moved."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """What the backbone's layers compute in; auto: bf16 where it is faster."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class Report:
    """Write report.html of a run again."""

    run: Positional[Path]
    """The run folder."""


@dataclass(frozen=True)
class Methods:
    """List the methods."""


@dataclass(frozen=True)
class Datasets:
    """List the built-in tasks."""

    pictures: Path | None = None
    """Draw them instead: a row of examples per task, one per class, into this file (.html or .png)."""


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "fit": partial(_run, "fit"),
    "search": partial(_run, "search"),
    "train": partial(_run, "train"),
    "evaluate": _evaluate,
    "predict": _predict,
    "report": _report,
    "methods": _methods,
    "datasets": _datasets,
}
