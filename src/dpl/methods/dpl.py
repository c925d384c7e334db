"""DPL: prompts as keys and values of the layers, in a layout that is searched or given."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from dpl.backbones.loading import Backbone
from dpl.classifier import Classifier, fixed_prompts
from dpl.config import FitRun, RunConfig, SearchRun, TrainRun
from dpl.methods.method import Inputs, Method, SearchStore
from dpl.optim.prompt_scale import best_prompt_scale
from dpl.optim.stage import Stage
from dpl.prompts.layout import PromptLayout
from dpl.prompts.modules import FixedPrompts
from dpl.search import search_layout
from dpl.utils.errors import DplError


@dataclass(frozen=True)
class DplConfig:
    """A layout, and the standard deviation of the initial prompts, N(0, prompt_std^2)."""

    layout: PromptLayout
    prompt_std: float = 0.05


class Dpl(Classifier[FixedPrompts], Method):
    """The frozen model with prompts in the layers of both branches, and a prompt scale.

    Each prompt counts `prompt_scale` times in place of once. The scale is chosen after training.
    """

    name = "dpl"
    Config = DplConfig
    prompt_scales: Sequence[float] = (1.0,)
    """Candidates for `prompt_scale`."""

    def __init__(
        self, backbone: Backbone, class_names: Sequence[str], templates: Sequence[str], design: DplConfig, seed: int = 0
    ) -> None:
        prompts = fixed_prompts(backbone, design.layout, design.prompt_std, seed)
        Classifier.__init__(self, backbone, class_names, templates[0], *prompts)
        self.templates, self.design = tuple(templates), design

    @classmethod
    def check(cls, config: RunConfig, inputs: Inputs) -> None:
        """Checks a given layout before anything is written.

        Args:
            config: the settings of the run.
            inputs: backbone, task and shots.

        Raises:
            DplError: the layout cannot be read or does not fit the backbone.
        """
        _given_layout(config, inputs.backbone)

    @classmethod
    def start(cls, config: Any, inputs: Inputs, stage: Callable[[str], Stage] = Stage, found: SearchStore | None = None) -> "Dpl":
        """Builds the model in its layout, which is searched unless it is given or an earlier part of this run has found it.

        Args:
            config: the settings of the run.
            inputs: backbone, task and shots.
            stage: makes the stage of the search: its progress and its checkpoints.
            found: keeps the layout and the prompts of the search; none: they are kept in memory only.

        Returns:
            The model before training. With `inherit` it has the prompts of the search.
        """
        layout, prompts = _given_layout(config, inputs.backbone), None
        if layout is None:
            layout, prompts = _kept(found) or _searched(config, inputs, stage("search"), found)
        names, templates = inputs.task.class_names, inputs.task.templates
        model = cls(inputs.backbone, names, templates, DplConfig(layout, config.prompt_std), config.seed)
        if isinstance(config, TrainRun | FitRun):
            model.prompt_scales = config.train.prompt_scales
        if isinstance(config, FitRun) and config.inherit and prompts:
            model.load_state_dict(prompts())
        return model

    @property
    def contexts(self) -> dict[str, list[Tensor]]:
        """The prompts of every layer, by branch: (prompts, width) each."""
        return {"image": [layer.prompts for layer in self.image.layers], "text": [layer.prompts for layer in self.text.layers]}

    def on_train_end(self, inputs: Inputs) -> None:
        """Chooses the prompt scale on the validation shots, if there are prompts.

        Args:
            inputs: the backbone, the task and the shots.
        """
        if self.layout.tokens:
            self.prompt_scale = best_prompt_scale(self, inputs.shots.val, self.prompt_scales, inputs.images)

    @property
    def scalars(self) -> Mapping[str, float]:
        """The prompt scale, 0-1."""
        return {"prompt_scale": self.prompt_scale}

    @scalars.setter
    def scalars(self, values: Mapping[str, float]) -> None:
        self.prompt_scale = values["prompt_scale" if "prompt_scale" in values else "gate"]  # gate: the name in earlier runs

    @property
    def scalar_choices(self) -> Sequence[Mapping[str, float]]:
        """The prompt scale, or 0 if that is among `prompt_scales`: a head on the frozen features needs no prompts."""
        own, choices = self.prompt_scale, (self.prompt_scale, *self.prompt_scales)
        return [{"prompt_scale": scale} for scale in dict.fromkeys((own, 0.0)) if scale in choices]


Found = tuple[PromptLayout, Callable[[], Mapping[str, Tensor]]]


def _searched(config: SearchRun | FitRun, inputs: Inputs, stage: Stage, store: SearchStore | None) -> Found:
    parts = (inputs.backbone, inputs.task, inputs.shots, config.search)
    result = search_layout(*parts, prompt_std=config.prompt_std, seed=config.seed, stage=stage, images=inputs.images)
    prompts = result.prompts
    if store:
        store.save(result.layout, prompts)
    return result.layout, lambda: prompts


def _kept(store: SearchStore | None) -> Found | None:
    """The result of an earlier part of this run, if any."""
    layout = store.layout() if store else None
    return (layout, store.prompts) if store and layout else None


def _given_layout(config: RunConfig, backbone: Backbone) -> PromptLayout | None:
    """The layout that the settings give, if any: a file, a run folder, or one length for all layers."""
    given = config.layout if isinstance(config, TrainRun | FitRun) else None
    if given is None:
        return None
    if given.isdecimal():
        return PromptLayout.uniform(int(given), backbone.image.depth, backbone.text.depth)
    layout = PromptLayout.load(Path(given))
    if (len(layout.image), len(layout.text)) != (backbone.image.depth, backbone.text.depth):
        raise DplError(
            f"{given}: a layout of {len(layout.image)} image and {len(layout.text)} text layers does not fit {backbone.name},"
            f" which has {backbone.image.depth} and {backbone.text.depth}"
        )
    return layout
