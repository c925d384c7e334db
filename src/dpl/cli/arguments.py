"""The arguments of the commands of `dpl`: a dataclass per command, whose field docstrings are its --help, and their parsing.

The commands fit, search and train take run settings, which `dpl.config` and the modules of the methods define.
"""

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import cleandoc
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from annotated_types import MinLen
from tyro.conf import Positional

from dpl.backbones.choices import ActivationChoice
from dpl.config import PRESETS, RENAMED, NewLoading, RunConfig, RunLoading, TrackerName, preset
from dpl.data.choices import Classes
from dpl.methods import run_settings
from dpl.utils.errors import DplError


def parse_run(kind: str, rest: Sequence[str]) -> RunConfig:
    """Parses the command line of a run, with the settings of its method and preset as defaults.

    Args:
        kind: the command: fit, search or train.
        rest: the words behind the command.

    Returns:
        The settings of the run.

    Raises:
        DplError: there is no such method or preset, the method has no such command, or --shots-from cannot be read.
    """
    # The method decides which settings exist, and the number of shots in --shots-from is the default of --shots.
    early = ArgumentParser(add_help=False, allow_abbrev=False)
    for name, default in (("method", "dpl"), ("preset", "default"), ("shots-from", None)):
        early.add_argument(f"--{name}", nargs="?", const="", default=default)
    words = early.parse_known_args(list(rest))[0]
    if words.preset not in PRESETS:
        raise DplError(f"no preset {words.preset!r}: there are {', '.join(PRESETS)}")
    shots = 16
    if words.shots_from:
        from dpl.data.shots_from import shots_asked  # late: it needs numpy

        shots = shots_asked(Path(words.shots_from)) or shots
    cls = run_settings(kind, words.method)

    def parsed(like: RunConfig) -> RunConfig:
        default = preset(cls, words.preset, like.data, like.shots, like.classes)
        object.__setattr__(default, "data", tyro.MISSING)  # bypasses the constructor: MISSING is no str
        return parse(cls, rest, f"dpl {kind}", default)

    first = parsed(cls(data="", shots=shots))
    # Published settings may depend on the data and the shots, which are known only after the first parse.
    return first if words.preset == "default" else parsed(first)


def parse(cls: type, rest: Sequence[str], prog: str, default: Any = None) -> Any:
    """Parses words of the command line as a dataclass; exits with status 2 for wrong usage and with 0 for --help.

    Args:
        cls: the dataclass; its docstring is the description in --help.
        rest: the words behind the command.
        prog: the name of the command in messages.
        default: an instance of `cls` with the defaults; none: those of the fields.

    Returns:
        An instance of `cls`.
    """
    rest = [_with_new_name(word) for word in rest]
    config = (tyro.conf.FlagCreatePairsOff, tyro.conf.HelptextFromCommentsOff)
    extra = {} if default is None else {"default": default}
    return tyro.cli(cls, args=rest, prog=prog, description=cleandoc(cls.__doc__ or ""), config=config, **extra)


def _with_new_name(word: str) -> str:
    """Returns a flag under its name of today; other words stay the same."""
    flag, equals, value = word.partition("=")
    old = flag.removeprefix("--").replace("-", "_")
    return f"--{RENAMED[old].replace('_', '-')}{equals}{value}" if flag.startswith("--") and old in RENAMED else word


@dataclass(frozen=True)
class Resume:
    """Resume a stopped run with its own settings."""

    resume: Path
    """The run folder."""


