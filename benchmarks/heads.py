"""The heads on tasks whose class names mean something to the model and on tasks whose names mean nothing.

    python -m benchmarks heads --shots 16 --seeds 3

Every task is fitted once per seed with the defaults of `dpl fit`; the features of the shots and the test images are stored, and
all heads and the linear probes are computed from them. A stopped command goes on where it was.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.timing import markdown
from dpl.backbones.loading import Backbone
from dpl.config import FitRun, HeadName
from dpl.data.fewshot import sample
from dpl.data.load import load_task
from dpl.data.task import Item, Task
from dpl.features import embed_items
from dpl.head_selection import choose_among
from dpl.heads import Shots
from dpl.methods.dpl import Dpl
from dpl.methods.method import Inputs
from dpl.optim.logistic import best_c, logistic_regression
from dpl.train import embed_shots, train
from dpl.utils.errors import DplError
from dpl.utils.statistics import mean_interval

DIRECTIONS = ("upright", "rising to the right", "level", "falling to the right")


def _relabelled(task: Task, names: tuple[str, ...], change: Callable[[Item], Item]) -> Task:
    train, val, test = (tuple(map(change, items)) for items in (task.train, task.val, task.test))
    return replace(task, class_names=names, train=train, val=train if task.val is task.train else val, test=test)


def _codes(task: Task) -> Task:
    """Codes in place of names."""
    draw = random.Random(0)
    codes = (f"type {draw.randint(1, 9)}{draw.choice('bcdfghkmnpqrstvwxz')}{label}" for label in range(len(task.class_names)))
    return replace(task, class_names=tuple(codes))


def _directions(task: Task) -> Task:
    """Stripes in steps of 15 degrees from upright, in four classes."""

    def change(item: Item) -> Item:
        place = {0: 0, 6: 2}.get(item.label, 1 if item.label < 6 else 3)
        return Item(item.image, place, item.name)

    return _relabelled(task, DIRECTIONS, change)


def _upside_down(task: Task) -> Task:
    def change(item: Item) -> Item:
        assert isinstance(item.image, np.ndarray)
        return Item(np.ascontiguousarray(item.image[::-1]), item.label, item.name)

    return _relabelled(task, task.class_names, change)


TASKS: Mapping[str, Callable[[], Task]] = {
    "digits, codes as names": lambda: _codes(load_task("digits")),
    "stripes, four directions": lambda: _directions(load_task("stripes")),
    "lookalikes, upside down": lambda: _upside_down(load_task("lookalikes")),
    "digits": lambda: load_task("digits"),
    "counting": lambda: load_task("counting"),
    "outlines": lambda: load_task("outlines"),
}
TEXT_HEAD, PROBE = "text", "linear-probe"
ARMS = ("zero-shot", TEXT_HEAD, "residual", "auto", PROBE)


@dataclass(frozen=True)
class Settings:
    """What to compare."""

    tasks: tuple[str, ...] = tuple(TASKS)
    """Which tasks; all unless named."""
    shots: tuple[int, ...] = (16,)
    """Training images per class."""
    seeds: int = 3
    """Seeds 1 to this one."""
    features: Path = Path("runs/benchmark/heads")
    """The folder of the stored features."""


def main(settings: Settings) -> None:
    """Prints a table per number of shots."""
    if unknown := [name for name in settings.tasks if name not in TASKS]:
        raise DplError(f"--tasks {unknown[0]!r}: there are {', '.join(TASKS)}")
    from dpl.backbones.loading import load_backbone

    settings.features.mkdir(parents=True, exist_ok=True)
    backbone = load_backbone("tiny", "cpu", "fp32")
    for shots in settings.shots:
        rows = {name: [_measured(name, shots, 1 + seed, backbone, settings.features) for seed in range(settings.seeds)]
                for name in settings.tasks}  # fmt: skip
        print(f"\n{shots} shots, {settings.seeds} seeds, accuracy in %, t intervals over seeds\n")
        print(table(rows))


def _measured(name: str, shots: int, seed: int, backbone: Backbone, folder: Path) -> dict[str, float]:
    path = folder / f"{name.replace(', ', '-').replace(' ', '-')}-{shots}-{seed}.safetensors"
    if not path.exists():
        save_file(features(TASKS[name](), shots, seed, backbone), path)
    found = accuracies(load_file(path), seed)
    print(f"{name}, {shots} shots, seed {seed}: " + ", ".join(f"{arm} {100 * found[arm]:.1f}" for arm in ARMS), flush=True)
    return found


def features(task: Task, shots: int, seed: int, backbone: Backbone) -> dict[str, Tensor]:
    """Fits `task` with the defaults, and embeds shots and test images, with the prompt scale found and with 0."""
    config = FitRun(data=task.name, shots=shots, seed=seed)
    inputs = Inputs(backbone, task, sample(task, shots, seed))
    model = Dpl.start(config, inputs)
    model.prompt_scales = config.train.prompt_scales
    train(model, inputs, config.train, seed)
    few, kept = (*inputs.shots.train, *inputs.shots.val), dict[str, Tensor]()
    choices = model.scalar_choices
    for index, model.scalars in enumerate(choices):
        for part, items in (("shots", few), ("test", task.test)):
            seen = embed_shots(model, items)
            kept |= {f"{part}.{index}.logits": seen.text_logits, f"{part}.{index}.features": seen.image_features}
            kept |= {f"{part}.labels": seen.labels, "scale": torch.tensor(seen.scale)}
    for part, items in (("shots", few), ("test", task.test)):
        kept[f"{part}.frozen"] = embed_items(backbone, items)
    kept["train"] = torch.tensor(len(inputs.shots.train))
    return {key: tensor.contiguous() for key, tensor in kept.items()}


def accuracies(kept: Mapping[str, Tensor], seed: int) -> dict[str, float]:
    """The accuracy of every arm, 0-1, from stored features."""
    labels, truth, count = kept["shots.labels"], kept["test.labels"], int(kept["train"])

    def part(name: str, index: int) -> Shots:
        own = f"{name}.{index}"
        return Shots(kept[f"{own}.logits"], kept[f"{own}.features"], kept[f"{name}.labels"], float(kept["scale"]))

    def accuracy(logits: Tensor) -> float:
        return float((logits.argmax(dim=1) == truth).double().mean())

    indices = range(sum(key.startswith("shots.") and key.endswith(".logits") for key in kept))
    variants, unseen = [part("shots", index) for index in indices], torch.arange(len(labels)) >= count
    found = {"zero-shot": accuracy(part("test", indices[-1]).text_logits), TEXT_HEAD: accuracy(part("test", 0).text_logits)}
    kinds: Sequence[HeadName] = ("residual", "auto")
    for kind in kinds:
        index, _, head = choose_among(variants, unseen, kind, seed)
        test = part("test", index)
        logits, images = test.text_logits.float(), test.image_features.float()
        found[kind] = accuracy(head.logits(logits, images, test.scale) if head else logits)
    return found | {PROBE: accuracy(torch.from_numpy(_probe(kept, count)))}


def _probe(kept: Mapping[str, Tensor], count: int) -> np.ndarray:
    """The logits of the method linear-probe."""
    frozen, labels = kept["shots.frozen"].double().numpy(), kept["shots.labels"].numpy()
    classes = kept["shots.0.logits"].shape[1]

    def fitted(c: float) -> tuple[np.ndarray, np.ndarray]:
        return logistic_regression(frozen[:count], labels[:count], c, classes)

    def correct(c: float) -> int:
        weight, bias = fitted(c)
        return int(((frozen[count:] @ weight.T + bias).argmax(axis=1) == labels[count:]).sum())

    weight, bias = fitted(best_c(correct))
    return kept["test.frozen"].double().numpy() @ weight.T + bias


def table(rows: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """A row per task: every arm, and the paired differences of the default head from the text head and from the probe."""
    pairs = ((TEXT_HEAD, "auto - text"), (PROBE, "auto - probe"))
    lines = []
    for name, seeds in rows.items():
        cells = [_spread([one[arm] for one in seeds]) for arm in ARMS]
        lines.append([name, *cells, *(_spread([one["auto"] - one[other] for one in seeds], "+") for other, _ in pairs)])
    return markdown(["task", *ARMS, *(title for _, title in pairs)], lines)


def _spread(values: Sequence[float], sign: str = "") -> str:
    one = mean_interval([100 * value for value in values])
    half = "" if one.half is None else f" ± {one.half:.1f}"
    return f"{one.mean:{sign}.1f}{half}"
