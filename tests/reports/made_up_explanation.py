"""A made-up explanation of a run, in the files as they lie in its folder: examples with maps, confusions, prompts, costs."""

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

HEADS = {"image": 4, "text": 3}


def explain(run: Path, size: int = 48, seed: int = 7) -> None:
    """Gives the finished run `run` what newer runs have: explanation.json and .safetensors, calibration and cost."""
    draw, pixels = random.Random(seed), np.random.default_rng(seed)
    config, metrics, layout = (json.loads((run / f"{name}.json").read_text()) for name in ("config", "metrics", "layout"))
    names = config["task"]["class_names"]
    examples = [_example(draw, len(names), place, kind) for place, kind in enumerate(KINDS)]
    confusions, count = [], 0
    for pair in metrics["confusions"]:
        pictures = list(range(count, count + min(pair["count"], 3)))
        count += len(pictures)
        labels = {key: names.index(pair[key]) for key in ("true", "predicted")}
        confusions.append({**labels, "count": pair["count"], "pictures": pictures, "names": [f"test/{p}.png" for p in pictures]})
    found = {
        "models": ["zero-shot", "tuned"],
        "examples": examples,
        "confusions": confusions,
        "attention": {
            branch: [[draw.uniform(0.02, 0.4) if length else 0.0 for _ in range(HEADS[branch])] for length in layout[branch]]
            for branch in HEADS
        },
        "prompts": _prompts(draw, layout),
    }
    (run / "explanation.json").write_text(json.dumps(found))
    small = min(size, 96)
    confused = [_picture(pixels, small) for _ in range(count)]
    tensors = {
        "pictures": np.stack([_picture(pixels, size) for _ in examples]),
        "maps": np.stack([[_map(pixels), _map(pixels)] for _ in examples]),
        "confused": np.array(confused, np.uint8).reshape(-1, 3, small, small),
    }
    tensors["maps"][-1] = 0  # nothing speaks for the class
    (run / "explanation.safetensors").write_bytes(save(tensors))
    more = {"seconds": 48.2, "peak_memory_bytes": 610516992, "calibration": _calibrations(metrics), "cost": _cost(layout)}
    (run / "metrics.json").write_text(json.dumps(metrics | more))


KINDS = ("repaired", "repaired", "repaired", "spoiled", "spoiled", "wrong", "right", "right")


def _example(draw: random.Random, classes: int, place: int, kind: str) -> dict[str, Any]:
    label = place % classes
    other = (label + 1) % classes
    zero, tuned = {"repaired": (other, label), "spoiled": (label, other), "wrong": (other, other), "right": (label, label)}[kind]
    predictions = [{"label": named, "probability": draw.uniform(0.3, 1.0)} for named in (zero, tuned)]
    return {"name": f"test/{place:03}.png", "label": label, "kind": kind, "predictions": predictions}


def _prompts(draw: random.Random, layout: dict[str, list[int]]) -> dict[str, Any]:
    def layers(branch: str) -> list[dict[str, Any]]:
        numbered = enumerate(layout[branch], start=1)
        return [{"layer": n, "norms": [draw.uniform(0.3, 0.9) for _ in range(length)]} for n, length in numbered if length]

    def words() -> list[dict[str, Any]]:
        return [{"word": draw.choice(["photo", "seven", "of", "<b>"]), "cosine": 0.35 - 0.05 * near} for near in range(3)]

    text = [layer | {"words": [words() for _ in layer["norms"]]} for layer in layers("text")]
    return {"image": layers("image"), "text": text, "token_norm": 0.42, "chance": 0.33}


def _picture(pixels: np.random.Generator, size: int) -> np.ndarray:
    """(3, size, size): a smooth ground with a bright disc somewhere."""
    y, x = np.mgrid[:size, :size] / size
    centre, ground = pixels.uniform(0.25, 0.75, 2), pixels.uniform(30, 120, 3)
    disc = np.hypot(y - centre[0], x - centre[1]) < 0.2
    picture = ground[:, None, None] * (0.6 + 0.4 * x) + 120 * disc
    return (picture + pixels.normal(0, 6, picture.shape)).clip(0, 255).astype(np.uint8)


def _map(pixels: np.random.Generator) -> np.ndarray:
    heat = pixels.random((6, 6), np.float32) ** 3
    return heat / heat.max()


def _calibrations(metrics: dict[str, Any]) -> dict[str, Any]:
    return {
        "tuned": _calibration(metrics["test_images"], 0.9, 0.02),
        "zero_shot": _calibration(metrics["test_images"], 0.45, 0.12),
    }


def _calibration(images: int, peak: float, apart: float) -> dict[str, Any]:
    """Bins around `peak`, in which the model is by `apart` more sure than right; the lowest ones are empty."""
    middles = [(place + 0.5) / 15 for place in range(15)]
    counts = [int(images / 5 * math.exp(-(((middle - peak) / 0.2) ** 2))) for middle in middles]
    bins = [
        {"images": count, "confidence": middle if count else None, "accuracy": max(middle - apart, 0.0) if count else None}
        for count, middle in zip(counts, middles, strict=True)
    ]
    total = sum(counts)
    ece = sum(step["images"] * abs(step["confidence"] - step["accuracy"]) for step in bins if step["images"]) / total
    return {"ece": ece, "bins": bins}


def _cost(layout: dict[str, list[int]]) -> dict[str, Any]:
    def cost(image: float, text: float) -> dict[str, float]:
        return {"image": 0.024 * (1 + 0.004 * image), "classes": 0.09 * (1 + 0.003 * text)}

    layers = len(layout["image"])
    uniform = [{"length": length, **cost(length * layers, length * layers)} for length in (1, 2, 4, 6, 8, 12)]
    return {**cost(sum(layout["image"]), sum(layout["text"])), "frozen": cost(0, 0), "uniform": uniform}
