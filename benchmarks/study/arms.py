"""The arms of the study: ways to come by a layout, every one followed by the same training.

An arm is a row of `ARMS`: what it finds for trials of one task, and what that cost. All trials of a task are then trained
together (`train`). Random layouts are drawn once, so that random-07 is the same layout for all tasks and seeds.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import dpl
from benchmarks.study.records import RESULTS, read_records
from benchmarks.study.released import CONFIG, search_as_released
from benchmarks.study.stack import train_stacked
from dpl.data.fewshot import FewShot
from dpl.data.lazy_items import by_class
from dpl.data.task import Task
from dpl.methods.dpl import Dpl, DplConfig
from dpl.methods.method import Inputs
from dpl.search import MakeMethod, SearchResult
from dpl.search.base import Validation
from dpl.search.mixture import MixtureSearch
from dpl.utils.errors import DplError

Depths = tuple[int, int]  # layers of the image and of the text branch

RANDOM_LAYOUTS = 20
SHOTS = 16  # at which all arms are run
LENGTHS = (1, 2, 4, 6)
LONGEST, TOKENS_PER_LAYER = 12, 6  # as the search's defaults: layouts of one budget
SEARCH_SHARE = 1.5  # what a search and the training after it may cost together, relative to the training alone


@dataclass(frozen=True)
class Trial:
    """What an arm gets."""

    backbone: dpl.Backbone
    task: Task
    shots: FewShot
    seed: int
    results: Path = RESULTS

    @property
    def depths(self) -> Depths:
        """Layers of both branches."""
        return self.backbone.image.depth, self.backbone.text.depth


@dataclass(frozen=True)
class Found:
    """What an arm has found for a trial, and at what cost: steps, images that went forward and backward, seconds."""

    layout: dpl.PromptLayout
    prompts: Mapping[str, Tensor] | None = None
    """Where the training starts; none: fresh prompts."""
    share: float = 1.0
    """Epochs of the training, relative to the defaults."""
    steps: int = 0
    images: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """A classifier, and its cost: optimiser steps, images that went forward and backward, seconds of both stages."""

    model: Dpl
    steps: int
    images: int
    search_seconds: float
    train_seconds: float


Arm = Callable[[Sequence[Trial]], list[Found]]


def train(trials: Sequence[Trial], found: Sequence[Found]) -> list[Outcome]:
    """The defaults' training of trials of one task, all in one stack; those of equal length together."""
    models = [_model(*pair) for pair in zip(trials, found, strict=True)]
    outcomes: dict[int, Outcome] = {}
    for share in sorted({one.share for one in found}):
        config, begun = dpl.TrainConfig(), time.perf_counter()
        config = replace(config, epochs=round(config.epochs * share))
        chosen = [index for index, one in enumerate(found) if one.share == share]
        draws = [(trials[index].shots, trials[index].seed) for index in chosen]
        train_stacked([models[index] for index in chosen], trials[0].task, draws, config)
        for index in chosen:
            models[index].prompt_scales = config.prompt_scales
            trial = trials[index]
            models[index].on_train_end(Inputs(trial.backbone, trial.task, trial.shots))
        seconds = (time.perf_counter() - begun) / len(chosen)
        for index in chosen:
            outcomes[index] = _outcome(trials[index], found[index], models[index], config, seconds)
    return [outcomes[index] for index in range(len(found))]


def _model(trial: Trial, found: Found) -> Dpl:
    design = DplConfig(found.layout)
    model = Dpl(trial.backbone, trial.task.class_names, trial.task.templates, design, trial.seed)
    if found.prompts is not None:
        model.load_state_dict(found.prompts)
    return model


