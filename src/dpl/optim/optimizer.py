"""The optimiser, its learning rate schedule, and one optimisation step."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer

from dpl.config import Optimization
from dpl.utils.errors import DplError

MOMENTUM = 0.9


def learning_rate(config: Optimization, epoch: int, progress: float = 0.0) -> float:
    """Computes the learning rate: a warm-up, then a cosine from lr to final_lr.

    During warm-up the rate is warmup_lr, or lr (epoch + 1) / (warmup + 1) without a warmup_lr. Then it is final_lr + 0.5 (lr -
    final_lr) (1 + cos(pi (epoch + progress - warmup) / epochs)), with progress only if the schedule is by step. As in Dassl,
    which the CoOp family trains with, the warm-up does not shorten the cosine (docs/protocol.md, "Training schedule").

    Args:
        config: the schedule.
        epoch: the epoch, from 0.
        progress: the finished part of the epoch, 0-1.

    Example:

        >>> config = Optimization(epochs=10, lr=0.1, warmup_epochs=1, warmup_lr=1e-5)
        >>> [round(learning_rate(config, epoch), 5) for epoch in (0, 1, 6)]
        [1e-05, 0.1, 0.05]
    """
    if epoch < config.warmup_epochs:
        rising = config.lr * (epoch + 1) / (config.warmup_epochs + 1)
        return rising if config.warmup_lr is None else config.warmup_lr
    passed = epoch + (progress if config.schedule == "step" else 0) - config.warmup_epochs
    return config.final_lr + 0.5 * (config.lr - config.final_lr) * (1 + math.cos(math.pi * passed / config.epochs))


def make_optimizer(config: Optimization, parameters: Iterable[Tensor]) -> Optimizer:
    """Creates the optimiser; the training loop sets its learning rate by `set_learning_rate`.

    Args:
        config: optimiser, weight decay and epsilon.
        parameters: the learned parameters.

    Returns:
        AdamW, or SGD with momentum 0.9.
    """
    if config.optimizer == "sgd":
        return SGD(parameters, lr=config.lr, momentum=MOMENTUM, weight_decay=config.weight_decay)
    return AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay, eps=config.adam_eps)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Sets the learning rate of all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def parameters_of(optimizer: Optimizer) -> list[Tensor]:
    """Returns the parameters of all groups of the optimiser."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


@contextmanager
def frozen(parameters: Iterable[Tensor]) -> Iterator[None]:
    """Context manager: parameters require no gradient inside, so a forward skips the work that only they need.

    Args:
        parameters: the parameters; those that are frozen already stay so.
    """
    changed = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in changed:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in changed:
            parameter.requires_grad_(True)


Backward = Callable[[list[Tensor]], None]
"""Computes gradients and writes them into the given parameters."""


def descend(
    loss: Tensor, optimizer: Optimizer, clip_norm: float = 0.0, where: str = "", backward: Backward | None = None
) -> float:
    """Makes one step of the optimiser on `loss`; computes gradients of the optimiser's own parameters only.

    Args:
        loss: the loss, a scalar.
        optimizer: its parameters take the step; without parameters nothing happens.
        clip_norm: largest norm of the gradients; 0 for no limit.
        where: the place in the run, for messages.
        backward: writes gradients into the given parameters, in place of the loss's own.

    Returns:
        The loss.

    Raises:
        DplError: the loss or a gradient is not finite; the parameters and the optimiser's state are unchanged.
    """
    parameters = parameters_of(optimizer)
    value = loss.item()
    if not math.isfinite(value):
        raise DplError(f"{where}: the loss is {value}; lower the learning rate or check the images")
    optimizer.zero_grad(set_to_none=True)
    if not parameters:
        return value
    backward(parameters) if backward else loss.backward(inputs=parameters)
    norm = torch.nn.utils.clip_grad_norm_(parameters, clip_norm or math.inf)
    if not math.isfinite(norm):
        raise DplError(f"{where}: a gradient is {norm.item()}; lower the learning rate or check the images")
    optimizer.step()
    return value
