"""The settings of runs: frozen dataclasses, whose field docstrings are the command line's help."""

import shlex
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast, get_args

import tyro
from annotated_types import Ge, Gt, Le, MinLen

from dpl.backbones.choices import PrecisionChoice, Resize
from dpl.data.choices import Classes
from dpl.prompts.layout import check_options
from dpl.utils.errors import DplError

Count = Annotated[int, Ge(1)]
CountOrZero = Annotated[int, Ge(0)]
Rate = Annotated[float, Gt(0)]
RateOrZero = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
PresetName = Literal["default", "paper", "paper-transfer"]
HeadName = Literal["auto", "text", "residual"]
RegularizerName = Literal["none", "distillation", "kgcoop", "promptsrc"]
TrackerName = Literal["tensorboard", "wandb", "trackio"]


@dataclass(frozen=True)
class Optimization:
    """Settings of gradient descent, the same for search and training."""

    epochs: Count
    """Passes over the training shots."""
    batch_size: Count = 16
    """Training images per step."""
    drop_last: bool = False
    """Skip an epoch's last batch if it is not full, unless it is the only one."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """AdamW, or SGD with momentum 0.9."""
    lr: Rate = 1e-2
    """Largest learning rate, at which the cosine starts."""
    weight_decay: RateOrZero = 5e-4
    """Weight decay of the learned parameters."""
    adam_eps: Rate = 1e-8
    """AdamW's epsilon."""
    schedule: Literal["epoch", "step"] = "epoch"
    """Lower the learning rate after every epoch, or after every step."""
    warmup_epochs: CountOrZero = 3
    """Warm-up epochs before the cosine starts."""
    warmup_lr: Rate | None = None
    """Constant learning rate of the warm-up epochs; none: it rises linearly to the full rate."""
    final_lr: RateOrZero = 0.0
    """Learning rate at the end of the cosine."""
    clip_norm: RateOrZero = 1.0
    """Clip the norm of the gradient of all learned parameters to this value; 0: do not clip."""


@dataclass(frozen=True)
class Penalties:
    """Weights of the terms that a regularizer adds to cross entropy (dpl.optim.regularization), and the Gaussian aggregation."""

    distill: float = 0.0
    text_l1: float = 0.0
    image_l1: float = 0.0
    text_cosine: float = 0.0
    aggregate: tuple[float, float] | tuple[()] = ()


# The weights that their authors published: PromptSRC's for few shots, KgCoOp's.
REGULARIZERS: dict[RegularizerName, Penalties] = {
    "none": Penalties(),
    "distillation": Penalties(distill=1.0),
    "kgcoop": Penalties(text_cosine=8.0),
    "promptsrc": Penalties(distill=1.0, text_l1=25.0, image_l1=10.0, aggregate=(0.9, 0.1)),
}


