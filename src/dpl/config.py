"""What a run is: frozen dataclasses whose field docstrings are the command line's help."""

import shlex
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

import tyro
from annotated_types import Ge, Gt, Le, MinLen

from dpl.errors import DplError
from dpl.prompts.layout import check_options

Count = Annotated[int, Ge(1)]
CountOrZero = Annotated[int, Ge(0)]
Rate = Annotated[float, Gt(0)]
RateOrZero = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
PresetName = Literal["default", "paper"]


@dataclass(frozen=True)
class PromptOptimization:
    """How prompts are optimised; the same in both stages."""

    epochs: Count
    """Passes over the training shots."""
    batch_size: Count = 16
    """Training images per step."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """AdamW, or SGD with momentum 0.9."""
    lr: Rate = 1e-2
    """Learning rate at the top of the cosine."""
    weight_decay: RateOrZero = 5e-4
    """Weight decay of the prompts."""
    warmup_epochs: CountOrZero = 3
    """Epochs before the cosine starts."""
    warmup_lr: Rate | None = None
    """Constant learning rate of the warm-up epochs; none: rise linearly to the full rate."""
    clip_norm: RateOrZero = 1.0
    """Largest norm of the gradient of all prompts; 0: do not clip."""


@dataclass(frozen=True)
class SearchConfig(PromptOptimization):
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
class TrainConfig(PromptOptimization):
    """The training stage: prompts in the found layout."""

    epochs: Count = 20
    """Passes over the training shots."""
    distill: Annotated[RateOrZero, tyro.conf.arg(aliases=["--distill"])] = 0.0
    """Weight of KL(zero-shot teacher with the template ensemble || student) in the loss; 0: no teacher."""
    gates: Annotated[tuple[Share, ...], MinLen(1)] = (1.0, 0.5, 0.25, 0.1, 0.03, 0.0)
    """How often each prompt counts, from 1 (as trained) to 0 (zero-shot): chosen on the validation shots at the end."""


@dataclass(frozen=True)
class RunConfig:
    """What every run has."""

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """A built-in task (dpl datasets lists them) or a folder: class name/*.jpg, or train/ [val/] test/ of such."""
    preset: PresetName = "default"
    """Where the other settings start from: tuned for few shots on the embedded backbone, or the authors' release."""
    backbone: str = "tiny"
    """tiny (embedded), a checkpoint folder, or a Hugging Face id such as openai/clip-vit-base-patch16."""
    shots: Count = 16
    """Training images per class; validation gets min(shots, 4) more."""
    seed: int = 1
    """Decides the shots and every random draw."""
    out: Path | None = None
    """The run folder; by default runs/TASK-SHOTSshot-seedSEED."""
    overwrite: bool = False
    """Replace the run that is in the run folder."""
    template: str | None = None
    """Text with {} for the class name; by default the task's own."""
    augmentation: Literal["task", "protocol", "none"] = "task"
    """Training images: as the task allows, the field's crop of 8-100 % and flip, or untouched."""
    prompt_std: RateOrZero = 0.05
    """Prompts start at N(0, std^2), the same in both stages."""
    strict: bool = False
    """Refuse unreadable images instead of leaving them out with a note."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """What the backbone's layers compute in (prompts, alphas, logits: always fp32); auto: bf16 where it is faster."""


@dataclass(frozen=True)
class SearchRun(RunConfig):
    """Search a prompt layout."""

    search: SearchConfig = field(default_factory=SearchConfig)


@dataclass(frozen=True)
class TrainRun(RunConfig):
    """Train prompts in a given layout, then evaluate them."""

    layout: str = "4"
    """A layout.json, a run folder, or one length for all layers, such as 4."""
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass(frozen=True)
class FitRun(RunConfig):
    """The main job: search a layout, train prompts in it, evaluate, report."""

    search: SearchConfig = field(default_factory=SearchConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    inherit: bool = True
    """Training goes on with the prompts that the search has learned; no: it starts from fresh ones."""


# The released settings (method.md): SGD, one warm-up epoch at 1e-5, batch 4, no clipping, no early stop.
_PAPER = {"batch_size": 4, "optimizer": "sgd", "lr": 3.5e-3, "warmup_epochs": 1, "warmup_lr": 1e-5, "clip_norm": 0.0}
_PAPER_SEARCH = SearchConfig(
    method="mixture",
    epochs=80,
    options=tuple(range(7)),
    budget=0,
    validation_batch_size=16,
    alpha_lr=3.5e-3,
    patience=0,
    **_PAPER,
)
_PAPER_TRAIN = TrainConfig(epochs=40, gates=(1.0,), **_PAPER)

# What a preset changes, by field; `dpl fit --preset NAME` starts from these and the other options still apply.
PRESETS: dict[str, dict] = {
    "default": {},
    "paper": {
        "augmentation": "protocol",
        "prompt_std": 0.02,
        "search": _PAPER_SEARCH,
        "train": _PAPER_TRAIN,
        "inherit": False,
    },
}


Config = TypeVar("Config", bound=RunConfig)


def preset(kind: type[Config], name: str, data: str) -> Config:
    """The settings of the preset `name` for a run of this kind; the parts that it does not have are left out."""
    fields = kind.__dataclass_fields__
    return kind(data=data, preset=cast(PresetName, name), **{key: value for key, value in PRESETS[name].items() if key in fields})


def from_dict(kind: type[Config], settings: dict[str, Any]) -> Config:
    """Settings read back from JSON, or checked: `DplError` names the first that is out of range."""
    from pydantic import TypeAdapter, ValidationError

    try:
        config = TypeAdapter(kind).validate_python(settings)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]).replace("_", "-")
        raise DplError(f"--{name} {first['input']}: {first['msg'][0].lower()}{first['msg'][1:]}") from None
    if isinstance(config, SearchRun | FitRun):
        check_options(config.search.options)
    if config.template is not None and config.template.count("{}") != 1:
        raise DplError(f"--template {config.template!r}: must have one {{}} for the class name")
    return config


def checked(config: Config) -> Config:
    """`config`, or `DplError` where a setting is out of range."""
    return from_dict(type(config), asdict(config))


def command(kind: str, config: RunConfig) -> str:
    """The command line that repeats a run: what differs from its preset, ready for a shell."""
    words = ["dpl", kind, config.data, *_differences(config, preset(type(config), config.preset, config.data))]
    return shlex.join(words)


def _differences(config: Any, base: Any, prefix: str = "--") -> list[str]:
    words: list[str] = []
    for entry in fields(config):
        value, name = getattr(config, entry.name), prefix + entry.name.replace("_", "-")
        if is_dataclass(value):
            words += _differences(value, getattr(base, entry.name), f"{name}.")
        elif entry.name == "preset" and value != "default":
            words += [name, value]
        elif value is False and getattr(base, entry.name):
            words.append(f"--no-{name.removeprefix('--')}")
        elif value != getattr(base, entry.name):
            given = () if value is True else value if isinstance(value, tuple) else (value,)
            words += [name, *map(str, given)]
    return words
