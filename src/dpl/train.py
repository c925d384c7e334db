"""The training stage: prompts in a given layout (method.md, "Training stage")."""

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from torch import Tensor

from dpl.backbones.loading import Backbone
from dpl.classifier import Classifier, ZeroShot
from dpl.config import TrainConfig
from dpl.data.batches import TrainingBatches
from dpl.data.fewshot import FewShot
from dpl.data.task import Item, Task
from dpl.data.transforms import decode
from dpl.evaluate import BATCH_SIZE
from dpl.optimization import descend, learning_rate, prompt_optimizer, set_learning_rate
from dpl.prompts.layout import PromptLayout
from dpl.stage import Stage


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
) -> Classifier:
    """Trains prompts in `layout` on the few `shots`; the classifier of the last step.

    They begin at `start`, a state dict such as `SearchResult.prompts`, or at N(0, prompt_std^2). At the end the validation
    shots choose the gate out of `config.gates`.

    The loss is cross entropy, plus `config.distill` times the distillation from the frozen model. A layout of zeros has
    nothing to train and is the zero-shot model. Raises `DplError` where a loss is not finite.
    """
    config, stage = config or TrainConfig(), stage or Stage("train")
    model = Classifier.fixed(backbone, task.class_names, task.templates[0], layout, prompt_std, seed)
    if start is not None:
        model.load_state_dict(start)
    prompts = [prompt for prompt in model.parameters() if prompt.numel()]
    if not prompts:
        return model
    optimizer = prompt_optimizer(config, prompts)
    training = TrainingBatches(shots.train, backbone, task.augmentation, config.batch_size, seed, stage.name)
    teacher = ZeroShot(backbone, task.class_names, task.templates) if config.distill else None

    stage.begin(model, {"prompts": optimizer}, config.epochs, len(training))
    # Prompts stay on the backbone, which spares putting them on twice a step, unless a teacher needs it without.
    with nullcontext() if teacher else model.attached():
        while stage.epoch < config.epochs:
            rate = learning_rate(config, stage.epoch)
            set_learning_rate(optimizer, rate)
            for _, pixels, labels in training.epoch(stage.epoch, first=stage.step):
                images = model.image_features(pixels)
                logits = model.logits(images, model.text_features())
                loss = F.cross_entropy(logits, labels)
                if teacher:
                    plain = images if teacher.image_encoder is model.image_encoder else teacher.image_features(pixels)
                    loss = loss + config.distill * distillation(logits, teacher.logits(plain, teacher.text_features()))
                accuracy = (logits.argmax(dim=-1) == labels).float().mean().item()
                stage.finish_step(loss=descend(loss, optimizer, config.clip_norm, where=stage.where), accuracy=accuracy)
            stage.finish_epoch(lr=rate)
    model.gate = best_gate(model, shots.val, config.gates)
    return model


@torch.no_grad()
def best_gate(model: Classifier, items: Sequence[Item], gates: Sequence[float]) -> float:
    """The gate (0-1) out of `gates` with the lowest calibrated loss on `items`, the first of equals; leaves the model's alone.

    With few shots trained prompts can do worse than the frozen model; a gate between is a way back that costs nothing, as
    the mean of both models' weights is for fine-tuning (Wortsman et al., "Robust Fine-Tuning of Zero-Shot Models", 2022).
    """
    if len(gates) == 1 or not items:
        return gates[0]
    before, labels = model.gate, torch.tensor([item.label for item in items])
    logits: dict[float, list[Tensor]] = {gate: [] for gate in gates}
    try:
        for start in range(0, len(items), BATCH_SIZE):
            pixels = decode(items[start : start + BATCH_SIZE], model.backbone.image_size)
            for model.gate in logits:
                logits[model.gate].append(model(pixels).cpu())
    finally:
        model.gate = before
    losses = {gate: calibrated_loss(torch.cat(parts), labels) for gate, parts in logits.items()}
    return min(losses, key=lambda gate: losses[gate])


def calibrated_loss(logits: Float[Tensor, "images classes"], labels: Int[Tensor, "images"]) -> float:
    """The lowest cross entropy that the logits have at any temperature from 1/e to e^3.

    Trained prompts are far too sure of themselves; that is no reason to prefer others, as it does not change what is predicted.
    """

    def loss(log_scale: float) -> float:
        return F.cross_entropy(logits.double() * math.exp(log_scale), labels).item()

    found: Any = minimize_scalar(loss, bounds=(-3, 1), method="bounded")
    return float(found.fun)


def distillation(student: Float[Tensor, "images classes"], teacher: Float[Tensor, "images classes"]) -> Float[Tensor, ""]:
    """KL(teacher || student) of two batches of logits, over images and classes: sum / (images * classes).

    The scale of the authors' release, at temperature 1 (there it is multiplied by 0).
    """
    student, teacher = student.log_softmax(dim=-1), teacher.log_softmax(dim=-1)
    return F.kl_div(student, teacher, reduction="sum", log_target=True) / student.numel()
