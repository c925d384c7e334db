"""Our search: train as many prompts as a layer may have, keep those whose loss would hurt most on the validation shots.

Give every prompt a gate that multiplies its part of the attention's sum (`fixed_attention`), 1 for a plain prompt, 0 for none.
The derivative g of the validation loss by the gate is, up to sign, what removing the prompt would change to first order; its
square, summed over validation batches, is the prompt's saliency (Molchanov et al., "Importance Estimation for Neural Network
Pruning", CVPR 2019, there for filters). Prompts of one layer are a set, without order, so a layer keeps its most salient ones
and its length is how many of them are among the best of the whole model.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dpl.backbones.loading import Backbone
from dpl.classifier import Classifier
from dpl.config import SearchConfig
from dpl.data.task import Task
from dpl.optimization import descend, make_optimizer
from dpl.prompts.layout import check_options
from dpl.prompts.modules import PrunableLayer, PrunablePrompts
from dpl.search.method import Batch, Scores, SearchMethod, Validation


class PruningSearch(SearchMethod):
    """Plain training of the longest layout; the saliency of its prompts is measured after every epoch, the last one counts."""

    model: Classifier[PrunablePrompts]

    def __init__(self, backbone: Backbone, task: Task, config: SearchConfig, prompt_std: float, seed: int) -> None:
        self._config = config
        longest = check_options(config.options)[-1]
        self.model = Classifier.prunable(backbone, task.class_names, task.templates[0], longest, prompt_std, seed)
        self._layers = [*self.model.image.layers, *self.model.text.layers]
        self._prompts = make_optimizer(config, [layer.prompts for layer in self._layers])
        self.optimizers = {"prompts": self._prompts}

    def step(self, training: Batch, validation: Validation, epoch: int, step: int, where: str) -> dict[str, float]:
        """A step of the prompts on the training batch."""
        loss = F.cross_entropy(self.model(training[0]), training[1])
        return {"train_loss": descend(loss, self._prompts, self._config.clip_norm, where=where)}

    def finish_epoch(self, validation: Validation, epoch: int, history: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The validation loss, and by branch each layer's shares of the saliency, largest first."""
        loss, found = saliency(self.model, list(validation.all(epoch)))
        total = torch.cat(found).sum().clamp(min=torch.finfo(torch.float32).tiny)
        for layer, own in zip(self._layers, found, strict=True):
            layer.saliency.copy_(own / total)
        return {"validation_loss": loss, "saliency": {"image": _sorted(self.model.image), "text": _sorted(self.model.text)}}

    def scores(self) -> Scores:
        """For each option the saliency that it would keep."""

        def kept(shares: Sequence[float]) -> list[float]:
            sums = [0.0, *accumulate(shares)]
            return [sums[option] for option in self._config.options]

        image, text = ([kept(shares) for shares in _sorted(prompts)] for prompts in (self.model.image, self.model.text))
        return image, text

    def kept(self, layer: PrunableLayer, length: int) -> Tensor:
        """The most salient prompts, in the order that they had."""
        return layer.prompts[layer.saliency.argsort(descending=True, stable=True)[:length].sort().values]


def saliency(model: Classifier, batches: Sequence[Batch]) -> tuple[float, list[Tensor]]:
    """The mean loss over `batches`, and for each layer, those of the image first, the saliency of its prompts, (rows,)."""
    layers = [*model.image.layers, *model.text.layers]
    gates = [torch.zeros(len(layer.prompts), device=layer.prompts.device, requires_grad=True) for layer in layers]
    sums, total = [torch.zeros_like(gate) for gate in gates], 0.0
    for layer, gate in zip(layers, gates, strict=True):
        layer.log_gates = gate
    try:
        for pixels, labels in batches:
            loss = F.cross_entropy(model(pixels), labels)
            for own, gradient in zip(sums, torch.autograd.grad(loss, gates), strict=True):
                own += gradient.square()
            total += loss.item()
    finally:
        for layer in layers:
            layer.log_gates = None
    return total / len(batches), sums


def _sorted(prompts: PrunablePrompts) -> list[list[float]]:
    return [layer.saliency.sort(descending=True).values.tolist() for layer in prompts.layers]
