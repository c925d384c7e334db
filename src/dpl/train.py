"""The training stage, the same for every method: steps down its objective on the few shots, state saved after every step."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

from torch import Tensor, nn

from dpl.config import Optimization, Penalties, Training
from dpl.data.batches import TrainingBatches
from dpl.errors import DplError
from dpl.methods.method import Inputs, Method
from dpl.optimization import descend, learning_rate, make_optimizer, set_learning_rate
from dpl.regularization import Aggregate, Regularizer
from dpl.stage import Stage


def train(model: Method, inputs: Inputs, config: Optimization | None, seed: int = 1, stage: Stage | None = None) -> None:
    """`model` learns from the shots; at the end it is that of the last step, or the aggregate of the epochs.

    Without a `config`, or with nothing to learn by steps, the method only prepares and concludes. `stage` saves the state,
    resumes from it and shows progress. Raises `DplError` where a loss is not finite, and for a regularizer with a method that
    takes none.
    """
    model.prepare(inputs, seed)
    parameters = [parameter for parameter in model.parameters() if parameter.numel()]
    if config and parameters:
        _descend(model, inputs, config, parameters, seed, stage or Stage("train"))
    model.conclude(inputs.shots)


def _descend(model: Method, inputs: Inputs, config: Optimization, parameters: Sequence[Tensor], seed: int, stage: Stage) -> None:
    penalties = config.penalties if isinstance(config, Training) else Penalties()
    optimizer = make_optimizer(config, parameters)
    training = TrainingBatches(inputs.shots.train, inputs.backbone, inputs.task.augmentation, config, seed, stage.name)
    if isinstance(config, Training) and config.steps:
        config = replace(config, epochs=math.ceil(config.steps / len(training)))
    regularizer = Regularizer.of(inputs.backbone, model.class_names, inputs.task.templates, penalties)
    if regularizer and not model.regularizable:
        raise DplError(f"{model.name} takes no regularizer; leave it at none, and its weights (distill, text_l1, ...) out")
    aggregate = Aggregate(parameters, *penalties.aggregate, config.epochs) if penalties.aggregate else None
    modules: dict[str, nn.Module] = {"model": model}
    if aggregate:
        modules["aggregate"] = aggregate

    stage.begin(modules, {"optimizer": optimizer}, config.epochs, len(training))
    # What is learned stays on the backbone, which spares putting it on twice a step, unless a teacher needs it without.
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
