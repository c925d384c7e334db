"""The paper's search as its authors released it, for comparison: with the defects that docs/method.md lists.

Prompts of the search start at N(0, 1) in the image branch and at U(0, 1) in the text branch, whatever the training starts from;
the alphas are fitted on one validation batch for ever, the first in the order of the classes; the layout is trained from fresh
prompts. Settings: `--preset paper`. One defect is left out in the paper's favour: that it saves each branch's alphas under the
other's name.
"""

from collections.abc import Sequence

import torch

import dpl
from benchmarks.study.stack import Stack, StackedMixture, Streams, mean_losses
from dpl.classifier import Classifier
from dpl.config import SearchConfig, SearchRun, preset
from dpl.data.fewshot import FewShot
from dpl.data.pixels.transforms import decode
from dpl.data.task import Task
from dpl.optim.optimizer import frozen, learning_rate, make_optimizer, set_learning_rate
from dpl.utils.rng import generator

RELEASED_STD = 1.0
CONFIG: SearchConfig = preset(SearchRun, "paper", "").search


def search_as_released(task: Task, draws: Sequence[tuple[FewShot, int]], backbone: dpl.Backbone) -> list[dpl.PromptLayout]:
    """The layouts that the released search finds on each of the shots, with its seed; all in one stack.

    80 epochs of batches of 4, two forwards and backwards a step.
    """
    models = [_model(backbone, task, seed) for _, seed in draws]
    stack = Stack(models, StackedMixture)
    alphas, prompts = ([getattr(layer, name) for layer in stack.layers] for name in ("alphas", "prompts"))
    on_alphas, on_prompts = torch.optim.Adam(alphas, lr=CONFIG.alpha_lr, betas=(0.5, 0.999)), make_optimizer(CONFIG, prompts)
    training = Streams(backbone, task, draws, CONFIG, "search")
    first = [shots.val[: CONFIG.validation_batch_size] for shots, _ in draws]
    validation = torch.stack([decode(items, backbone.preprocessing) for items in first]).to(backbone.device)
    labels = torch.tensor([[item.label for item in items] for items in first], device=backbone.device)
    of_runs = torch.arange(len(draws), device=backbone.device)

    def descend(
        optimizer: torch.optim.Optimizer, learned: Sequence[torch.Tensor], others: Sequence[torch.Tensor], *batch
    ) -> None:
        pixels, streams, right = batch
        with frozen(others):
            optimizer.zero_grad(set_to_none=True)
            mean_losses(stack.logits(pixels, streams), right).sum().backward(inputs=list(learned))
        optimizer.step()

    for epoch in range(CONFIG.epochs):
        set_learning_rate(on_prompts, learning_rate(CONFIG, epoch))
        for _, pixels, right in training.epoch(epoch):
            descend(on_alphas, alphas, prompts, validation, of_runs, labels)
            descend(on_prompts, prompts, alphas, pixels, training.of_runs, right)
    stack.write_back()
    return [
        dpl.PromptLayout.from_scores(model.image.alphas.tolist(), model.text.alphas.tolist(), CONFIG.options) for model in models
    ]


def _model(backbone: dpl.Backbone, task: Task, seed: int) -> Classifier:
    model = Classifier.mixture(backbone, task.class_names, task.templates[0], CONFIG.options, RELEASED_STD, seed)
    with torch.no_grad():
        for index, layer in enumerate(model.text.layers):
            layer.prompts.uniform_(generator=generator(seed, "released", index))
    return model
