"""The paper's search: learns alphas and prompts in turn; a layer's alphas are its scores (docs/method.md, "The search stage").

`dpl.prompts.attention.mixture_attention` computes the mixture over the options.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam, Optimizer

from dpl.backbones.loading import Backbone
from dpl.classifier import Classifier
from dpl.config import SearchConfig
from dpl.data.task import Task
from dpl.optim.optimizer import descend, frozen, make_optimizer, parameters_of
from dpl.prompts.modules import MixtureLayer
from dpl.search.base import Batch, Scores, SearchMethod, Validation
from dpl.search.convergence import alpha_difference, dominants


class MixtureSearch(SearchMethod):
    """First-order bilevel optimisation: each step updates the alphas on a validation batch, the prompts on a training batch."""

    def __init__(self, backbone: Backbone, task: Task, config: SearchConfig, prompt_std: float, seed: int) -> None:
        self._config = config
        self.model = Classifier.mixture(backbone, task.class_names, task.templates[0], config.options, prompt_std, seed)
        self._layers = [*self.model.image.layers, *self.model.text.layers]
        self._alphas = Adam([layer.alphas for layer in self._layers], lr=config.alpha_lr, betas=(0.5, 0.999))
        self._prompts = make_optimizer(config, [layer.prompts for layer in self._layers])
        self.optimizers = {"alphas": self._alphas, "prompts": self._prompts}
        self._first = self._matrices()

    def step(self, training: Batch, validation: Validation, epoch: int, step: int, where: str) -> dict[str, float]:
        """Makes a `bilevel_step` with a fresh validation batch."""
        drawn = validation.draw(epoch, step)
        on_validation, on_training = bilevel_step(
            self.model, self._alphas, self._prompts, drawn, training, self._config.clip_norm, where
        )
        return {"train_loss": on_training, "validation_loss": on_validation}

    def finish_epoch(self, validation: Validation, epoch: int, history: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Returns, by branch, the raw alphas, their change, and the number of single-dominant layers."""
        before, now = history[-1]["alphas"] if history else self._first, self._matrices()
        return {
            "alphas": now,
            "alpha_difference": {branch: alpha_difference(before[branch], now[branch]) for branch in now},
            "dominants": {branch: dominants(now[branch]) for branch in now},
        }

    def scores(self) -> Scores:
        """Returns log softmax(alpha): the best layout within a budget is the most probable one, if layers are independent."""
        image, text = (
            prompts.alphas.cpu().double().log_softmax(dim=-1).tolist() for prompts in (self.model.image, self.model.text)
        )
        return image, text

    def kept(self, layer: MixtureLayer, length: int) -> Tensor:
        """Returns the option's own prompts."""
        start = sum(option for option in layer.options if option < length)
        return layer.prompts[start : start + length]

    def _matrices(self) -> dict[str, list[list[float]]]:
        return {"image": self.model.image.alphas.tolist(), "text": self.model.text.alphas.tolist()}


def bilevel_step(
    model: Callable[[Tensor], Tensor],
    alpha_optimizer: Optimizer,
    prompt_optimizer: Optimizer,
    validation: Batch,
    training: Batch,
    clip_norm: float,
    where: str = "",
) -> tuple[float, float]:
    """Updates the alphas on the `validation` batch, then the prompts on the `training` batch.

    Neither update computes gradients of the other parameters.

    Args:
        model: computes logits from uint8 pixels.
        alpha_optimizer: the optimiser of the alphas.
        prompt_optimizer: the optimiser of the prompts.
        validation: pixels and labels.
        training: pixels and labels.
        clip_norm: largest norm of the prompts' gradients; 0 for no limit.
        where: the place in the run, for messages.

    Returns:
        The validation loss and the training loss, each before its update.

    Raises:
        DplError: a loss or gradient is not finite.
    """
    with frozen(parameters_of(prompt_optimizer)):
        loss = F.cross_entropy(model(validation[0]), validation[1])
    validation_loss = descend(loss, alpha_optimizer, where=where)
    with frozen(parameters_of(alpha_optimizer)):
        loss = F.cross_entropy(model(training[0]), training[1])
    return validation_loss, descend(loss, prompt_optimizer, clip_norm, where=where)
