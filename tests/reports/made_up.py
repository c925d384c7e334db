"""A made-up but plausible run folder: alphas or saliency that converge, losses that fall, ten classes."""

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dpl.prompts.layout import PromptLayout
from dpl.reports.web.alphas import softmax
from dpl.utils.statistics import wilson_interval
from tests.reports.made_up_explanation import explain

OPTIONS = [0, 1, 2, 3, 4, 5, 6]
BUDGET = 2.5
WIDTH = {"image": 144, "text": 128}


def write_run(
    run: Path,
    *,
    classes: list[str] | None = None,
    layers: int = 6,
    options: list[int] | None = None,
    epochs: int = 25,
    search: bool = True,
    method: str = "mixture",
    seed: int = 7,
    size: int | None = 48,
) -> Path:
    """Writes the run folder `run` as `dpl fit` would (`search=False`: as `dpl train`); same arguments, same bytes.

    One of the `method` "mixture" is like those from before there was another. `size` is that of the pictures in its
    explanation; None leaves that, calibration and cost out, as in older runs.
    """
    draw = random.Random(seed)
    names, options = classes or [str(digit) for digit in range(10)], options or OPTIONS
    history, layout = SEARCHES[method](draw, layers, options, epochs)
    if not search:
        history, layout = [], {"image": [4] * layers, "text": [4] * layers}
    history += [
        {"stage": "train", "epoch": epoch, "loss": 0.22 + 1.9 * math.exp(-epoch / 8) + draw.uniform(0, 0.06),
         "accuracy": 0.94 - 0.5 * math.exp(-epoch / 9) + draw.uniform(-0.02, 0.02), "lr": 5e-3, "seconds": 0.5}
        for epoch in range(60)
    ]  # fmt: skip
    run.mkdir(parents=True, exist_ok=True)
    write_json(run / "config.json", _config(names, layers, options, search, method))
    write_json(run / "layout.json", layout)
    write_json(run / "metrics.json", _metrics(draw, names, layout))
    (run / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in history))
    (run / "prompts.safetensors").write_bytes(b"")
    if size is not None:
        explain(run, size)
    return run


def edit_json(path: Path, *, remove: tuple[str, ...] = (), **fields: Any) -> None:
    """Sets and removes fields of the JSON file `path`."""
    data = json.loads(path.read_text(encoding="utf-8")) | fields
    write_json(path, {key: value for key, value in data.items() if key not in remove})


def edit_history(path: Path, number: int, change: Callable[[dict[str, Any]], Any]) -> None:
    """Applies `change` to line `number` (from 1) of a history.jsonl."""
    lines = path.read_text(encoding="utf-8").splitlines()
    line = json.loads(lines[number - 1])
    change(line)
    path.write_text("\n".join([*lines[: number - 1], json.dumps(line), *lines[number:]]), encoding="utf-8")


def write_json(path: Path, data: Any) -> None:
    """Writes `data` to `path`."""
    path.write_text(json.dumps(data), encoding="utf-8")


def _mixture(draw: random.Random, layers: int, options: list[int], epochs: int) -> tuple[list[dict], dict[str, list[int]]]:
    """Alphas that drift to one option per layer, some layers later than others, one hardly at all."""
    places = range(len(options))
    goals = {branch: [draw.choices(places, [4, *[1] * (len(options) - 1)])[0] for _ in range(layers)] for branch in WIDTH}
    speed = {branch: [draw.uniform(0.05, 0.28) for _ in range(layers)] for branch in WIDTH}
    speed["image"][-1] = 0.01
    alphas = {branch: [[draw.gauss(0, 1e-3) for _ in options] for _ in range(layers)] for branch in WIDTH}
    history = []
    for epoch in range(epochs):
        before = {branch: [softmax(row) for row in alphas[branch]] for branch in WIDTH}
        for branch in WIDTH:
            for layer, row in enumerate(alphas[branch]):
                for place in places:
                    pull = 1 if place == goals[branch][layer] else -0.35 * abs(place - goals[branch][layer]) / 2
                    row[place] += speed[branch][layer] * pull * math.exp(-epoch / 14) + draw.gauss(0, 0.012)
        after = {branch: [softmax(row) for row in alphas[branch]] for branch in WIDTH}
        history.append(
            {
                **_epoch(draw, epoch),
                "alphas": {branch: [list(row) for row in alphas[branch]] for branch in WIDTH},
                "alpha_difference": {branch: _difference(before[branch], after[branch]) for branch in WIDTH},
                "dominants": {branch: sum(max(row) > 0.5 for row in after[branch]) for branch in WIDTH},
                "layout": {branch: [options[row.index(max(row))] for row in alphas[branch]] for branch in WIDTH},
            }
        )
    return history, history[-1]["layout"]


