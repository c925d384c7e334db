"""The search stage: finds a prompt layout, and prompts for it, in one training run of a larger model.

A search method defines the learned parameters and the scores of each layer's options. The loop here is the same for all methods:
it steps on training and validation batches, computes the best layout within the budget after every epoch, and saves the state
after every step.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dpl.backbones.loading import Backbone
from dpl.config import SearchConfig
from dpl.data.fewshot import FewShot
from dpl.data.pixels.batches import TrainingBatches
from dpl.data.pixels.store import ImageStore
from dpl.data.task import Task
from dpl.optim.optimizer import learning_rate, set_learning_rate
from dpl.optim.stage import Stage
from dpl.prompts.layout import PromptLayout
from dpl.search.base import SearchMethod, Validation
from dpl.search.mixture import MixtureSearch
from dpl.search.pruning import PruningSearch
from dpl.utils.errors import DplError

MakeMethod = Callable[[Backbone, Task, SearchConfig, float, int], SearchMethod]  # the last two arguments are prompt_std and seed
METHODS: Mapping[str, MakeMethod] = {
    "mixture": MixtureSearch,
    "pruning": PruningSearch,
}

# Largest alpha difference of the last epochs at which a search counts as converged (probabilities, mean per entry).
CONVERGED_DIFFERENCE = 5e-3


@dataclass(frozen=True)
class SearchResult:
    """The layout found, one history record per epoch, and the method with the larger model and all its prompts."""

    layout: PromptLayout
    history: tuple[dict[str, Any], ...]
    method: SearchMethod

    @property
    def prompts(self) -> dict[str, Tensor]:
        """The search's prompts for the layout, as the state dict of `Classifier.fixed`; `train_prompts` can start from them."""
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
    images: ImageStore | None = None,
) -> SearchResult:
    """Finds a prompt layout for `task`: trains prompts on the training shots and scores the options on the validation shots.

    Args:
        backbone: the frozen backbone.
        task: the class names, templates and augmentation.
        shots: the few-shot images; `shots.val` must not be empty.
        config: the settings of the search; None for the defaults.
        prompt_std: standard deviation of the initial prompts.
        seed: seed of all random draws.
        stage: saves the state, resumes from it and reports progress; None keeps everything in memory.
        make: creates the search method; None for the one that `config.method` names.
        images: decoded images of the run; None: the search decodes the shots itself.

    Returns:
        The layout, its history, and the trained method.

    Raises:
        DplError: the options are bad, there are no validation shots, or a loss or gradient is not finite.

    Example:
        >>> import dpl
        >>> backbone, task = dpl.load_backbone("tiny"), dpl.load_task("digits")
        >>> settings = dpl.SearchConfig(epochs=1, options=(0, 1, 2), budget=1)
        >>> found = dpl.search_layout(backbone, task, dpl.sample(task, shots=1, seed=1), settings)
        >>> found.layout.tokens
        12
    """
    config, stage, images = config or SearchConfig(), stage or Stage("search"), images or ImageStore()
    if not shots.val:
        raise DplError(f"{task.name}: no validation images; the search needs them to score layouts")
    method = (make or METHODS[config.method])(backbone, task, config, prompt_std, seed)
    training = TrainingBatches(shots.train, backbone, task.augmentation, config, seed, stage.name, images)
    labels = torch.tensor([item.label for item in shots.val], device=backbone.device)
    pixels = images.evaluation(backbone.preprocessing).stack(shots.val).to(backbone.device)
    validation = Validation(pixels, labels, config.validation_batch_size, seed)
    budget = config.tokens(backbone.image.depth + backbone.text.depth)

    def best_layout() -> PromptLayout:
        return PromptLayout.from_scores(*method.scores(), config.options, budget)

    stage.begin({"model": method.model}, method.optimizers, config.epochs, len(training))
    with method.model.attached():
        while stage.epoch < config.epochs and not has_converged(stage.history, config.patience):
            rate = learning_rate(config, stage.epoch)
            set_learning_rate(method.optimizers["prompts"], rate)
            for step, *batch in training.epoch(stage.epoch, first=stage.step):
                losses = method.step((batch[0], batch[1]), validation, stage.epoch, step, stage.where)
                stage.finish_step(**losses)
            record = method.finish_epoch(validation, stage.epoch, stage.history)
            layout = best_layout()
            stage.finish_epoch(lr=rate, **record, layout=layout.to_dict())
    return SearchResult(best_layout(), tuple(stage.history), method)


def has_converged(history: Sequence[dict[str, Any]], patience: int) -> bool:
    """Returns whether the layout and the alphas hardly changed in the last epochs.

    Records without alpha differences count as unchanged.

    Args:
        history: the records of the epochs so far.
        patience: number of epochs; 0 always gives False.
    """
    last = history[-patience:]
    if patience == 0 or len(last) < patience:
        return False
    calm = all(max(record.get("alpha_difference", {"none": 0.0}).values()) <= CONVERGED_DIFFERENCE for record in last)
    return calm and all(record["layout"] == last[0]["layout"] for record in last)
