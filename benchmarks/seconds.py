"""What a search costs in seconds: `dpl.fit`'s two stages against the training alone and against the paper's search.

Each is run in turn on the same shots, by the code that users run. Of the paper's search one epoch is timed and counted as
often as it has epochs, and the training after it is that of the others.
"""

from dataclasses import dataclass, replace

import torch

import dpl
from benchmarks.study.released import CONFIG
from benchmarks.timing import markdown, medians, ratio, rounds, session
from dpl.data.fewshot import FewShot
from dpl.data.task import Task
from dpl.utils.errors import DplError


@dataclass(frozen=True)
class Settings:
    """What to time."""

    tasks: tuple[str, ...] = ("digits", "turned", "outlines")
    """Tasks of dpl."""
    shots: int = 16
    """Images per class."""
    rounds: int = 3
    """How often each is timed; the table has medians."""
    length: int = 6
    """Prompts in every layer of the training alone: as many tokens as the search may spend."""


def main(settings: Settings) -> None:
    """Prints a table, and the machine that made it."""
    if settings.rounds < 1:
        raise DplError(f"rounds {settings.rounds}: must be 1 at least")
    backbone = dpl.load_backbone()
    rows = [_row(backbone, dpl.load_task(name), settings) for name in settings.tasks]
    header = ["task", "training, s", "search and training, s", "times", "the paper's, s", "times"]
    print(markdown(header, rows))
    about = session(torch.device("cpu"))
    print(f"\n{about['command']}: {about['processor']}, {about['threads']} threads, load {about['load']:.1f}")


def _row(backbone: dpl.Backbone, task: Task, settings: Settings) -> list[str]:
    shots = dpl.sample(task, settings.shots, seed=1)
    measured = medians(list(rounds(_stages(backbone, task, shots, settings.length), settings.rounds, backbone.device, 0)))
    paper = measured["training"] + CONFIG.epochs * measured["epoch"]
    times = {**measured, "paper": paper}
    shown = [f"{times[name]:.1f}" for name in ("training", "ours", "paper")]
    return [task.name, shown[0], shown[1], ratio(times, "ours", "training"), shown[2], ratio(times, "paper", "training")]


def _stages(backbone: dpl.Backbone, task: Task, shots: FewShot, length: int) -> dict:
    parts, uniform = (backbone, task, shots), dpl.PromptLayout.uniform(length, backbone.image.depth, backbone.text.depth)

    def ours() -> None:
        found = dpl.search_layout(*parts)
        dpl.train_prompts(*parts, found.layout, start=found.prompts)

    return {
        "training": lambda: dpl.train_prompts(*parts, uniform),
        "ours": ours,
        "epoch": lambda: dpl.search_layout(*parts, replace(CONFIG, epochs=1)),
    }