@dataclass(frozen=True)
class Compare(NewLoading):
    """Compare several methods over shots and seeds: tables with intervals over the seeds, and pictures.

    Every run has its own folder in --out. Finished runs are not repeated, so the same command resumes a stopped comparison, and
    methods, shots or seeds can be added later.
    """

    data: Positional[Annotated[str, tyro.conf.arg(metavar="DATA")]]
    """The data, as for dpl fit: a built-in task, a data set of the catalogue, a folder, a table, or hf:NAME."""
    methods: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME[:KEY=VALUE][:FLAG],...")]
    """The methods (dpl methods lists them), each with its own settings of dpl fit, such as dpl:layout=6 or
    coop:class-specific:train.lr=0.02; put a value of several words in quotation marks."""
    seeds: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SEED,...")] = ("1", "2", "3")
    """Seeds of the shots and of every random draw, the same for all methods."""
    shots: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SHOTS,...")] = ("1", "2", "4", "8", "16")
    """Training images per class; min(shots, 4) more are drawn for validation."""
    reference: str | None = None
    """The method, as written in --methods, that the others are compared with; by default the first."""
    preset: str = "default"
    """default: our settings, the same for every method; paper: the settings that each method's authors published;
    paper-transfer: those that they published for the transfer to other data."""
    backbone: str = "tiny"
    """tiny (embedded), a Hugging Face id, a checkpoint folder, or a file of weights, as dpl fit takes it."""
    root: Path | None = None
    """The folder of the catalogue's data sets, with a folder for each (dpl datasets where NAME shows the form)."""
    names: Path | None = None
    """A file of new class names, one line per class, such as n01440764: tench."""
    classes: Classes = "all"
    """All classes, or the first (base) or the second (new) half of them in the order of their labels."""
    template: tuple[str, ...] = ()
    """Texts with {} for the class name, or files with one text per line. One replaces the task's first template; several replace
    all. Training uses the first, the ensemble all."""
    track: tuple[TrackerName, ...] = ()
    """Trackers that record every run, as for dpl fit."""
    out: Path | None = None
    """The folder of the runs and the tables; by default runs/compare-DATA."""


@dataclass(frozen=True)
class Reproduce(NewLoading):
    """Run a protocol of the field, with its authors' settings, on those of its data sets that exist under --root.

    dpl-fewshot: 1 to 16 shots of all classes of the 11 data sets. base-to-new: 16 shots of the first half of the classes,
    evaluated on both halves. cross-dataset: 16 shots of ImageNet, evaluated on the other 10. domain: the same, evaluated on
    ImageNetV2, -Sketch, -A and -R. Published figures are shown too, labelled as published. Finished runs are not repeated,
    so the same command resumes a stopped reproduction.
    """

    protocol: Positional[Literal["dpl-fewshot", "base-to-new", "cross-dataset", "domain"]]
    """The protocol."""
    root: Path | None = None
    """The folder of the catalogue's data sets, with a folder for each (dpl datasets where NAME shows the form)."""
    data: Annotated[tuple[str, ...], tyro.conf.arg(metavar="DATA...")] = ()
    """The data sets, named as for dpl fit; by default all of the protocol's that exist under --root."""
    source: str = "imagenet"
    """The data set that cross-dataset and domain train on."""
    methods: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME[:KEY=VALUE][:FLAG],...")] = ("dpl",)
    """The methods, each with its own settings, as for dpl compare."""
    seeds: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SEED,...")] = ("1", "2", "3")
    """Seeds of the shots and of every random draw."""
    shots: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SHOTS,...")] = ()
    """Training images per class; by default the protocol's."""
    preset: str = "paper"
    """paper: the settings that each method's authors published, for this protocol if there are any (paper-transfer in
    cross-dataset and domain); default: our settings, the same for every method."""
    backbone: str = "openai/clip-vit-base-patch16"
    """tiny (embedded), a Hugging Face id, a checkpoint folder, or a file of weights, as dpl fit takes it."""
    out: Path | None = None
    """The folder of the runs and the tables; by default runs/reproduce-PROTOCOL."""


@dataclass(frozen=True)
class Evaluate:
    """Measure the accuracy of a trained run."""

    run: Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """The run folder."""
    on: Annotated[tuple[str, ...], tyro.conf.arg(metavar="DATA...")] = ()
    """Evaluate on these data instead of the run's own test images; named as for dpl fit. The run's template gets their class
    names; a method with per-class parameters accepts its own class names only. Zero-shot uses each data set's own template."""
    classes: Classes | None = None
    """The classes: all, or the first (base) or second (new) half; by default those of the run, and all with --on. For new classes
    of a base run's own data, the base accuracy and the harmonic mean are given too."""
    root: Path | None = None
    """The folder of the catalogue's data sets; by default the one that the run used."""
    loading: Annotated[RunLoading, tyro.conf.arg(name="")] = RunLoading()
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class Predict:
    """Predict the classes of images, with probabilities."""

    run: Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """The run folder."""
    images: Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="IMAGE ...")]]
    """Image files, folders of images, or - for a list on stdin, one path per line."""
    top: int = 3
    """Number of classes to show."""
    loading: Annotated[RunLoading, tyro.conf.arg(name="")] = RunLoading()
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class Explain:
    """Show which parts of an image speak for a class (Grad-CAM), for the zero-shot model and for the run.

    Each image is followed by one map per model, with the model's class and its probability.
    """

    run: Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """The run folder."""
    images: Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="[IMAGE ...]")]] = ()
    """Image files, folders of images, or - for a list on stdin; by default the examples that the run has stored."""
    beside: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="RUN...")] = ()
    """Other runs on the same backbone; each adds a column."""
    label: str | None = None
    """The class of all maps; by default each map shows the class that its model predicts."""
    out: Path | None = None
    """A page (.html) or a figure (.png, .pdf, .svg); by default explain.html in the run folder."""
    loading: Annotated[RunLoading, tyro.conf.arg(name="")] = RunLoading()


