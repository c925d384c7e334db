"""The optimiser, its schedule as a formula per epoch, and a step of it."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer

from dpl.config import Optimization
from dpl.errors import DplError

MOMENTUM = 0.9


def learning_rate(config: Optimization, epoch: int, progress: float = 0.0) -> float:
    """The rate of `epoch` (from 0), `progress` (0-1) of which is over: the warm-up, then the cosine from lr to final_lr,
    final_lr + 0.5 (lr - final_lr) (1 + cos(pi (epoch - warmup) / epochs)).

    As in Dassl, which the CoOp family trains with: the warm-up does not shorten the cosine (protocol.md, "Training"). The
    progress counts if the schedule is by step.
    """
    if epoch < config.warmup_epochs:
        rising = config.lr * (epoch + 1) / (config.warmup_epochs + 1)
        return rising if config.warmup_lr is None else config.warmup_lr
    passed = epoch + (progress if config.schedule == "step" else 0) - config.warmup_epochs
    return config.final_lr + 0.5 * (config.lr - config.final_lr) * (1 + math.cos(math.pi * passed / config.epochs))


def make_optimizer(config: Optimization, parameters: Iterable[Tensor]) -> Optimizer:
    """AdamW or SGD with momentum over `parameters`; the rate is set by `set_learning_rate`."""
    if config.optimizer == "sgd":
        return SGD(parameters, lr=config.lr, momentum=MOMENTUM, weight_decay=config.weight_decay)
    return AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay, eps=config.adam_eps)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Sets the rate of all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def parameters_of(optimizer: Optimizer) -> list[Tensor]:
    """What the optimiser steps."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


@contextmanager
def frozen(parameters: Iterable[Tensor]) -> Iterator[None]:
    """Inside, a forward computes nothing that only the gradients of `parameters` would need."""
    changed = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in changed:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in changed:
            parameter.requires_grad_(True)


Backward = Callable[[list[Tensor]], None]
"""Puts gradients into the parameters that it is given."""


def descend(
    loss: Tensor, optimizer: Optimizer, clip_norm: float = 0.0, where: str = "", backward: Backward | None = None
) -> float:
    """One step down `loss` for the optimiser's own parameters only; returns the loss.

    No other gradient is computed; `backward` may make another one than the loss's. Raises `DplError`, before anything
    changes, where the loss or a gradient is not finite.
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