def _pruning(draw: random.Random, layers: int, options: list[int], epochs: int) -> tuple[list[dict], dict[str, list[int]]]:
    """Saliency of which few prompts hold the most, as they do; a running mean settles it."""
    strength = {branch: [draw.gauss(0, 1.5) for _ in range(layers)] for branch in WIDTH}
    rows: dict[str, list[list[float]]] = {}
    history = []
    for epoch in range(epochs):
        drawn = {
            branch: [[math.exp(draw.gauss(mean, 2.0)) for _ in range(max(options))] for mean in means]
            for branch, means in strength.items()
        }
        total = sum(sum(map(sum, drawn[branch])) for branch in WIDTH)
        fresh = {branch: [sorted((x / total for x in row), reverse=True) for row in drawn[branch]] for branch in WIDTH}
        rows = {branch: _mean(rows[branch], fresh[branch]) for branch in WIDTH} if rows else fresh
        image, text = ([[sum(row[:option]) for option in options] for row in rows[branch]] for branch in ("image", "text"))
        layout = PromptLayout.from_scores(image, text, options, int(2 * layers * BUDGET))
        history.append({**_epoch(draw, epoch), "saliency": rows, "layout": layout.to_dict()})
    return history, history[-1]["layout"]


def _mean(before: list[list[float]], fresh: list[list[float]]) -> list[list[float]]:
    return [[(a + b) / 2 for a, b in zip(*rows, strict=True)] for rows in zip(before, fresh, strict=True)]


SEARCHES = {"mixture": _mixture, "pruning": _pruning}


def _epoch(draw: random.Random, epoch: int) -> dict[str, Any]:
    return {
        "stage": "search",
        "epoch": epoch,
        "train_loss": 0.6 + 1.7 * math.exp(-epoch / 7) + draw.uniform(0, 0.08),
        "validation_loss": 0.75 + 1.5 * math.exp(-epoch / 6) + draw.uniform(0, 0.15),
        "lr": 5e-3,
        "seconds": 1.2,
    }


def _difference(before: list[list[float]], after: list[list[float]]) -> float:
    changes = [abs(b - a) for old, new in zip(before, after, strict=True) for b, a in zip(old, new, strict=True)]
    return sum(changes) / len(changes)


def _config(names: list[str], layers: int, options: list[int], search: bool, method: str) -> dict[str, Any]:
    stages: dict[str, Any] = {"train": {"epochs": 60, "batch_size": 32, "lr": 5e-3, "distill": 0.0}}
    if not search:
        stages["layout"] = "4"
    if search:
        stages["search"] = {"epochs": 30, "options": options, "alpha_lr": 3e-2, "lr": 5e-3, "patience": 5}
    if search and method == "pruning":
        stages |= {"search": stages["search"] | {"method": "pruning", "budget": BUDGET}, "inherit": True}
    return {
        "dpl": "0.1.0",
        "kind": "fit" if search else "train",
        "data": "digits",
        "task": {
            "name": "digits",
            "class_names": names,
            "templates": ["a photo of the digit {}.", "a drawing of the number {}.", "the handwritten digit {}."],
            "test_images": 54 * len(names),
        },
        "backbone": {
            "name": "tiny",
            "fingerprint": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "image_size": 48,
            "layers": dict.fromkeys(WIDTH, layers),
            "width": WIDTH,
        },
        "settings": {
            "preset": "default",
            "backbone": "tiny",
            "shots": 16,
            "seed": 1,
            "prompt_std": 0.05,
            "device": "auto",
        }
        | stages,
        "versions": {"python": "3.11.7", "torch": "2.13.0+cpu", "transformers": "5.23.0"},
        "command": "dpl fit digits --shots 16 --seed 1" if search else "dpl train digits --layout 4 --shots 16 --seed 1",
    }


def _metrics(draw: random.Random, names: list[str], layout: dict[str, list[int]]) -> dict[str, Any]:
    rows = []
    for name in names:
        zero, tuned = draw.randrange(8, 44), draw.randrange(40, 54)
        rows.append({"name": name, "images": 54, "accuracy": tuned / 54, "zero_shot_accuracy": zero / 54})
    images = 54 * len(names)
    accuracy, zero_shot = (sum(row[key] for row in rows) / len(rows) for key in ("accuracy", "zero_shot_accuracy"))
    pairs = [draw.sample(names, 2) for _ in range(10)]
    counts = sorted((draw.randrange(2, 9) for _ in pairs), reverse=True)
    return {
        "accuracy": accuracy,
        "accuracy_interval": wilson_interval(round(accuracy * images), images),
        "zero_shot_accuracy": zero_shot,
        "zero_shot_interval": wilson_interval(round(zero_shot * images), images),
        "zero_shot_ensemble_accuracy": zero_shot + 0.015,
        "classes": len(names),
        "class_names": names,
        "shots": 16,
        "seed": 1,
        "test_images": images,
        "layout_tokens": sum(layout["image"]) + sum(layout["text"]),
        "trainable_parameters": sum(sum(layout[branch]) * WIDTH[branch] for branch in WIDTH),
        "per_class": rows,
        "confusions": [
            {"true": true, "predicted": predicted, "count": count} for (true, predicted), count in zip(pairs, counts, strict=True)
        ],
    }