@dataclass(frozen=True)
class Report:
    """Write the report.html of a run again; for several runs, a page that compares them. --figures adds pictures for print."""

    run: Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """The run folder."""
    others: Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="[RUN ...]")]] = ()
    """More run folders, to compare with."""
    out: Path | None = None
    """The page of several runs; by default compare.html in the folder that holds all of them, else in the working folder."""
    figures: Path | None = None
    """A folder for the plots as files; other files in it are kept."""
    format: Annotated[tuple[Literal["pdf", "svg", "png"], ...], MinLen(1)] = ("pdf", "svg", "png")
    """The formats of the figures; PNG has 300 dots per inch."""


@dataclass(frozen=True)
class Demo:
    """Serve a page on which you drop images and see the predictions and Grad-CAM maps of the zero-shot and the tuned model.

    Only this machine can open it, it fetches nothing from elsewhere, and it keeps no image. Ctrl-C stops it.
    """

    run: Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """The run folder."""
    port: int = 7860
    """The port; 0: any free port."""
    host: str = "127.0.0.1"
    """The address; with any other than 127.0.0.1, everyone who can reach this machine can use the demo."""
    loading: Annotated[RunLoading, tyro.conf.arg(name="")] = RunLoading()


@dataclass(frozen=True)
class Convert:
    """Convert a CLIP checkpoint of another format to the Hugging Face form, which --backbone and transformers read.

    No code in the file runs, and nothing is downloaded. Notes name everything that is assumed because the file lacks it.
    """

    file: Positional[Annotated[Path, tyro.conf.arg(metavar="FILE")]]
    """OpenAI's archive (ViT-B-16.pt), a state dict of OpenAI's CLIP, open_clip or transformers (.pt, .pth, .bin, .safetensors),
    or a folder with open_clip_config.json and weights."""
    folder: Positional[Annotated[Path, tyro.conf.arg(metavar="FOLDER")]]
    """The new folder."""
    no_pickle: bool = False
    """Refuse pickles (.pt, .pth, .bin). By default torch.load(weights_only=True) reads them. OpenAI's archives are read in either
    case, because they are never unpickled."""
    activation: ActivationChoice = "auto"
    """The layers' activation; auto: as the config says or, without one, by the file's name and format."""


@dataclass(frozen=True)
class Methods:
    """List the methods."""


@dataclass(frozen=True)
class Datasets:
    """List the built-in tasks and the data sets of the catalogue.

    dpl datasets where NAME shows what to download and where to put it; dpl datasets check NAME --root R tells whether a data
    set is complete.
    """

    root: Path | None = None
    """The folder of the catalogue's data sets; the list then says which exist."""
    pictures: Path | None = None
    """Draw example images of every built-in task, one per class, to this file (.html or .png)."""


@dataclass(frozen=True)
class CheckDataset:
    """Check a data set of the catalogue: missing files, counts against the published ones, unreadable images.

    The exit status is 0 if all is well and 2 otherwise.
    """

    name: Positional[Annotated[str, tyro.conf.arg(metavar="NAME")]]
    """A data set of the catalogue (dpl datasets lists them)."""
    root: Path
    """The folder of the data sets, with a folder for each."""
    all: bool = False
    """Decode every image; by default 200, spread over all parts."""


@dataclass(frozen=True)
class WhereDataset:
    """Show what to download for a data set of the catalogue, and where to put it."""

    name: Positional[Annotated[str, tyro.conf.arg(metavar="NAME")]]
    """A data set of the catalogue (dpl datasets lists them)."""
