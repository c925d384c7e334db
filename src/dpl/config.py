"""What a run is: frozen dataclasses whose field docstrings are the command line's help."""

import shlex
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast, get_args

import tyro
from annotated_types import Ge, Gt, Le, MinLen

from dpl.errors import DplError
from dpl.prompts.layout import check_options

Count = Annotated[int, Ge(1)]
CountOrZero = Annotated[int, Ge(0)]
Rate = Annotated[float, Gt(0)]
RateOrZero = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
PresetName = Literal["default", "paper", "paper-transfer"]
RegularizerName = Literal["none", "distillation", "kgcoop", "promptsrc"]
TrackerName = Literal["tensorboard", "wandb", "trackio"]


@dataclass(frozen=True)
class Optimization:
    """How parameters are learned by gradient descent; the same in search and training."""

    epochs: Count
    """Passes over the training shots."""
    batch_size: Count = 16
    """Training images per step."""
    drop_last: bool = False
    """Leave out an epoch's last batch where it is not full, unless it is the only one."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """AdamW, or SGD with momentum 0.9."""
    lr: Rate = 1e-2
    """Learning rate at the top of the cosine."""
    weight_decay: RateOrZero = 5e-4
    """Weight decay of what is learned."""
    adam_eps: Rate = 1e-8
    """AdamW's epsilon."""
    schedule: Literal["epoch", "step"] = "epoch"
    """The cosine falls after every epoch, or after every step."""
    warmup_epochs: CountOrZero = 3
    """Epochs before the cosine starts."""
    warmup_lr: Rate | None = None
    """Constant learning rate of the warm-up epochs; none: rise linearly to the full rate."""
    final_lr: RateOrZero = 0.0
    """Learning rate that the cosine falls to."""
    clip_norm: RateOrZero = 1.0
    """Largest norm of the gradient of all that is learned; 0: do not clip."""


