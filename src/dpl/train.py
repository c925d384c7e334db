"""The training stage for every method: optimises its objective on the few shots, saves every step, and fits the head."""

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn

from dpl.backbones.loading import Backbone
from dpl.config import HeadName, Optimization, Penalties, TrainConfig, Training
from dpl.data.fewshot import FewShot
from dpl.data.pixels.batches import TrainingBatches
from dpl.data.pixels.store import ImageStore
from dpl.data.task import Item, Task
from dpl.evaluate import images_at_once
from dpl.head_selection import HeadChoice, choose_among
from dpl.heads import Shots
from dpl.methods.dpl import Dpl, DplConfig
from dpl.methods.method import Inputs, Method
from dpl.optim.optimizer import descend, learning_rate, make_optimizer, set_learning_rate
from dpl.optim.regularization import Aggregate, Regularizer
from dpl.optim.stage import Stage
from dpl.prompts.layout import PromptLayout
from dpl.utils.errors import DplError


def train(model: Method, inputs: Inputs, config: Optimization | None, seed: int = 1, stage: Stage | None = None) -> None:
    """Trains `model` on the few shots.

    The result has the parameters of the last step, or the aggregate of the epochs. Without a `config`, or without parameters,
    only `on_train_start` and `on_train_end` are called.

    Args:
        model: the method to train, changed in place.
        inputs: the backbone, the task and the shots.
        config: the settings of the optimisation, or None.
        seed: seed of all random draws.
        stage: saves the state, resumes from it and reports progress; None keeps everything in memory.

    Raises:
        DplError: a loss or gradient is not finite, or the method does not support a regularizer and the settings have one.
    """
    model.on_train_start(inputs, seed)
    parameters = [parameter for parameter in model.parameters() if parameter.numel()]
    if config and parameters:
        _descend(model, inputs, config, parameters, seed, stage or Stage("train"))
    model.on_train_end(inputs)


def fit_head(model: Method, inputs: Inputs, kind: HeadName, seed: int) -> None:
    """Chooses the head of a trained `model` by cross-validation, together with `scalar_choices`, and fits it to all shots.

    Args:
        model: the trained method; its `head`, `head_choice` and `scalars` are set.
        inputs: the shots that it was trained on, and the validation shots.
        kind: the kind of head.
        seed: seed of the folds.

    Raises:
        DplError: an image cannot be read.
    """
    model.head, model.head_choice = None, HeadChoice()
    if kind == "text":
        return
    shots, scalars, variants = inputs.shots, model.scalar_choices, list[Shots]()
    for model.scalars in scalars:
        variants.append(embed_shots(model, (*shots.train, *shots.val), inputs.images))
    unseen = torch.arange(len(variants[0].labels), device=variants[0].labels.device) >= len(shots.train)
    index, model.head_choice, head = choose_among(variants, unseen, kind, seed)
    model.scalars, model.head = scalars[index], head and head.to(model.backbone.device)


@torch.no_grad()
def embed_shots(model: Method, items: Sequence[Item], images: ImageStore | None = None) -> Shots:
    """Computes the features and the text logits of images without augmentation, in float64.

    Raises:
        DplError: an image cannot be read.
    """
    reader = (images or ImageStore()).evaluation(model.backbone.preprocessing)
    size = images_at_once(model.backbone)
    with model.attached():
        texts, features, logits = model.text_features(), [], []
        for start in range(0, len(items), size):
            features.append(model.image_features(reader.stack(items[start : start + size])))
            logits.append(model.text_logits(features[-1], texts))
    device = model.backbone.device if model.backbone.device.type == "cuda" else torch.device("cpu")  # others may lack float64
    all_logits, all_features = (torch.cat(parts).to(device, torch.float64) for parts in (logits, features))
    labels = torch.tensor([item.label for item in items], device=device)
    return Shots(all_logits, all_features, labels, model.backbone.clip.logit_scale.exp().item())


def _descend(model: Method, inputs: Inputs, config: Optimization, parameters: Sequence[Tensor], seed: int, stage: Stage) -> None:
    penalties = config.penalties if isinstance(config, Training) else Penalties()
    optimizer = make_optimizer(config, parameters)
    shots, augmentation = inputs.shots.train, inputs.task.augmentation
    training = TrainingBatches(shots, inputs.backbone, augmentation, config, seed, stage.name, inputs.images)
    if isinstance(config, Training) and config.steps:
        config = replace(config, epochs=math.ceil(config.steps / len(training)))
    regularizer = Regularizer.of(inputs.backbone, model.class_names, inputs.task.templates, penalties)
    if regularizer and not model.regularizable:
        raise DplError(f"{model.name} takes no regularizer; leave it at none, without weights (distill, text_l1, ...)")
    aggregate = Aggregate(parameters, *penalties.aggregate, config.epochs) if penalties.aggregate else None
    modules: dict[str, nn.Module] = {"model": model}
    if aggregate:
        modules["aggregate"] = aggregate

    stage.begin(modules, {"optimizer": optimizer}, config.epochs, len(training))
    # Attaches the method once for all steps instead of twice a step, unless a teacher needs the plain backbone in between.
    with nullcontext() if regularizer else model.attached():
        while stage.epoch < config.epochs:
            for step, pixels, labels in training.epoch(stage.epoch, first=stage.step):
                set_learning_rate(optimizer, learning_rate(config, stage.epoch, step / len(training)))
                objective = model.objective(pixels, labels, regularizer)
                accuracy = (objective.logits.argmax(dim=-1) == labels).float().mean().item()
                loss = descend(objective.loss, optimizer, config.clip_norm, stage.where, objective.backward)
                stage.finish_step(loss=loss, accuracy=accuracy)
            if aggregate:
                aggregate.add(stage.epoch)
            stage.finish_epoch(lr=learning_rate(config, stage.epoch))
    if aggregate:
        aggregate.take_over()


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
    """Trains prompts in `layout` on the few `shots`.

    The loss is cross entropy plus the terms of `config.regularizer`. A layout of zeros has no parameters: the result is the
    zero-shot model. After training the prompt scale is chosen from `config.prompt_scales` on the validation shots.

    Args:
        backbone: the frozen model.
        task: the class names and templates; the first template is trained with.
        shots: training and validation images.
        layout: number of prompts of every layer.
        config: settings of the training; by default `TrainConfig()`.
        start: initial prompts, a state dict such as `SearchResult.prompts`; by default N(0, prompt_std^2).
        prompt_std: standard deviation of initial prompts without `start`.
        seed: decides every random draw.
        stage: progress, history and checkpoints of the training.

    Returns:
        The classifier after the last step.

    Raises:
        DplError: a loss is not finite.

    Example:
        >>> import dpl
        >>> backbone, task = dpl.load_backbone("tiny"), dpl.load_task("digits")
        >>> layout = dpl.PromptLayout.uniform(1, backbone.image.depth, backbone.text.depth)
        >>> shots = dpl.sample(task, shots=1, seed=1)
        >>> model = dpl.train_prompts(backbone, task, shots, layout, dpl.TrainConfig(epochs=1))
        >>> model.layout.tokens
        12
    """
    config = config or TrainConfig()
    model = Dpl(backbone, task.class_names, task.templates, DplConfig(layout, prompt_std), seed)
    model.prompt_scales = config.prompt_scales
    if start is not None:
        model.load_state_dict(start)
    train(model, Inputs(backbone, task, shots), config, seed, stage)
    return model
