"""The search stage: alphas and prompts learned in turn, the layout read off the alphas (method.md, "Search stage")."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam, Optimizer

from dpl.backbones.loading import Backbone
from dpl.classifier import Classifier
from dpl.config import SearchConfig
from dpl.convergence import alpha_difference, dominants
from dpl.data.batches import TrainingBatches
from dpl.data.fewshot import FewShot
from dpl.data.task import Task
from dpl.data.transforms import decode
from dpl.optimization import descend, frozen, learning_rate, parameters_of, prompt_optimizer, set_learning_rate
from dpl.prompts.layout import PromptLayout
from dpl.prompts.modules import PromptMixture
from dpl.rng import generator
from dpl.stage import Stage

Batch = tuple[Tensor, Tensor]

# The layout has settled when no alpha difference of the last epochs was above this (probabilities, mean per entry).
SETTLED_DIFFERENCE = 5e-3


@dataclass(frozen=True)
class SearchResult:
    """The layout found, and one history record per epoch (the alphas, how they moved, the losses)."""

    layout: PromptLayout
    history: tuple[dict[str, Any], ...]


def search_layout(
    backbone: Backbone,
    task: Task,
    shots: FewShot,
    config: SearchConfig | None = None,
    *,
    prompt_std: float = 0.05,
    seed: int = 1,
    stage: Stage | None = None,
) -> SearchResult:
    """Finds a prompt layout for `task` from its few `shots`, by first-order bilevel optimisation.

    Each step updates the alphas by Adam on a fresh validation batch, then the prompts on a training batch. `stage` saves
    the state, resumes from it and shows progress. Raises `DplError` for bad options or where a loss is not finite.
    """
    config, stage = config or SearchConfig(), stage or Stage("search")
    model = Classifier.mixture(backbone, task.class_names, task.templates[0], config.options, prompt_std, seed)
    layers = [*model.image.layers, *model.text.layers]
    alpha_optimizer = Adam([layer.alphas for layer in layers], lr=config.alpha_lr, betas=(0.5, 0.999))
    optimizer = prompt_optimizer(config, [layer.prompts for layer in layers])
    training = TrainingBatches(shots.train, backbone, task.augmentation, config.batch_size, seed, stage.name)
    validation = decode(shots.val, backbone.image_size).to(backbone.device)
    validation_labels = torch.tensor([item.label for item in shots.val], device=backbone.device)
    alphas = _alphas(model)

    stage.begin(model, {"alphas": alpha_optimizer, "prompts": optimizer}, config.epochs, len(training))
    if stage.history:
        alphas = stage.history[-1]["alphas"]
    while stage.epoch < config.epochs and not settled(stage.history, config.patience):
        rate = learning_rate(config, stage.epoch)
        set_learning_rate(optimizer, rate)
        for step, pixels, labels in training.epoch(stage.epoch, first=stage.step):
            draw = torch.randperm(len(validation), generator=generator(seed, "validation", stage.epoch, step))
            draw = draw[: config.validation_batch_size].to(backbone.device)
            batches = (validation[draw], validation_labels[draw]), (pixels, labels)
            validation_loss, train_loss = search_step(
                model, alpha_optimizer, optimizer, *batches, config.clip_norm, where=stage.where
            )
            stage.finish_step(train_loss=train_loss, validation_loss=validation_loss)
        previous, alphas = alphas, _alphas(model)
        layout = PromptLayout.from_alphas(alphas["image"], alphas["text"], config.options)
        stage.finish_epoch(
            lr=rate,
            alphas=alphas,
            alpha_difference={branch: alpha_difference(previous[branch], alphas[branch]) for branch in alphas},
            dominants={branch: dominants(alphas[branch]) for branch in alphas},
            layout={"image": layout.image, "text": layout.text},
        )
    layout = PromptLayout.from_alphas(alphas["image"], alphas["text"], config.options)
    return SearchResult(layout, tuple(stage.history))


def search_step(
    model: Callable[[Tensor], Tensor],
    alpha_optimizer: Optimizer,
    prompt_optimizer: Optimizer,
    validation: Batch,
    training: Batch,
    clip_norm: float,
    where: str = "",
) -> tuple[float, float]:
    """The alphas on the `validation` batch, then the prompts on the `training` batch; both losses.

    A batch is (pixels, labels). While the one learn, nothing is computed for gradients of the others.
    """
    with frozen(parameters_of(prompt_optimizer)):
        loss = F.cross_entropy(model(validation[0]), validation[1])
    validation_loss = descend(loss, alpha_optimizer, where=where)
    with frozen(parameters_of(alpha_optimizer)):
        loss = F.cross_entropy(model(training[0]), training[1])
    return validation_loss, descend(loss, prompt_optimizer, clip_norm, where=where)


def _alphas(model: Classifier[PromptMixture]) -> dict[str, list[list[float]]]:
    """The raw alphas of both branches, layers x options."""
    return {"image": model.image.alphas.tolist(), "text": model.text.alphas.tolist()}


def settled(history: Sequence[dict[str, Any]], patience: int) -> bool:
    """Whether the layout was the same, and every alpha difference small, in the last `patience` epochs (0: never)."""
    last = history[-patience:]
    if patience == 0 or len(last) < patience:
        return False
    calm = all(max(record["alpha_difference"].values()) <= SETTLED_DIFFERENCE for record in last)
    return calm and all(record["layout"] == last[0]["layout"] for record in last)