@dataclass(frozen=True)
class Penalties:
    """Weights of the terms that a regularizer adds to cross entropy (dpl.regularization), and the Gaussian aggregation."""

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
    """How a method is trained: optimisation, and what keeps it near the frozen model."""

    epochs: Count = 27
    """Passes over the training shots; by default as many as DPL's search and training have together."""
    steps: Count | None = None
    """Steps in all, in place of the epochs: as many whole epochs as have them."""
    regularizer: Annotated[RegularizerName, tyro.conf.arg(aliases=["--regularizer"])] = "none"
    """What is added to cross entropy, with its authors' weights; the settings below change single ones."""
    distill: Annotated[RateOrZero | None, tyro.conf.arg(aliases=["--distill"])] = None
    """Weight of KL(zero-shot teacher with the template ensemble || student); none: the regularizer's."""
    text_l1: RateOrZero | None = None
    """Weight of PromptSRC's mean distance |text - teacher's text|, embeddings of unit length; none: the regularizer's."""
    image_l1: RateOrZero | None = None
    """Weight of PromptSRC's mean distance |image - teacher's image|; none: the regularizer's."""
    text_cosine: RateOrZero | None = None
    """Weight of KgCoOp's 1 - cos(text, teacher's text with the first template); none: the regularizer's."""
    aggregate: tuple[Share, ...] | None = None
    """PromptSRC's Gaussian aggregation over the epochs: where its weights peak (0-1 of training) and their standard deviation;
    nothing given: no aggregation."""

    @property
    def penalties(self) -> Penalties:
        """What the regularizer adds, with the settings that are given here instead of its own."""
        given = {entry.name: getattr(self, entry.name) for entry in fields(Penalties)}
        return replace(REGULARIZERS[self.regularizer], **{name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True)
class SearchConfig(Optimization):
    """The search stage: one training of a model larger than any layout."""

    method: Literal["pruning", "mixture"] = "pruning"
    """Train the longest layout and keep its most salient prompts, or the paper's mixture of all options weighed by alphas."""
    epochs: Count = 7
    """Passes over the training shots, at most."""
    options: tuple[int, ...] = tuple(range(13))
    """Context lengths a layer may choose from, ascending from 0."""
    budget: Annotated[RateOrZero, tyro.conf.arg(aliases=["--budget"])] = 6.0
    """Prompt tokens a layer has on average, at most, over both branches; 0: every layer takes what it likes best."""
    validation_batch_size: Count = 16
    """Validation images per step of the alphas, drawn anew each step; per batch for the saliency."""
    alpha_lr: Rate = 3e-2
    """Learning rate of the alphas (Adam, betas 0.5 and 0.999), for the mixture."""
    patience: CountOrZero = 5
    """Stop when the layout has settled: unchanged, with a small alpha difference, for so many epochs; 0: never."""

    def tokens(self, layers: int) -> int | None:
        """How many prompt tokens a model of so many layers may have in all; none: no limit."""
        return int(self.budget * layers) if self.budget else None


@dataclass(frozen=True)
class TrainConfig(Training):
    """The training stage: prompts in the found layout."""

    epochs: Count = 20
    """Passes over the training shots."""
    gates: Annotated[tuple[Share, ...], MinLen(1)] = (1.0, 0.5, 0.25, 0.1, 0.03, 0.0)
    """How often each prompt counts, from 1 (as trained) to 0 (zero-shot): chosen on the validation shots at the end."""


@dataclass(frozen=True)
class Occasion:
    """What the settings that a method's authors published may go by."""

    shots: int = 16
    data: str = ""
    """What is learned on, by the name that a person gives."""
    classes: Literal["all", "base", "new"] = "all"
    """Those learned: of "base" the new ones are evaluated too."""
    transfers: bool = False
    """Whether other data than those learned on are evaluated."""


@dataclass(frozen=True)
class RunConfig:
    """What every run has."""

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """A built-in task or a data set of the catalogue with --root (dpl datasets lists both); a folder: class name/*.jpg, or
    train/ [val/] test/ of such; a table of paths and labels: .csv, .jsonl or .parquet; a data set of Hugging Face: hf:NAME, or
    the folder of one."""
    method: str = "dpl"
    """How to adapt the backbone (dpl methods lists the ways); each has settings of its own, see --method NAME --help."""
    preset: PresetName = "default"
    """Where the other settings start from: ours for few shots on the embedded backbone, or those that its authors published,
    be it for the data learned on or for the transfer to other data."""
    root: Path | None = None
    """Where the data sets of the catalogue lie, a folder for each (dpl datasets where NAME says how)."""
    names: Path | None = None
    """A file that gives classes other names, a line each: n01440764: tench."""
    classes: Literal["all", "base", "new"] = "all"
    """All classes, the first half of them in the order of their labels, or the second half (base-to-new)."""
    backbone: str = "tiny"
    """tiny (embedded), a checkpoint folder, or a Hugging Face id such as openai/clip-vit-base-patch16."""
    shots: Count = 16
    """Training images per class; validation gets min(shots, 4) more."""
    shots_from: Path | None = None
    """Take the images that another run has drawn: its run folder, or a JSON file with the lists "train" and "val"."""
    seed: int = 1
    """Decides the shots and every random draw."""
    out: Path | None = None
    """The run folder; by default runs/TASK[-METHOD]-SHOTSshot-seedSEED."""
    overwrite: bool = False
    """Replace the run that is in the run folder."""
    template: tuple[str, ...] = ()
    """Texts with {} for the class name, or files with one per line: one replaces the task's first, several are all. The first is
    trained with, all make the ensemble."""
    strict: bool = False
    """Refuse unreadable images instead of leaving them out with a note."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """What the backbone's layers compute in (what is learned, and logits: always fp32); auto: bf16 where it is faster."""
    track: tuple[TrackerName, ...] = ()
    """Trackers that follow the run, beside its history.jsonl: tensorboard, wandb, trackio; several at once if you like."""

    @classmethod
    def published(cls, occasion: Occasion) -> dict[str, Any]:
        """The settings that the method's authors published for this occasion, where they are not the defaults here."""
        return {}

    @property
    def optimization(self) -> Optimization | None:
        """How the method learns by gradient descent; none: it does not."""
        return getattr(self, "train", None)


@dataclass(frozen=True)
class AugmentedRun(RunConfig):
    """What every run has that looks at varied training images."""

    augmentation: Literal["task", "protocol", "gentle", "none"] = "task"
    """Training images: as the task allows; the field's crop of 8-100 % and flip; a crop of 50-100 % and flip; or untouched."""


@dataclass(frozen=True)
class PromptRun(AugmentedRun):
    """What every run has that learns prompts in a layout."""

    prompt_std: RateOrZero = 0.05
    """Prompts start at N(0, std^2), the same in both stages."""


@dataclass(frozen=True)
class SearchRun(PromptRun):
    """Search a prompt layout."""

    search: SearchConfig = field(default_factory=SearchConfig)

    @classmethod
    def published(cls, occasion: Occasion) -> dict[str, Any]:
        """As released."""
        return {**_PAPER, "search": _PAPER_SEARCH}


@dataclass(frozen=True)
class TrainRun(PromptRun):
    """Train prompts in a given layout, then evaluate them."""

    layout: str = "4"
    """A layout.json, a run folder, or one length for all layers, such as 4."""
    train: TrainConfig = field(default_factory=TrainConfig)

    @classmethod
    def published(cls, occasion: Occasion) -> dict[str, Any]:
        """As released."""
        return {**_PAPER, "train": _PAPER_TRAIN}


@dataclass(frozen=True)
class FitRun(PromptRun):
    """The main job: search a layout, train prompts in it, evaluate, report."""

    layout: str | None = None
    """Train in this layout instead of a searched one: a layout.json, a run folder, or one length for all layers, such as 4."""
    search: SearchConfig = field(default_factory=SearchConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    inherit: bool = True
    """Training goes on with the prompts that the search has learned; no: it starts from fresh ones."""

    @classmethod
    def published(cls, occasion: Occasion) -> dict[str, Any]:
        """As released."""
        return {**_PAPER, "search": _PAPER_SEARCH, "train": _PAPER_TRAIN, "inherit": False}


# The released settings (method.md): SGD, one warm-up epoch at 1e-5, batch 4, no clipping, no early stop. CoOp and those after
# it have trained so as well, with other rates, batches and epochs.
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
_PAPER_TRAIN = TrainConfig(epochs=40, batch_size=4, lr=3.5e-3, gates=(1.0,), **FIELD)

PRESETS = get_args(PresetName)
Config = TypeVar("Config", bound=RunConfig)


def preset(kind: type[Config], name: str, data: str, shots: int = 16, classes: Literal["all", "base", "new"] = "all") -> Config:
    """The settings of the preset `name` for a run of this kind."""
    changes = {} if name == "default" else kind.published(Occasion(shots, data, classes, transfers=name == "paper-transfer"))
    return kind(data=data, preset=cast(PresetName, name), shots=shots, classes=classes, **changes)


def from_dict(kind: type[Config], settings: dict[str, Any]) -> Config:
    """Settings read back from JSON, or checked: `DplError` names the first that is out of range.

    Files of templates are replaced by what is in them, so that a run keeps its templates.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        config = TypeAdapter(kind).validate_python(settings)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"] if part != "design").replace("_", "-")
        raise DplError(f"--{name} {first['input']}: {first['msg'][0].lower()}{first['msg'][1:]}") from None
    if isinstance(config, SearchRun | FitRun):
        check_options(config.search.options)
    if isinstance(config.optimization, Training) and len(config.optimization.aggregate or (0, 0)) != 2:
        raise DplError("--train.aggregate: takes two numbers, where the weights peak and their standard deviation, or none")
    if config.template:
        from dpl.data.templates import given_templates

        config = replace(config, template=given_templates(config.template))
    return config


def checked(config: Config) -> Config:
    """`config`, or `DplError` where a setting is out of range."""
    return from_dict(type(config), asdict(config))


def command(kind: str, config: RunConfig) -> str:
    """The command line that repeats a run: what differs from its preset, ready for a shell."""
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
