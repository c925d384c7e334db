"""The search stage: finds a prompt layout, and prompts in it, with one training run of a larger model.

A method says what is learned and what the scores of each layer's options are; the loop here is the same for all: steps on
training and validation batches, the best layout within the budget after every epoch, state saved after every step.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dpl.backbones.loading import Backbone
from dpl.config import SearchConfig
from dpl.data.batches import TrainingBatches
from dpl.data.fewshot import FewShot
from dpl.data.task import Task
from dpl.data.transforms import decode
from dpl.errors import DplError
from dpl.optimization import learning_rate, set_learning_rate
from dpl.prompts.layout import PromptLayout
from dpl.search.method import SearchMethod, Validation
from dpl.search.mixture import MixtureSearch
from dpl.search.pruning import PruningSearch
from dpl.stage import Stage

MakeMethod = Callable[[Backbone, Task, SearchConfig, float, int], SearchMethod]  # the last two: prompt_std, seed
METHODS: Mapping[str, MakeMethod] = {
    "mixture": MixtureSearch,
    "pruning": PruningSearch,
}

# The layout has settled when no alpha difference of the last epochs was above this (probabilities, mean per entry).
SETTLED_DIFFERENCE = 5e-3


@dataclass(frozen=True)
class SearchResult:
    """The layout found, one history record per epoch, and the larger model with all its prompts."""

    layout: PromptLayout
    history: tuple[dict[str, Any], ...]
    method: SearchMethod

    @property
    def prompts(self) -> dict[str, Tensor]:
        """The search's own prompts in the layout, as the state dict of `Classifier.fixed`; `train_prompts` can start there."""
        return self.method.prompts_in(self.layout)


def search_layout(
    backbone: Backbone,
    task: Task,
    shots: FewShot,
    config: SearchConfig | None = None,
    *,
    prompt_std: float = 0.05,
    seed: int = 1,
    stage: Stage | None = None,
    make: MakeMethod | None = None,
) -> SearchResult:
    """Finds a prompt layout for `task` from its few `shots`: prompts learn on shots.train, the layout is judged on shots.val.

    `stage` saves the state, resumes from it and shows progress; `make` makes another search method than `config.method`
    names. Raises `DplError` for bad options, without validation shots, or where a loss is not finite.
    """
    config, stage = config or SearchConfig(), stage or Stage("search")
    if not shots.val:
        raise DplError(f"{task.name}: no validation images, by which the search judges layouts")
    method = (make or METHODS[config.method])(backbone, task, config, prompt_std, seed)
    training = TrainingBatches(shots.train, backbone, task.augmentation, config, seed, stage.name)
    labels = torch.tensor([item.label for item in shots.val], device=backbone.device)
    validation = Validation(
        decode(shots.val, backbone.image_size).to(backbone.device), labels, config.validation_batch_size, seed
    )
    budget = config.tokens(backbone.image.depth + backbone.text.depth)

    def best_layout() -> PromptLayout:
        return PromptLayout.from_scores(*method.scores(), config.options, budget)

    stage.begin({"model": method.model}, method.optimizers, config.epochs, len(training))
    with method.model.attached():
        while stage.epoch < config.epochs and not settled(stage.history, config.patience):
            rate = learning_rate(config, stage.epoch)
            set_learning_rate(method.optimizers["prompts"], rate)
            for step, *batch in training.epoch(stage.epoch, first=stage.step):
                losses = method.step((batch[0], batch[1]), validation, stage.epoch, step, stage.where)
                stage.finish_step(**losses)
            record = method.finish_epoch(validation, stage.epoch, stage.history)
            layout = best_layout()
            stage.finish_epoch(lr=rate, **record, layout={"image": layout.image, "text": layout.text})
    return SearchResult(best_layout(), tuple(stage.history), method)


def settled(history: Sequence[dict[str, Any]], patience: int) -> bool:
    """Whether the layout was the same, and every alpha difference small, in the last `patience` epochs (0: never)."""
    last = history[-patience:]
    if patience == 0 or len(last) < patience:
        return False
    calm = all(max(record.get("alpha_difference", {"none": 0.0}).values()) <= SETTLED_DIFFERENCE for record in last)
    return calm and all(record["layout"] == last[0]["layout"] for record in last)