@dataclass(frozen=True)
class Training(Optimization):
    """Settings of training: gradient descent, and regularization towards the frozen model."""

    epochs: Count = 27
    """Passes over the training shots; the default equals DPL's search and training together."""
    steps: Count | None = None
    """Total number of steps instead of epochs, rounded up to whole epochs."""
    regularizer: Annotated[RegularizerName, tyro.conf.arg(aliases=["--regularizer"])] = "none"
    """Terms added to cross entropy, with their authors' weights; the settings below change single weights."""
    distill: Annotated[RateOrZero | None, tyro.conf.arg(aliases=["--distill"])] = None
    """Weight of KL(zero-shot teacher with the template ensemble || student); none: the regularizer's."""
    text_l1: RateOrZero | None = None
    """Weight of PromptSRC's mean distance |text - teacher's text|, embeddings of unit length; none: the regularizer's."""
    image_l1: RateOrZero | None = None
    """Weight of PromptSRC's mean distance |image - teacher's image|; none: the regularizer's."""
    text_cosine: RateOrZero | None = None
    """Weight of KgCoOp's 1 - cos(text, teacher's text with the first template); none: the regularizer's."""
    aggregate: tuple[Share, ...] | None = None
    """PromptSRC's Gaussian aggregation over the epochs: the peak of its weights (0-1 of training) and their standard deviation;
    no values: no aggregation."""

    @property
    def penalties(self) -> Penalties:
        """The weights of the regularizer, overridden by the settings that are given here."""
        given = {entry.name: getattr(self, entry.name) for entry in fields(Penalties)}
        return replace(REGULARIZERS[self.regularizer], **{name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True)
class SearchConfig(Optimization):
    """The search stage: one training of a model larger than any layout."""

    method: Literal["pruning", "mixture"] = "pruning"
    """pruning trains the longest layout and keeps its most salient prompts; mixture is the paper's search, a mixture of all
    options weighted by alphas."""
    epochs: Count = 7
    """Largest number of passes over the training shots."""
    options: tuple[int, ...] = tuple(range(13))
    """Context lengths that a layer can get, ascending from 0."""
    budget: Annotated[RateOrZero, tyro.conf.arg(aliases=["--budget"])] = 6.0
    """Largest mean number of prompt tokens per layer, over both branches; 0: no limit, so every layer gets its best option."""
    validation_batch_size: Count = 16
    """Validation images per step of the alphas, drawn again for each step; per batch for the saliency."""
    alpha_lr: Rate = 3e-2
    """Learning rate of the alphas (Adam, betas 0.5 and 0.999) in the mixture."""
    patience: CountOrZero = 5
    """Stop when the layout has not changed, and alphas have hardly changed, for this many epochs; 0: never stop early."""

    def tokens(self, layers: int) -> int | None:
        """Computes the largest number of prompt tokens of a whole model.

        Args:
            layers: number of layers of both branches together.

        Returns:
            The limit; none: no limit.
        """
        return int(self.budget * layers) if self.budget else None


@dataclass(frozen=True)
class TrainConfig(Training):
    """The training stage: trains prompts in the layout."""

    epochs: Count = 20
    """Passes over the training shots."""
    prompt_scales: Annotated[tuple[Share, ...], MinLen(1)] = (1.0, 0.5, 0.25, 0.1, 0.03, 0.0)
    """Candidates for the weight of the prompts, 1 (as trained) to 0 (zero-shot); the best on the validation shots is kept."""


@dataclass(frozen=True)
class Protocol:
    """Properties of a run that decide which of its authors' published settings apply."""

    shots: int = 16
    data: str = ""
    """The data trained on, as on the command line."""
    classes: Classes = "all"
    """The classes trained on; after "base" the new classes are evaluated too."""
    transfers: bool = False
    """Whether the run is evaluated on other data than it is trained on."""


@dataclass(frozen=True, kw_only=True)
class BackboneLoading:
    """Settings for loading the backbone."""

    revision: str | None = None
    """Branch, tag, pull request (refs/pr/10) or commit of a Hugging Face id; the same as ID@REVISION."""
    no_pickle: bool = False
    """Refuse pickled weights. By default they are read if a checkpoint has no others; code in them never runs."""
    device: str = "auto"
    """auto (cuda if there is one, else cpu), cpu, cuda, cuda:1, xpu or mps."""
    precision: PrecisionChoice = "auto"
    """Precision of the backbone's layers; learned parameters and logits are always fp32. auto: bf16 where it is faster, which
    changes ViT-B/16's logits by up to 0.04."""

    def load_options(self) -> dict[str, Any]:
        """Returns the settings as arguments of `dpl.load_backbone`."""
        return {
            "device": self.device,
            "precision": self.precision,
            "revision": self.revision,
            "allow_pickle": not self.no_pickle,
        }


@dataclass(frozen=True, kw_only=True)
class NewLoading(BackboneLoading):
    """Settings for loading the backbone of a new run."""

    resize: Resize = "checkpoint"
    """Rule that makes images square. checkpoint: the checkpoint's; crop: resize the shortest side, crop the centre; squash:
    resize both sides, which distorts; pad: resize the longest side, fill with black."""

    def load_options(self) -> dict[str, Any]:
        """Returns the settings as arguments of `dpl.load_backbone`."""
        return {**super().load_options(), "resize": self.resize}


@dataclass(frozen=True, kw_only=True)
class RunLoading(BackboneLoading):
    """Settings for loading a trained run."""

    backbone: str | None = None
    """The backbone's present path or id, if it moved."""


@dataclass(frozen=True)
class RunConfig(NewLoading):
    """Settings that all runs have."""

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """A built-in task, or a data set of the catalogue with --root (dpl datasets lists both); a folder with class name/*.jpg, or
    with train/, val/ (optional) and test/ of such folders; a table of paths and labels (.csv, .jsonl, .parquet); or a data set of
    Hugging Face (hf:NAME, or its folder)."""
    method: str = "dpl"
    """The method (dpl methods lists them); each has its own settings, see --method NAME --help."""
    preset: PresetName = "default"
    """Default values of the other settings. default: ours, for few shots; paper: those that the method's authors published;
    paper-transfer: those that they published for the transfer to other data."""
    root: Path | None = None
    """The folder of the catalogue's data sets, with a folder for each (dpl datasets where NAME shows the form)."""
    names: Path | None = None
    """A file of new class names, one line per class, such as n01440764: tench."""
    classes: Classes = "all"
    """All classes, or the first (base) or the second (new) half of them in the order of their labels."""
    backbone: str = "tiny"
    """tiny (embedded), a Hugging Face id such as openai/clip-vit-base-patch16, a checkpoint folder, or a file of weights
    (OpenAI's ViT-B-16.pt, open_clip's, a .safetensors)."""
    shots: Count = 16
    """Training images per class; min(shots, 4) more are drawn for validation."""
    shots_from: Path | None = None
    """Use the shots of another run: its run folder, or a JSON file with the lists "train" and "val" of image names."""
    seed: int = 1
    """Seed of the shots and of every other random draw."""
    out: Path | None = None
    """The new run folder; by default runs/TASK[-METHOD]-SHOTSshot-seedSEED."""
    overwrite: bool = False
    """Replace an existing run in the run folder."""
    template: tuple[str, ...] = ()
    """Texts with {} for the class name, or files with one text per line. One replaces the task's first template; several replace
    all. Training uses the first, the ensemble all."""
    strict: bool = False
    """Decode all images before anything else and refuse unreadable ones. By default an image is decoded when it is used, and left
    out with a note if it is unreadable."""
    track: tuple[TrackerName, ...] = ()
    """Trackers that record the run, in addition to its history.jsonl: one or more of tensorboard, wandb, trackio."""

    @classmethod
    def paper_settings(cls, protocol: Protocol) -> dict[str, Any]:
        """Returns the settings that the method's authors published, as far as they differ from the defaults here.

        Args:
            protocol: shots, data, classes and transfer of the run; published settings may depend on them.

        Returns:
            Values by field name.
        """
        return {}

    @property
    def optimization(self) -> Optimization | None:
        """The settings of the gradient descent; none: the method does not use it."""
        return getattr(self, "train", None)


@dataclass(frozen=True)
class AugmentedRun(RunConfig):
    """Settings of all runs with augmented training images."""

    augmentation: Literal["task", "protocol", "gentle", "none"] = "task"
    """Augmentation of training images. task: as the task allows; protocol: the field's crop of 8-100 % and flip; gentle: a crop
    of 50-100 % and flip; none."""


@dataclass(frozen=True)
class HeadedRun(AugmentedRun):
    """Settings of all runs whose classifier starts at the class texts."""

    head: HeadName = "auto"
    """Head of the classifier. text: the class texts alone; residual: the texts plus a matrix that is fitted to all shots
    after training, with settings chosen by cross-validation; auto: residual, unless the texts alone are clearly better there."""

    @classmethod
    def paper_settings(cls, protocol: Protocol) -> dict[str, Any]:
        """The text head and the field's crop: no author has another head."""
        return {"augmentation": "protocol", "head": "text"}


@dataclass(frozen=True)
class PromptRun(AugmentedRun):
    """Settings of all runs that learn prompts in a layout."""

    prompt_std: RateOrZero = 0.05
    """Standard deviation of the initial prompts, N(0, std^2), in both stages."""


@dataclass(frozen=True)
class SearchRun(PromptRun):
    """Search a prompt layout."""

    search: SearchConfig = field(default_factory=SearchConfig)

    @classmethod
    def paper_settings(cls, protocol: Protocol) -> dict[str, Any]:
        """Returns the settings of DPL's released code, as `RunConfig.paper_settings`."""
        return {**_PAPER, "search": _PAPER_SEARCH}


@dataclass(frozen=True)
class TrainRun(PromptRun, HeadedRun):
    """Train prompts in a given layout, then evaluate them."""

    layout: str = "4"
    """The layout: a layout.json, a run folder, or one length for all layers, such as 4."""
    train: TrainConfig = field(default_factory=TrainConfig)

    @classmethod
    def paper_settings(cls, protocol: Protocol) -> dict[str, Any]:
        """Returns the settings of DPL's released code, as `RunConfig.paper_settings`."""
        return {**super().paper_settings(protocol), **_PAPER, "train": _PAPER_TRAIN}


@dataclass(frozen=True)
class FitRun(PromptRun, HeadedRun):
    """The main job: search a layout, train prompts in it, evaluate, report."""

    layout: str | None = None
    """Train in this layout and do not search: a layout.json, a run folder, or one length for all layers, such as 4."""
    search: SearchConfig = field(default_factory=SearchConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    inherit: bool = True
    """Train the prompts that the search has learned further; no: train new ones."""

    @classmethod
    def paper_settings(cls, protocol: Protocol) -> dict[str, Any]:
        """Returns the settings of DPL's released code, as `RunConfig.paper_settings`."""
        own = {"search": _PAPER_SEARCH, "train": _PAPER_TRAIN, "inherit": False}
        return {**super().paper_settings(protocol), **_PAPER, **own}


# DPL's released settings (docs/method.md): SGD, one warm-up epoch at 1e-5, batch 4, no clipping, no early stop. CoOp and its
# successors were trained likewise, with other learning rates, batch sizes and epochs.
FIELD: dict[str, Any] = {"optimizer": "sgd", "drop_last": True, "warmup_epochs": 1, "warmup_lr": 1e-5, "clip_norm": 0.0}
_PAPER: dict[str, Any] = {"augmentation": "protocol", "prompt_std": 0.02}
_PAPER_SEARCH = SearchConfig(
    method="mixture",
    epochs=80,
    batch_size=4,
    lr=3.5e-3,
    options=tuple(range(7)),
    budget=0,
    validation_batch_size=16,
    alpha_lr=3.5e-3,
    patience=0,
    **FIELD,
)
_PAPER_TRAIN = TrainConfig(epochs=40, batch_size=4, lr=3.5e-3, prompt_scales=(1.0,), **FIELD)

RENAMED = {"train.gates": "train.prompt_scales"}
"""Settings by the names that they had in earlier runs, and their names now."""
PRESETS = get_args(PresetName)
Config = TypeVar("Config", bound=RunConfig)


def preset(kind: type[Config], name: str, data: str, shots: int = 16, classes: Classes = "all") -> Config:
    """Builds the settings of a preset.

    Args:
        kind: the class of the run's settings.
        name: one of `PRESETS`.
        data: the data learned on, as on the command line.
        shots: training images per class.
        classes: the classes learned on.

    Returns:
        The settings: the defaults, or those that the method's authors published.
    """
    changes = {} if name == "default" else kind.paper_settings(Protocol(shots, data, classes, transfers=name == "paper-transfer"))
    return kind(data=data, preset=cast(PresetName, name), shots=shots, classes=classes, **changes)


def from_dict(kind: type[Config], settings: dict[str, Any]) -> Config:
    """Builds settings from a dict, such as the JSON of a run, and checks them.

    Args:
        kind: the class of the run's settings.
        settings: values by field name, nested for dataclasses; those of earlier runs may have their former names.

    Returns:
        The settings.

    Raises:
        DplError: a setting is out of range; the message names the first one.
    """
    from pydantic import TypeAdapter, ValidationError  # late: `--help` does not need it

    from dpl.utils.validation import first_problem

    try:
        config = TypeAdapter(kind).validate_python(_with_new_names(settings))
    except ValidationError as error:
        place, message, given = first_problem(error)
        name = ".".join(str(part) for part in place if part != "design").replace("_", "-")
        raise DplError(f"--{name} {given}: {message[0].lower()}{message[1:]}") from None
    if isinstance(config, SearchRun | FitRun):
        check_options(config.search.options)
    if isinstance(config.optimization, Training) and len(config.optimization.aggregate or (0, 0)) != 2:
        raise DplError("--train.aggregate: takes two numbers, where the weights peak and their standard deviation, or none")
    return config


def _with_new_names(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings with the fields of `RENAMED` under their names of today."""
    for old, new in RENAMED.items():
        (part, was), (_, name) = old.split("."), new.split(".")
        if was in settings.get(part, {}):
            others = {key: value for key, value in settings[part].items() if key != was}
            settings = {**settings, part: {**others, name: settings[part][was]}}
    return settings


def checked(config: Config) -> Config:
    """Checks every setting, as `from_dict` does.

    Args:
        config: the settings.

    Returns:
        The same settings.

    Raises:
        DplError: a setting is out of range.
    """
    return from_dict(type(config), asdict(config))


def command(kind: str, config: RunConfig) -> str:
    """Builds the command line that repeats a run.

    Args:
        kind: the command: fit, search or train.
        config: the settings of the run.

    Returns:
        The command with all settings that differ from the preset, quoted for a shell.
    """
    base = preset(type(config), config.preset, config.data, config.shots, config.classes)
    usual = ("method", "preset", "shots", "classes")
    base = replace(base, **{name: RunConfig.__dataclass_fields__[name].default for name in usual})
    return shlex.join(["dpl", kind, config.data, *_differences(config, base)])


def _differences(config: Any, base: Any, prefix: str = "--") -> list[str]:
    words: list[str] = []
    for entry in fields(config):
        value, name = getattr(config, entry.name), prefix + entry.name.replace("_", "-")
        if is_dataclass(value):
            inner = prefix if entry.name == "design" else f"{name}."  # a design's settings are typed without its name
            words += _differences(value, getattr(base, entry.name), inner)
        elif value is False and getattr(base, entry.name):
            words.append(f"{prefix}no-{name.removeprefix(prefix)}")
        elif value != getattr(base, entry.name):
            given = () if value is True else value if isinstance(value, tuple) else (value,)
            words += [name, *map(str, given)]
    return words
