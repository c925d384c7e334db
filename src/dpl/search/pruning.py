"""Our search: trains the maximum number of prompts in every layer, then keeps those most important for the validation loss.

A gate multiplies each prompt's term in the attention's sum (`fixed_attention`): 1 for a plain prompt, 0 for none. The derivative
g of the validation loss by the gate is, up to sign and to first order, the change of the loss when the prompt is removed. Its
square, summed over validation batches, is the prompt's saliency (Molchanov et al., "Importance Estimation for Neural Network
Pruning", CVPR 2019, there for filters; docs/method.md, "Our search"). The prompts of one layer are an unordered set, so a layer
keeps its most salient ones; its length is the number of its prompts among the best of the whole model.
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
from dpl.optim.optimizer import descend, make_optimizer
from dpl.prompts.layout import check_options
from dpl.prompts.modules import PrunableLayer, PrunablePrompts
from dpl.search.base import Batch, Scores, SearchMethod, Validation


class PruningSearch(SearchMethod):
    """Trains the longest layout and measures the saliency of its prompts after every epoch; the last measurement decides."""

    model: Classifier[PrunablePrompts]

    def __init__(self, backbone: Backbone, task: Task, config: SearchConfig, prompt_std: float, seed: int) -> None:
        self._config = config
        longest = check_options(config.options)[-1]
        self.model = Classifier.prunable(backbone, task.class_names, task.templates[0], longest, prompt_std, seed)
        self._layers = [*self.model.image.layers, *self.model.text.layers]
        self._prompts = make_optimizer(config, [layer.prompts for layer in self._layers])
        self.optimizers = {"prompts": self._prompts}

    def step(self, training: Batch, validation: Validation, epoch: int, step: int, where: str) -> dict[str, float]:
        """Updates the prompts on the training batch."""
        loss = F.cross_entropy(self.model(training[0]), training[1])
        return {"train_loss": descend(loss, self._prompts, self._config.clip_norm, where=where)}

    def finish_epoch(self, validation: Validation, epoch: int, history: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Measures the saliency; returns the validation loss and, by branch, each layer's shares in descending order."""
        loss, found = saliency(self.model, list(validation.all(epoch)))
        total = torch.cat(found).sum().clamp(min=torch.finfo(torch.float32).tiny)
        for layer, own in zip(self._layers, found, strict=True):
            layer.saliency.copy_(own / total)
        return {"validation_loss": loss, "saliency": {"image": _sorted(self.model.image), "text": _sorted(self.model.text)}}

    def scores(self) -> Scores:
        """Returns, for each option, the sum of the saliency that it keeps."""

        def kept(shares: Sequence[float]) -> list[float]:
            sums = [0.0, *accumulate(shares)]
            return [sums[option] for option in self._config.options]

        image, text = ([kept(shares) for shares in _sorted(prompts)] for prompts in (self.model.image, self.model.text))
        return image, text

    def kept(self, layer: PrunableLayer, length: int) -> Tensor:
        """Returns the most salient prompts, in their original order."""
        return layer.prompts[layer.saliency.argsort(descending=True, stable=True)[:length].sort().values]


def saliency(model: Classifier, batches: Sequence[Batch]) -> tuple[float, list[Tensor]]:
    """Measures the saliency of every prompt of `model`.

    Args:
        model: a classifier with prompts.
        batches: pixels and labels; at least one batch.

    Returns:
        The mean loss over `batches`, and the saliency of each layer's prompts, (rows,), the image layers first.
    """
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
