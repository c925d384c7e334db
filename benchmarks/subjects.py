"""What is measured: one optimisation step of the search or of the training, four ways.

naive   the formulation of the paper (`benchmarks.naive`)
eager   the same with the softmax of its attention written out instead of PyTorch's fused attention
ours    `dpl.Classifier`
plain   a plain frozen forward and backward over the trimmed sentences (`benchmarks.floors`)
ideal   the same with the shared opening computed once

A search step is an alpha update on 16 validation images and a prompt update on 4 training images, the text of all classes in
each; a training step is a prompt update on 4. naive and ours run the very same step, which is that of `dpl.search` and
`dpl.train`; the floors run a forward and a backward for each batch. The authors' training step also runs the frozen image
branch of the teacher every time, multiplies the distillation by 0, and has the teacher's text features from its start
(`trainers/trainersubnet.py` of their release): naive does so too, ours has no teacher.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam, Optimizer

from benchmarks.clips import TEMPLATE, ClipShape, class_names, random_batch
from benchmarks.compare import relative_difference
from benchmarks.floors import Floor
from benchmarks.naive import NaiveClassifier
from dpl.backbones.loading import Backbone
from dpl.classifier import Classifier, ClipClassifier, ZeroShot
from dpl.config import FitRun, preset
from dpl.optim.optimizer import descend, make_optimizer
from dpl.optim.regularization import distillation
from dpl.prompts.layout import PromptLayout
from dpl.prompts.modules import FixedPrompts, PromptMixture
from dpl.search.mixture import bilevel_step

Stage = Literal["search", "train"]
Subject = Literal["naive", "eager", "ours", "plain", "ideal"]
SUBJECTS: tuple[Subject, ...] = ("naive", "ours", "plain", "ideal")  # measured unless others are asked for
PAPERS: tuple[Subject, ...] = ("naive", "eager")
VALIDATION, TRAIN = 16, 4  # images of a batch
PROMPT_STD = 0.02
_PAPER = preset(FitRun, "paper", "")
_SEARCH, _TRAIN = _PAPER.search, _PAPER.train

Batch = tuple[Tensor, Tensor]
Prompted = Any
"""A `Classifier` or a `NaiveClassifier`: both have `image` and `text` prompts, and logits of pixels."""


@dataclass(frozen=True)
class Case:
    """A stage, a number of classes, and `longest`: the largest option of a search, the length in every layer of a training."""

    stage: Stage
    classes: int
    longest: int

    @property
    def key(self) -> str:
        """Its name in the results."""
        prompts = f"options 0..{self.longest}" if self.stage == "search" else f"layout uniform {self.longest}"
        return f"{self.stage}, {self.classes} classes, {prompts}"

    @property
    def options(self) -> range:
        """The options of a search."""
        return range(self.longest + 1)

    @property
    def batches(self) -> tuple[int, ...]:
        """Images of every forward and backward in a step."""
        return (VALIDATION, TRAIN) if self.stage == "search" else (TRAIN,)


def make_step(subject: Subject, case: Case, backbone: Backbone, shape: ClipShape, seed: int) -> Callable[[], float]:
    """A function that runs one step of `subject` and returns its last loss. Builds all that a step does not pay for."""
    batches = [random_batch(shape, count, case.classes, backbone.device, seed + count) for count in case.batches]
    if subject in ("plain", "ideal"):
        floor = Floor(backbone, class_names(case.classes), TEMPLATE, shared=subject == "ideal")
        return lambda: [floor.step(*batch) for batch in batches][-1]
    model = make_model(subject, case, backbone, seed)
    optimizers = make_optimizers(model)
    if case.stage == "search":
        return partial(_search_step, model, optimizers, batches)
    teacher = ZeroShot(backbone, class_names(case.classes), [TEMPLATE]) if subject in PAPERS else None
    return partial(train_step, model, optimizers[-1], batches[0], teacher)


def make_model(subject: Subject, case: Case, backbone: Backbone, seed: int) -> Prompted:
    """naive or ours, with the same prompts and alphas for the same seed."""
    names = class_names(case.classes)
    if case.stage == "search":
        ours: Prompted = Classifier.mixture(backbone, names, TEMPLATE, case.options, PROMPT_STD, seed)
    else:
        layout = PromptLayout.uniform(case.longest, backbone.image.depth, backbone.text.depth)
        ours = Classifier.fixed(backbone, names, TEMPLATE, layout, PROMPT_STD, seed)
    ours.to(backbone.clip.logit_scale.dtype)  # prompts are fp32 whatever the precision; only a float64 backbone has others
    if subject == "ours":
        return ours
    return NaiveClassifier(backbone, names, TEMPLATE, ours.image, ours.text, fused=subject == "naive")


def alphas_of(model: Prompted) -> list[Tensor]:
    """The rows of alphas of both branches; none in a fixed layout."""
    mixtures = [branch for branch in (model.image, model.text) if isinstance(branch, PromptMixture)]
    return [layer.alphas for branch in mixtures for layer in branch.layers]


def prompts_of(model: Prompted) -> list[Tensor]:
    """The prompts of all layers of both branches."""
    branches: Sequence[FixedPrompts | PromptMixture] = (model.image, model.text)
    return [layer.prompts for branch in branches for layer in branch.layers]


def make_optimizers(model: Prompted) -> list[Optimizer]:
    """The paper's: Adam for the alphas, if there are any, then SGD for the prompts."""
    alphas, prompts = alphas_of(model), prompts_of(model)
    if not alphas:
        return [make_optimizer(_TRAIN, prompts)]
    return [Adam(alphas, lr=_SEARCH.alpha_lr, betas=(0.5, 0.999)), make_optimizer(_SEARCH, prompts)]


def _search_step(model: Prompted, optimizers: Sequence[Optimizer], batches: Sequence[Batch]) -> float:
    (alphas, prompts), (validation, training) = optimizers, batches
    return bilevel_step(model, alphas, prompts, validation, training, _SEARCH.clip_norm)[-1]


def train_step(model: Prompted, optimizer: Optimizer, batch: Batch, teacher: ClipClassifier | None) -> float:
    """As in `dpl.train`; a teacher runs for nothing, as in the authors' release."""
    pixels, labels = batch
    logits = model(pixels)
    loss = F.cross_entropy(logits, labels)
    if teacher:
        loss = loss + 0.0 * distillation(logits, teacher(pixels))
    return descend(loss, optimizer, _TRAIN.clip_norm)


def differences(case: Case, backbone: Backbone, shape: ClipShape, seed: int) -> dict[str, float]:
    """How far ours is from naive: the largest difference relative to the largest entry, in logits and every gradient."""
    pixels, labels = random_batch(shape, TRAIN, case.classes, backbone.device, seed)
    results = []
    for subject in ("ours", "naive"):
        model = make_model(subject, case, backbone, seed)
        logits = model(pixels)
        leaves = {"alphas": alphas_of(model), "prompts": [rows for rows in prompts_of(model) if rows.numel()]}
        every = [leaf for group in leaves.values() for leaf in group]
        gradients = iter(torch.autograd.grad(F.cross_entropy(logits, labels), every))
        results.append(
            {"logits": [logits.detach()], **{name: [next(gradients) for _ in group] for name, group in leaves.items()}}
        )
    ours, naive = results
    return {name: max(map(relative_difference, ours[name], naive[name])) for name in naive if naive[name]}
