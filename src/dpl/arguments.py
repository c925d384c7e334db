"""What the commands of `dpl` take: a dataclass for each, whose field docstrings are its --help, and how words become one.

The settings of a run, which fit, search and train take, are in `dpl.config` and with the methods.
"""

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from annotated_types import MinLen
from tyro.conf import Positional

from dpl.errors import DplError

if TYPE_CHECKING:
    from dpl.config import RunConfig


def parse_run(kind: str, rest: Sequence[str]) -> "RunConfig":
    """Settings from the command line, on top of those of the method and preset that it names."""
    from dpl.config import PRESETS, RunConfig, preset
    from dpl.runs import run_settings

    # Which method, and with how many shots the images of another run were drawn, decides what there is to be given.
    early = ArgumentParser(add_help=False, allow_abbrev=False)
    for name, default in (("method", "dpl"), ("preset", "default"), ("shots-from", None)):
        early.add_argument(f"--{name}", nargs="?", const="", default=default)
    words = early.parse_known_args(list(rest))[0]
    if words.preset not in PRESETS:
        raise DplError(f"no preset {words.preset!r}: there are {', '.join(PRESETS)}")
    shots = 16
    if words.shots_from:
        from dpl.data.chosen import shots_asked

        shots = shots_asked(Path(words.shots_from)) or shots
    cls = run_settings(kind, words.method)

    def parsed(like: RunConfig) -> RunConfig:
        default = preset(cls, words.preset, like.data, like.shots, like.classes)
        object.__setattr__(default, "data", tyro.MISSING)  # no str, which a checked constructor would refuse
        return parse(cls, rest, f"dpl {kind}", default)

    first = parsed(cls(data="", shots=shots))
    # What authors have published may go by the data and the shots.
    return first if words.preset == "default" else parsed(first)


def parse(cls: type, rest: Sequence[str], prog: str, default: Any = None) -> Any:
    """The words `rest` as a `cls`, on top of `default`; exits with 2, or with 0 for --help, as command lines do."""
    config = (tyro.conf.FlagCreatePairsOff, tyro.conf.HelptextFromCommentsOff)
    extra = {} if default is None else {"default": default}
    return tyro.cli(cls, args=rest, prog=prog, description=cls.__doc__, config=config, **extra)


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
    """default: the same recipe of ours for every method; paper: for each the settings that its authors published; paper-transfer:
    those for the transfer to other data."""
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
    track: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Trackers that follow every run, as dpl fit has them."""
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
    """paper: for each method the settings that its authors published, for this protocol where they have some (paper-transfer in
    cross-dataset and domain); default: the same recipe of ours for every method."""
    backbone: str = "openai/clip-vit-base-patch16"
    """tiny (embedded), a checkpoint folder, or a Hugging Face id."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """What the backbone's layers compute in; auto: bf16 where it is faster."""
    out: Path | None = None
    """The folder of the runs and the tables; by default runs/reproduce-PROTOCOL."""


@dataclass(frozen=True)
class Loading:
    """How a trained run is loaded, as `dpl.runs.load_run` takes it."""

    backbone: str | None = None
    """Where the backbone is now, if it moved."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """What the backbone's layers compute in; auto: bf16 where it is faster."""


@dataclass(frozen=True)
class Evaluate:
    """Accuracy of a trained run."""

    run: Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """The run folder."""
    on: Annotated[tuple[str, ...], tyro.conf.arg(metavar="DATA...")] = ()
    """Other data than the run's own test images, named as for dpl fit. Their class names go into the run's template; what a
    method has learned for each class takes classes of the same name only. Zero-shot has each data set's own template."""
    classes: Literal["all", "base", "new"] | None = None
    """Only the first half of the classes, or the second; by default those of the run, with --on all. The new classes of a base
    run's own data come with the base accuracy and the harmonic mean of both."""
    root: Path | None = None
    """Where the data sets of the catalogue lie; by default where the run had them."""
    loading: Annotated[Loading, tyro.conf.arg(name="")] = Loading()
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class Predict:
    """Classes and probabilities of images."""

    run: Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """The run folder."""
    images: Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="IMAGE ...")]]
    """Image files, folders of images, or - for a list on stdin, one path a line."""
    top: int = 3
    """How many classes to show."""
    loading: Annotated[Loading, tyro.conf.arg(name="")] = Loading()
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class Explain:
    """Where models look: maps (Grad-CAM) of what in an image speaks for a class, for zero-shot and for the run.

    Each image is shown beside a map per model, with the model's class and its probability.
    """

    run: Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """The run folder."""
    images: Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="[IMAGE ...]")]] = ()
    """Image files, folders of images, or - for a list on stdin; without any, the examples that the run keeps."""
    beside: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="RUN...")] = ()
    """Other runs on the same backbone, a column each."""
    label: str | None = None
    """The class that all maps are of; by default each is of the class that its model predicts."""
    out: Path | None = None
    """A page (.html) or a figure (.png, .pdf, .svg); by default explain.html in the run folder."""
    loading: Annotated[Loading, tyro.conf.arg(name="")] = Loading()


@dataclass(frozen=True)
class Report:
    """Write report.html of a run again; of several runs, a page that compares them. With --figures, pictures for print too."""

    run: Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """The run folder."""
    others: Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="[RUN ...]")]] = ()
    """More of them, to compare it with."""
    out: Path | None = None
    """The page of several runs; by default compare.html in the folder that holds them all, else in this one."""
    figures: Path | None = None
    """A folder for the plots as files of their own; what else is there stays."""
    format: Annotated[tuple[Literal["pdf", "svg", "png"], ...], MinLen(1)] = ("pdf", "svg", "png")
    """What the figures are written as; PNG has 300 dots per inch."""


@dataclass(frozen=True)
class Demo:
    """A page for the browser: drop images, and see what zero-shot and the tuned model make of them, and where they look.

    Only this machine can reach it, nothing is fetched from elsewhere, and no image is kept. Ctrl-C stops it.
    """

    run: Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """The run folder."""
    port: int = 7860
    """Where it listens; 0: any port that is free."""
    host: str = "127.0.0.1"
    """The address that it listens on; with another than this whoever reaches this machine can use the demo."""
    loading: Annotated[Loading, tyro.conf.arg(name="")] = Loading()


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
