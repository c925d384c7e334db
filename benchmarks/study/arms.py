"""The arms of the study: ways to come by a layout, every one followed by the same training.

An arm is a row of `ARMS`: what it does with the shots of a task, and what that cost. Random layouts are drawn once, so that
random-07 is the same layout for all tasks and seeds.
"""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from torch import Tensor

import dpl
from benchmarks.study.records import RESULTS, read_records
from benchmarks.study.released import CONFIG, search_as_released
from dpl.classifier import ClipClassifier
from dpl.data.fewshot import FewShot
from dpl.data.task import Task
from dpl.errors import DplError

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
class Outcome:
    """A classifier, and its cost: optimiser steps, images that went forward and backward, seconds of both stages."""

    model: ClipClassifier
    layout: dpl.PromptLayout
    steps: int = 0
    images: int = 0
    search_seconds: float = 0.0
    train_seconds: float = 0.0


Arm = Callable[[Trial], Outcome]


def zero_shot(trial: Trial) -> Outcome:
    """The frozen model with the task's first template."""
    model = dpl.ZeroShot(trial.backbone, trial.task.class_names, trial.task.templates[:1])
    return Outcome(model, dpl.PromptLayout.uniform(0, *trial.depths))


def trained(layout: Callable[[Depths], dpl.PromptLayout], cost: float = 1.0, start: Mapping[str, Tensor] | None = None) -> Arm:
    """Prompts in a given layout, fresh or from `start`, trained by the defaults, `cost` times as many epochs."""

    def arm(trial: Trial) -> Outcome:
        config, begun = dpl.TrainConfig(), time.perf_counter()
        config = replace(config, epochs=round(config.epochs * cost))
        chosen = layout(trial.depths)
        model = dpl.train_prompts(trial.backbone, trial.task, trial.shots, chosen, config, start=start, seed=trial.seed)
        images = len(trial.shots.train)
        steps = config.epochs * -(-images // config.batch_size)
        return Outcome(model, chosen, steps, config.epochs * images, train_seconds=time.perf_counter() - begun)

    return arm


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


def transferred(trial: Trial) -> Outcome:
    """Fresh prompts in the mean of the layouts that our search has found on the other tasks, same seed and shots."""
    same = [r for r in read_records(trial.results) if (r["arm"], r["seed"], r["shots"]) == ("search", trial.seed, SHOTS)]
    others = [record["layout"] for record in same if record["task"] != trial.task.name]
    if not others:
        raise DplError("transfer: there are no layouts of other tasks yet; run the arm search first")
    options = range(LONGEST + 1)

    def scores(branch: str) -> list[list[float]]:
        means = [sum(lengths) / len(lengths) for lengths in zip(*(layout[branch] for layout in others), strict=True)]
        return [[-((option - mean) ** 2) for option in options] for mean in means]

    layout = dpl.PromptLayout.from_scores(scores("image"), scores("text"), options, TOKENS_PER_LAYER * sum(trial.depths))
    return trained(lambda _: layout)(trial)


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
    config: dpl.SearchConfig | None = None, inherit: bool = True, layout: Callable[[Depths], dpl.PromptLayout] | None = None
) -> Arm:
    """Our search, then the default training from the search's own prompts, or from fresh ones; in another `layout` if given."""

    def arm(trial: Trial) -> Outcome:
        settings, start = config or dpl.SearchConfig(), time.perf_counter()
        parts = (trial.backbone, trial.task, trial.shots)
        found = dpl.search_layout(*parts, settings, seed=trial.seed)
        seconds = time.perf_counter() - start
        chosen = layout(trial.depths) if layout else found.layout
        prompts = found.method.prompts_in(chosen) if inherit else None
        training = trained(lambda _: chosen, start=prompts)(trial)
        train, val = len(trial.shots.train), len(trial.shots.val)
        steps = -(-train // settings.batch_size)
        judged = val if settings.method == "pruning" else steps * min(val, settings.validation_batch_size)
        epochs = len(found.history)
        return replace(
            training,
            steps=training.steps + epochs * steps,
            images=training.images + epochs * (train + judged),
            search_seconds=seconds,
        )

    return arm


def released(trial: Trial) -> Outcome:
    """The paper's search as released, then the same training as for every other layout."""
    start = time.perf_counter()
    layout = search_as_released(trial.backbone, trial.task, trial.shots, trial.seed)
    seconds = time.perf_counter() - start
    training, train = trained(lambda _: layout)(trial), len(trial.shots.train)
    steps = CONFIG.epochs * -(-train // CONFIG.batch_size)
    images = CONFIG.epochs * train + steps * min(len(trial.shots.val), CONFIG.validation_batch_size)
    return replace(training, steps=training.steps + steps, images=training.images + images, search_seconds=seconds)


_MIXTURE = dpl.SearchConfig(method="mixture", options=(0, 2, 4, 6, 8, 10, 12), patience=0)

ARMS: dict[str, Arm] = {  # in the order in which the study runs them
    "zero-shot": zero_shot,
    "search": searched(),
    "uniform-both-6": trained(_both(6)),
    # What brings what: the layout alone, the search's prompts without its layout, a layout found elsewhere, more epochs.
    "search:fresh": searched(inherit=False),
    "search:uniform": searched(layout=_both(6)),
    "transfer": transferred,
    "longer-both-6": trained(_both(6), cost=SEARCH_SHARE),
    **{f"uniform-both-{length}": trained(_both(length)) for length in (4, 2, 1)},
    **{f"uniform-image-{length}": trained(_image(length)) for length in LENGTHS},
    **{f"random-{index + 1:02}": trained(_random(index)) for index in range(RANDOM_LAYOUTS)},
    "paper": released,
    **{f"uniform-text-{length}": trained(_text(length)) for length in LENGTHS},
    "half-both-4": trained(_first_half(_both(4))),
    "half-image-4": trained(_first_half(_image(4))),
    "half-text-4": trained(_first_half(_text(4))),
    "image-12": trained(_image(12)),
    "longer-image-12": trained(_image(12), cost=SEARCH_SHARE),
    "longer-both-4": trained(_both(4), cost=SEARCH_SHARE),
    # The paper's scores in our frame, and what fewer tokens cost.
    "search:mixture": searched(_MIXTURE),
    "search:mixture-fresh": searched(_MIXTURE, inherit=False),
    **{f"search:budget-{budget}": searched(dpl.SearchConfig(budget=budget)) for budget in (4, 2, 1)},
}
FEW_SHOTS = ("zero-shot", *(f"uniform-both-{length}" for length in LENGTHS), "paper", "search")
