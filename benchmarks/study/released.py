"""The paper's search as its authors released it, for comparison: with the defects that method.md lists.

Prompts of the search start at N(0, 1) in the image branch and at U(0, 1) in the text branch, whatever the training starts from;
the alphas are fitted on one validation batch for ever, the first in the order of the classes; the layout is trained from fresh
prompts. Settings: `--preset paper`. One defect is left out in the paper's favour: that it saves each branch's alphas under the
other's name.
"""

import torch

import dpl
from dpl.classifier import Classifier
from dpl.config import SearchConfig, SearchRun, preset
from dpl.data.batches import TrainingBatches
from dpl.data.fewshot import FewShot
from dpl.data.task import Task
from dpl.data.transforms import decode
from dpl.optimization import learning_rate, make_optimizer, set_learning_rate
from dpl.rng import generator
from dpl.search.mixture import bilevel_step

RELEASED_STD = 1.0
CONFIG: SearchConfig = preset(SearchRun, "paper", "").search


def search_as_released(backbone: dpl.Backbone, task: Task, shots: FewShot, seed: int) -> dpl.PromptLayout:
    """The layout that the released search finds; 80 epochs of batches of 4, two forwards and backwards a step."""
    model = Classifier.mixture(backbone, task.class_names, task.templates[0], CONFIG.options, RELEASED_STD, seed)
    with torch.no_grad():
        for index, layer in enumerate(model.text.layers):
            layer.prompts.uniform_(generator=generator(seed, "released", index))
    layers = [*model.image.layers, *model.text.layers]
    on_alphas = torch.optim.Adam([layer.alphas for layer in layers], lr=CONFIG.alpha_lr, betas=(0.5, 0.999))
    on_prompts = make_optimizer(CONFIG, [layer.prompts for layer in layers])
    training = TrainingBatches(shots.train, backbone, task.augmentation, CONFIG, seed, "search")
    first = shots.val[: CONFIG.validation_batch_size]
    validation = decode(first, backbone.image_size), torch.tensor([item.label for item in first])
    for epoch in range(CONFIG.epochs):
        set_learning_rate(on_prompts, learning_rate(CONFIG, epoch))
        for _, pixels, labels in training.epoch(epoch):
            bilevel_step(model, on_alphas, on_prompts, validation, (pixels, labels), CONFIG.clip_norm)
    return dpl.PromptLayout.from_scores(model.image.alphas.tolist(), model.text.alphas.tolist(), CONFIG.options)
