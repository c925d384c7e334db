"""The command `dpl`: an explicit table of commands; heavy imports only where a command needs them."""

import json
import os
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
  compare DATA        run several methods on several shots and seeds, and put them side by side
  reproduce PROTOCOL  a protocol of the field on the data sets that are there: dpl-fewshot, base-to-new, cross-dataset, domain
  evaluate RUN        accuracy of a run on its test images, or on others with --on; on new classes with --classes new
  predict RUN IMAGE   classes and probabilities of images, folders, or - for a list on stdin
  report RUN          write the run's report.html again
  methods             the ways to adapt a backbone, for fit --method
  datasets            the built-in tasks and the data sets of the catalogue; with --pictures FILE.html examples of images;
                      dpl datasets where NAME says how to get one, dpl datasets check NAME --root R whether it is whole

DATA is a built-in task such as digits, a data set of the catalogue with --root, a folder (class name/*.jpg, or train/ [val/]
test/ of such), a table of paths and labels (.csv, .jsonl, .parquet), or a data set of Hugging Face (hf:NAME).
A stopped fit, search or train goes on with  dpl fit --resume RUN, a stopped compare or reproduce with the
same command.
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
    for name, default in (("method", "dpl"), ("preset", "default"), ("shots", None), ("shots-from", None)):
        early.add_argument(f"--{name}", nargs="?", const="", default=default)
    words = early.parse_known_args(list(rest))[0]
    if words.preset not in PRESETS:
        raise DplError(f"no preset {words.preset!r}: there are {', '.join(PRESETS)}")
    shots = 16
    if words.shots and words.shots.isdecimal():  # what is no number is refused with the other settings
        shots = int(words.shots)
    elif words.shots is None and words.shots_from:
        from dpl.data.chosen import shots_asked

        shots = shots_asked(Path(words.shots_from)) or shots
    cls = run_settings(kind, words.method)
    default = preset(cls, words.preset, data="", shots=shots)
    object.__setattr__(default, "data", tyro.MISSING)  # no str, which a checked constructor would refuse
    return _parse(cls, rest, f"dpl {kind}", default)


def _parse(cls: type, rest: Sequence[str], prog: str, default: Any = None) -> Any:
    config = (tyro.conf.FlagCreatePairsOff, tyro.conf.HelptextFromCommentsOff)
    extra = {} if default is None else {"default": default}
    return tyro.cli(cls, args=rest, prog=prog, description=cls.__doc__, config=config, **extra)


def _compare(rest: Sequence[str]) -> None:
    arguments = _parse(Compare, rest, "dpl compare")
    from dpl.terminal import quiet

    quiet()
    from dpl.compare import compare, make_plan
    from dpl.reports.comparison.terminal import comparison_progress, print_comparison

    plan = make_plan(arguments)
    try:
        with comparison_progress(len(plan.runs)) as watch:
            comparison = compare(plan, watch.begin, watch.on_step, watch.say)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("; go on with the same command") from None
    print_comparison(comparison, plan.out)


def _reproduce(rest: Sequence[str]) -> None:
    arguments = _parse(Reproduce, rest, "dpl reproduce")
    from dpl.terminal import quiet

    quiet()
    from dpl.reports.comparison.terminal import comparison_progress
    from dpl.reproduce import make_grid, reproduce
    from dpl.reproduce.terminal import print_reproduction

    grid = make_grid(arguments)
    try:
        with comparison_progress(sum(len(plan.runs) for plan in grid.plans.values())) as watch:
            found = reproduce(grid, watch.begin, watch.on_step, watch.say)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("; go on with the same command") from None
    print_reproduction(found, grid.out)


def _evaluate(rest: Sequence[str]) -> None:
    arguments = _parse(Evaluate, rest, "dpl evaluate")
    from dpl.terminal import print_evaluations, print_metrics, quiet

    quiet()
    from dpl.apply import evaluate_on

    where = {"classes": arguments.classes, "root": arguments.root, **_where(arguments)}
    results = evaluate_on(arguments.run, arguments.on, **where, say=_note)
    if arguments.json:
        print(json.dumps(results if len(results) > 1 else results[0], indent=1, ensure_ascii=False))
    elif len(results) > 1:
        from dpl.runs import read_config

        print_evaluations(results, read_config(arguments.run).get("data"))
    else:
        print_metrics(results[0])


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
    if rest and rest[0] in ("check", "where"):
        return _catalog(*rest)
    arguments = _parse(Datasets, rest, "dpl datasets")
    if arguments.pictures is None:
        from dpl.terminal import print_datasets

        print_datasets(arguments.root)
    else:
        from dpl.data.gallery import write_gallery

        write_gallery(arguments.pictures)
        print(arguments.pictures)


def _catalog(action: str, *rest: str) -> None:
    """dpl datasets check and where."""
    arguments = _parse(CheckDataset if action == "check" else WhereDataset, rest, f"dpl datasets {action}")
    from dpl.data.catalog import CATALOG
    from dpl.data.catalog.check import check
    from dpl.data.catalog.terminal import print_check, print_where

    if arguments.name not in CATALOG:
        raise DplError(f"no data set {arguments.name!r} in the catalogue: there are {', '.join(CATALOG)}")
    row = CATALOG[arguments.name]
    if isinstance(arguments, WhereDataset):
        return print_where(row)
    checked = check(row, arguments.root, everything=arguments.all, on_step=_decoded)
    print_check(checked)
    if checked.problems:
        count = f"{len(checked.problems)} problem{'s' if len(checked.problems) > 1 else ''}"
        raise DplError(f"{row.name} is not as published ({count}, above); dpl datasets where {row.name} says how to get it")


def _decoded(done: int, total: int) -> None:
    if total > 1000:
        print(f"decoded {done} of {total} images", file=sys.stderr, flush=True)


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
class Compare:
    """Several methods on several shots and seeds: tables with intervals over the seeds, and pictures.

    Every run has a folder of its own in --out. What is there already is not done again, so the same command goes on after a
    stop, and more methods, shots or seeds can be asked for later.
    """

    data: Positional[Annotated[str, tyro.conf.arg(metavar="DATA")]]
    """What dpl fit takes: a built-in task, a data set of the catalogue, a folder, a table, or hf:NAME."""
    methods: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME[:KEY=VALUE][:FLAG],...")]
    """The methods (dpl methods lists them), each with settings of its own as dpl fit has them, such as dpl:layout=6 or
    coop:class-specific:train.lr=0.02; a value of several words is put in quotation marks."""
    seeds: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SEED,...")] = ("1", "2", "3")
    """Each decides a sample of shots and every random draw; all methods have the same."""
    shots: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SHOTS,...")] = ("1", "2", "4", "8", "16")
    """Training images per class; validation gets min(shots, 4) more."""
    reference: str | None = None
    """The method, as written in --methods, that differences are to; by default the first."""
    preset: str = "default"
    """default: the same recipe of ours for every method; paper: for each the settings that its authors published."""
    backbone: str = "tiny"
    """tiny (embedded), a checkpoint folder, or a Hugging Face id such as openai/clip-vit-base-patch16."""
    root: Path | None = None
    """Where the data sets of the catalogue lie, a folder for each (dpl datasets where NAME says how)."""
    names: Path | None = None
    """A file that gives classes other names, a line each: n01440764: tench."""
    classes: Literal["all", "base", "new"] = "all"
    """All classes, the first half of them in the order of their labels, or the second half (base-to-new)."""
    template: tuple[str, ...] = ()
    """Texts with {} for the class name, or files with one per line: one replaces the task's first, several are all. The first is
    trained with, all make the ensemble."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """What the backbone's layers compute in; auto: bf16 where it is faster."""
    out: Path | None = None
    """The folder of the runs and the tables; by default runs/compare-DATA."""


@dataclass(frozen=True)
class Reproduce:
    """A protocol of the field, with its authors' settings, on whichever of its data sets are there.

    dpl-fewshot: 1 to 16 shots of all classes of the 11 data sets. base-to-new: 16 shots of the first half of the classes,
    evaluated on both halves. cross-dataset: 16 shots of ImageNet, evaluated on the other 10. domain: the same, evaluated on
    ImageNetV2, -Sketch, -A and -R. Published figures stand beside, labelled as such. What is done already is not done again,
    so the same command goes on after a stop.
    """

    protocol: Positional[Literal["dpl-fewshot", "base-to-new", "cross-dataset", "domain"]]
    """Which protocol."""
    root: Path | None = None
    """Where the data sets of the catalogue lie, a folder for each (dpl datasets where NAME says how)."""
    data: Annotated[tuple[str, ...], tyro.conf.arg(metavar="DATA...")] = ()
    """Only these data sets, or others, named as for dpl fit; by default all of the protocol that are under --root."""
    source: str = "imagenet"
    """What is learned on in cross-dataset and domain."""
    methods: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME[:KEY=VALUE][:FLAG],...")] = ("dpl",)
    """The methods, each with settings of its own, as for dpl compare."""
    seeds: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SEED,...")] = ("1", "2", "3")
    """Each decides a sample of shots and every random draw."""
    shots: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SHOTS,...")] = ()
    """Training images per class; by default the protocol's."""
    preset: str = "paper"
    """paper: for each method the settings that its authors published; default: the same recipe of ours for every method."""
    backbone: str = "openai/clip-vit-base-patch16"
    """tiny (embedded), a checkpoint folder, or a Hugging Face id."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """What the backbone's layers compute in; auto: bf16 where it is faster."""
    out: Path | None = None
    """The folder of the runs and the tables; by default runs/reproduce-PROTOCOL."""


@dataclass(frozen=True)
class Evaluate:
    """Accuracy of a trained run."""

    run: Positional[Path]
    """The run folder."""
    on: Annotated[tuple[str, ...], tyro.conf.arg(metavar="DATA...")] = ()
    """Other data than the run's own test images, named as for dpl fit. Their class names go into the run's template; what a
    method has learned for each class takes classes of the same name only. Zero-shot has each data set's own template."""
    classes: Literal["all", "base", "new"] | None = None
    """Only the first half of the classes, or the second; by default those of the run, with --on all. The new classes of a base
    run's own data come with the base accuracy and the harmonic mean of both."""
    root: Path | None = None
    """Where the data sets of the catalogue lie; by default where the run had them."""
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
    """List the built-in tasks and the data sets of the catalogue.

    dpl datasets where NAME says what to download for one and how to lay it out, dpl datasets check NAME --root R whether it
    is whole.
    """

    root: Path | None = None
    """Where the data sets of the catalogue lie: says which are there."""
    pictures: Path | None = None
    """Draw them instead: a row of examples per task, one per class, into this file (.html or .png)."""


@dataclass(frozen=True)
class CheckDataset:
    """What is missing of a data set of the catalogue, its counts beside the published ones, and images that cannot be read.

    The exit status is 0 if all is well and 2 otherwise.
    """

    name: Positional[Annotated[str, tyro.conf.arg(metavar="NAME")]]
    """A data set of the catalogue (dpl datasets lists them)."""
    root: Path
    """Where the data sets lie, a folder for each."""
    all: bool = False
    """Decode every image, not only 200 spread over all parts."""


@dataclass(frozen=True)
class WhereDataset:
    """What to download for a data set of the catalogue, and how to lay it out."""

    name: Positional[Annotated[str, tyro.conf.arg(metavar="NAME")]]
    """A data set of the catalogue (dpl datasets lists them)."""


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "fit": partial(_run, "fit"),
    "search": partial(_run, "search"),
    "train": partial(_run, "train"),
    "compare": _compare,
    "reproduce": _reproduce,
    "evaluate": _evaluate,
    "predict": _predict,
    "report": _report,
    "methods": _methods,
    "datasets": _datasets,
}
