"""DPL: prompts that are keys and values of the layers, in a layout that a search finds, or in a given one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from dpl.backbones.loading import Backbone
from dpl.classifier import Classifier, fixed_prompts
from dpl.config import FitRun, RunConfig, SearchRun, TrainConfig, TrainRun
from dpl.data.fewshot import FewShot
from dpl.data.task import Task
from dpl.errors import DplError
from dpl.gate import best_gate
from dpl.methods.method import Inputs, Method
from dpl.prompts.layout import PromptLayout
from dpl.prompts.modules import FixedPrompts
from dpl.runs import found_prompts, is_run, save_found_prompts, save_layout
from dpl.search import search_layout
from dpl.stage import OnStep, Stage
from dpl.train import train


@dataclass(frozen=True)
class DplDesign:
    """Prompts N(0, prompt_std^2) in a layout."""

    layout: PromptLayout
    prompt_std: float = 0.05


class Dpl(Classifier[FixedPrompts], Method):
    """The frozen model with prompts in the layers of both branches; a gate, chosen at the end, says how often they count."""

    name = "dpl"
    Design = DplDesign
    gates: Sequence[float] = (1.0,)
    """What the gate is chosen from."""

    def __init__(
        self, backbone: Backbone, class_names: Sequence[str], templates: Sequence[str], design: DplDesign, seed: int = 0
    ) -> None:
        prompts = fixed_prompts(backbone, design.layout, design.prompt_std, seed)
        Classifier.__init__(self, backbone, class_names, templates[0], *prompts)
        self.templates, self.design = tuple(templates), design

    @classmethod
    def check(cls, config: RunConfig, inputs: Inputs) -> None:
        """Looks at the layout if one is given."""
        _given_layout(config, inputs.backbone)

    @classmethod
    def start(cls, config: Any, inputs: Inputs, run: Path | None = None, on_step: OnStep | None = None) -> "Dpl":
        """Searches the layout, unless it is given or was found before in this run."""
        layout = _given_layout(config, inputs.backbone)
        searches = layout is None
        if searches:
            layout = _kept_layout(run) or _searched(config, inputs, run, on_step)
        names, templates = inputs.task.class_names, inputs.task.templates
        model = cls(inputs.backbone, names, templates, DplDesign(layout, config.prompt_std), config.seed)
        if isinstance(config, TrainRun | FitRun):
            model.gates = config.train.gates
        if isinstance(config, FitRun) and config.inherit and searches and run:
            model.load_state_dict(found_prompts(run))
        return model

    @property
    def contexts(self) -> dict[str, list[Tensor]]:
        """The prompts of the layers."""
        return {"image": [layer.prompts for layer in self.image.layers], "text": [layer.prompts for layer in self.text.layers]}

    def conclude(self, shots: FewShot) -> None:
        """Chooses the gate on the validation shots."""
        if self.layout.tokens:
            self.gate = best_gate(self, shots.val, self.gates)

    @property
    def scalars(self) -> Mapping[str, float]:
        """The gate, 0-1."""
        return {"gate": self.gate}

    @scalars.setter
    def scalars(self, values: Mapping[str, float]) -> None:
        self.gate = values["gate"]


def train_prompts(
    backbone: Backbone,
    task: Task,
    shots: FewShot,
    layout: PromptLayout,
    config: TrainConfig | None = None,
    *,
    start: Mapping[str, Tensor] | None = None,
    prompt_std: float = 0.05,
    seed: int = 1,
    stage: Stage | None = None,
) -> Dpl:
    """Trains prompts in `layout` on the few `shots`; the classifier of the last step.

    They begin at `start`, a state dict such as `SearchResult.prompts`, or at N(0, prompt_std^2). At the end the validation
    shots choose the gate out of `config.gates`.

    The loss is cross entropy, and what `config.regularizer` adds. A layout of zeros has nothing to train and is the zero-shot
    model. Raises `DplError` where a loss is not finite.
    """
    config = config or TrainConfig()
    model = Dpl(backbone, task.class_names, task.templates, DplDesign(layout, prompt_std), seed)
    model.gates = config.gates
    if start is not None:
        model.load_state_dict(start)
    train(model, Inputs(backbone, task, shots), config, seed, stage)
    return model


def _searched(config: SearchRun | FitRun, inputs: Inputs, run: Path | None, on_step: OnStep | None) -> PromptLayout:
    stage, parts = Stage("search", run, on_step), (inputs.backbone, inputs.task, inputs.shots)
    found = search_layout(*parts, config.search, prompt_std=config.prompt_std, seed=config.seed, stage=stage)
    if run:
        save_found_prompts(run, found.prompts)  # before the layout: where that is, the search is over
        save_layout(run, found.layout)
    return found.layout


def _kept_layout(run: Path | None) -> PromptLayout | None:
    """The layout that the search has found in an earlier part of this run."""
    return PromptLayout.load(run / "layout.json") if run and (run / "layout.json").exists() else None


def _given_layout(config: RunConfig, backbone: Backbone) -> PromptLayout | None:
    """The layout that the run names: a file, a run folder, or one length for all layers."""
    given = config.layout if isinstance(config, TrainRun | FitRun) else None
    if given is None:
        return None
    if given.isdecimal():
        return PromptLayout.uniform(int(given), backbone.image.depth, backbone.text.depth)
    path = Path(given)
    layout = PromptLayout.load(path / "layout.json" if is_run(path) else path)
    if (len(layout.image), len(layout.text)) != (backbone.image.depth, backbone.text.depth):
        raise DplError(
            f"{given}: a layout of {len(layout.image)} image and {len(layout.text)} text layers does not fit {backbone.name},"
            f" which has {backbone.image.depth} and {backbone.text.depth}"
        )
    return layout