def _outcome(trial: Trial, found: Found, model: Dpl, config: dpl.TrainConfig, seconds: float) -> Outcome:
    images, epochs = len(trial.shots.train), config.epochs if found.layout.tokens else 0  # without prompts nothing is trained
    steps = epochs * -(-images // config.batch_size)
    return Outcome(model, found.steps + steps, found.images + epochs * images, found.seconds, seconds if epochs else 0.0)


def given(layout: Callable[[Depths], dpl.PromptLayout], share: float = 1.0) -> Arm:
    """A layout that is nobody's finding, with fresh prompts, trained `share` times as many epochs."""
    return lambda trials: [Found(layout(trial.depths), share=share) for trial in trials]


def _both(length: int) -> Callable[[Depths], dpl.PromptLayout]:
    return lambda depths: dpl.PromptLayout.uniform(length, *depths)


def _image(length: int) -> Callable[[Depths], dpl.PromptLayout]:
    return lambda depths: dpl.PromptLayout((length,) * depths[0], (0,) * depths[1])


def _text(length: int) -> Callable[[Depths], dpl.PromptLayout]:
    return lambda depths: dpl.PromptLayout((0,) * depths[0], (length,) * depths[1])


def _first_half(layout: Callable[[Depths], dpl.PromptLayout]) -> Callable[[Depths], dpl.PromptLayout]:
    def half(row: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(length if 2 * index < len(row) else 0 for index, length in enumerate(row))

    def halved(depths: Depths) -> dpl.PromptLayout:
        full = layout(depths)
        return dpl.PromptLayout(half(full.image), half(full.text))

    return halved


def transferred(trials: Sequence[Trial]) -> list[Found]:
    """The mean of the layouts that our search has found on the other tasks, same seed and shots."""
    return [Found(_mean_of_others(trial)) for trial in trials]


def _mean_of_others(trial: Trial) -> dpl.PromptLayout:
    same = [r for r in read_records(trial.results) if (r["arm"], r["seed"], r["shots"]) == ("search", trial.seed, SHOTS)]
    others = [record["layout"] for record in same if record["task"] != trial.task.name]
    if not others:
        raise DplError("transfer: there are no layouts of other tasks yet; run the arm search first")
    options = range(LONGEST + 1)

    def scores(branch: str) -> list[list[float]]:
        means = [sum(lengths) / len(lengths) for lengths in zip(*(layout[branch] for layout in others), strict=True)]
        return [[-((option - mean) ** 2) for option in options] for mean in means]

    budget = TOKENS_PER_LAYER * sum(trial.depths)
    return dpl.PromptLayout.from_scores(scores("image"), scores("text"), options, budget)


@cache
def random_layouts(depths: Depths) -> tuple[dpl.PromptLayout, ...]:
    """Drawn evenly from all layouts of 0 to 12 tokens a layer that have 6 tokens a layer on average."""
    rng, rows, found = random.Random(2026), sum(depths), []
    while len(found) < RANDOM_LAYOUTS:
        lengths = [rng.randint(0, LONGEST) for _ in range(rows)]
        if sum(lengths) == TOKENS_PER_LAYER * rows:
            found.append(dpl.PromptLayout(tuple(lengths[: depths[0]]), tuple(lengths[depths[0] :])))
    return tuple(found)


def _random(index: int) -> Callable[[Depths], dpl.PromptLayout]:
    return lambda depths: random_layouts(depths)[index]


def searched(
    config: dpl.SearchConfig | None = None,
    inherit: bool = True,
    layout: Callable[[Depths], dpl.PromptLayout] | None = None,
    make: MakeMethod | None = None,
) -> Arm:
    """Our search, or the method that `make` makes, and its own prompts, or fresh ones; in another `layout` if given."""

    def find(trial: Trial) -> Found:
        settings, start = config or dpl.SearchConfig(), time.perf_counter()
        found = dpl.search_layout(trial.backbone, trial.task, trial.shots, settings, seed=trial.seed, make=make)
        seconds = time.perf_counter() - start
        chosen = layout(trial.depths) if layout else found.layout
        prompts = found.method.prompts_in(chosen) if inherit else None
        steps, images = _cost(found, trial.shots, settings)
        return Found(chosen, prompts, steps=steps, images=images, seconds=seconds)

    return lambda trials: [find(trial) for trial in trials]


def _cost(found: SearchResult, shots: FewShot, config: dpl.SearchConfig) -> tuple[int, int]:
    """Steps and images of a search."""
    epochs, images, val = len(found.history), len(shots.train), len(shots.val)
    steps = -(-images // config.batch_size)
    judged = val if config.method == "pruning" else steps * min(val, config.validation_batch_size)
    return epochs * steps, epochs * (images + judged)


def halves(trials: Sequence[Trial]) -> list[Found]:
    """The layout of most saliency in two searches on halves of all shots that swap roles; then fresh prompts."""
    return [_by_halves(trial) for trial in trials]


def _by_halves(trial: Trial) -> Found:
    groups = by_class((*trial.shots.train, *trial.shots.val)).values()
    one, other = (tuple(item for group in groups for item in group[first::2]) for first in (0, 1))
    draws, config, start = [FewShot(one, other), FewShot(other, one)], dpl.SearchConfig(), time.perf_counter()
    found = [dpl.search_layout(trial.backbone, trial.task, shots, config, seed=trial.seed) for shots in draws]
    branches = zip(*(each.method.scores() for each in found), strict=True)
    image, text = (torch.tensor(scores).sum(dim=0) for scores in branches)
    layout = dpl.PromptLayout.from_scores(image.tolist(), text.tolist(), config.options, config.tokens(sum(trial.depths)))
    steps, images = map(sum, zip(*(_cost(*pair, config) for pair in zip(found, draws, strict=True)), strict=True))
    return Found(layout, steps=steps, images=images, seconds=time.perf_counter() - start)


SHARPEST = 1 / 16  # the temperature of the alphas' softmax in the last epoch; 1 in the first


class SharpenedMixture(MixtureSearch):
    """The paper's alphas at a temperature that falls epoch by epoch, so that the mixture comes close to one option a layer.

    It divides the alphas themselves, so that a step of theirs stays as large as it was, seen by the softmax.
    """

    def finish_epoch(self, validation: Validation, epoch: int, history: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """As the mixture's; then the next epoch's temperature."""
        record = super().finish_epoch(validation, epoch, history)
        if epoch + 1 < self._config.epochs:
            with torch.no_grad():
                for layer in self._layers:
                    layer.alphas.div_(SHARPEST ** (1 / (self._config.epochs - 1)))
        return record


def released(trials: Sequence[Trial]) -> list[Found]:
    """The paper's search as released."""
    start = time.perf_counter()
    layouts = search_as_released(trials[0].task, [(trial.shots, trial.seed) for trial in trials], trials[0].backbone)
    seconds = (time.perf_counter() - start) / len(trials)
    found = []
    for trial, layout in zip(trials, layouts, strict=True):
        images = len(trial.shots.train)
        steps = CONFIG.epochs * (images // CONFIG.batch_size or 1)  # it drops the last batch if that is not full
        judged = min(len(trial.shots.val), CONFIG.validation_batch_size)
        found.append(Found(layout, steps=steps, images=steps * (min(images, CONFIG.batch_size) + judged), seconds=seconds))
    return found


_MIXTURE = dpl.SearchConfig(method="mixture", options=(0, 2, 4, 6, 8, 10, 12), patience=0)

ARMS: dict[str, Arm] = {  # in the order in which the study runs them
    "zero-shot": given(_both(0)),
    "search": searched(),
    "uniform-both-6": given(_both(6)),
    # What brings what: the layout alone, the search's prompts without its layout, a layout found elsewhere, more epochs.
    "search:fresh": searched(inherit=False),
    "search:uniform": searched(layout=_both(6)),
    "transfer": transferred,
    "longer-both-6": given(_both(6), share=SEARCH_SHARE),
    **{f"uniform-both-{length}": given(_both(length)) for length in (4, 2, 1)},
    **{f"uniform-image-{length}": given(_image(length)) for length in LENGTHS},
    **{f"uniform-text-{length}": given(_text(length)) for length in LENGTHS},
    **{f"random-{index + 1:02}": given(_random(index)) for index in range(RANDOM_LAYOUTS)},
    # What fewer tokens cost, and how much of their gain is more epochs.
    **{f"search:budget-{budget}": searched(dpl.SearchConfig(budget=budget)) for budget in (4, 2, 1)},
    **{f"longer-both-{length}": given(_both(length), share=SEARCH_SHARE) for length in (4, 2, 1)},
    "half-both-4": given(_first_half(_both(4))),
    "half-image-4": given(_first_half(_image(4))),
    "half-text-4": given(_first_half(_text(4))),
    "image-12": given(_image(12)),
    "longer-image-12": given(_image(12), share=SEARCH_SHARE),
    # The paper's scores in our frame.
    "search:mixture": searched(_MIXTURE),
    "search:mixture-fresh": searched(_MIXTURE, inherit=False),
    # What was tried to make either better.
    "search:mixture-sharpened": searched(_MIXTURE, make=SharpenedMixture),
    "search:halves-fresh": halves,
    # It sees 21 times the images of a training, so it comes last.
    "paper": released,
}
FEW_SHOTS = ("zero-shot", *(f"uniform-both-{length}" for length in LENGTHS), "search", "paper")
