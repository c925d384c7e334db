"""The prompts' optimiser and its schedule, as a formula per epoch."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer

from dpl.config import PromptOptimization
from dpl.errors import DplError

MOMENTUM = 0.9


def learning_rate(config: PromptOptimization, epoch: int) -> float:
    """The rate of `epoch` (from 0): the warm-up, then 0.5 lr (1 + cos(pi (epoch - warmup) / epochs)).

    As in Dassl, which the CoOp family trains with: the warm-up does not shorten the cosine (protocol.md, "Training").
    """
    if epoch < config.warmup_epochs:
        rising = config.lr * (epoch + 1) / (config.warmup_epochs + 1)
        return rising if config.warmup_lr is None else config.warmup_lr
    return 0.5 * config.lr * (1 + math.cos(math.pi * (epoch - config.warmup_epochs) / config.epochs))


def prompt_optimizer(config: PromptOptimization, prompts: Iterable[Tensor]) -> Optimizer:
    """AdamW or SGD with momentum over `prompts`; the rate is set per epoch by `set_learning_rate`."""
    if config.optimizer == "sgd":
        return SGD(prompts, lr=config.lr, momentum=MOMENTUM, weight_decay=config.weight_decay)
    return AdamW(prompts, lr=config.lr, weight_decay=config.weight_decay)


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


def descend(loss: Tensor, optimizer: Optimizer, clip_norm: float = 0.0, where: str = "") -> float:
    """One step down `loss` for the optimiser's own parameters only; returns the loss.

    No other gradient is computed. Raises `DplError`, before anything changes, where the loss or a gradient is not finite.
    """
    parameters = parameters_of(optimizer)
    value = loss.item()
    if not math.isfinite(value):
        raise DplError(f"{where}: the loss is {value}; lower the learning rate or check the images")
    optimizer.zero_grad(set_to_none=True)
    if not parameters:
        return value
    loss.backward(inputs=parameters)
    norm = torch.nn.utils.clip_grad_norm_(parameters, clip_norm or math.inf)
    if not math.isfinite(norm):
        raise DplError(f"{where}: a gradient is {norm.item()}; lower the learning rate or check the images")
    optimizer.step()
    return value
