"""Settings of tracked runs, and their records as TensorBoard's own reader reads them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import dpl.track
from dpl import FitRun, SearchConfig, TrainConfig

RESULTS = ("class_features.safetensors", "explanation.safetensors", "head.safetensors", "layout.json", "prompts.safetensors")
STEPS = 8  # two epochs of two steps in both stages
EVERY = dpl.track.EVERY  # the tests log every step


class Killed(BaseException):
    """Stands for a kill of the process; it is no Exception, so that nothing catches it."""


def settings(images: Path, checkpoint: Path, out: Path, *track: Any) -> FitRun:
    return FitRun(
        data=str(images),
        backbone=str(checkpoint),
        shots=4,
        out=out,
        track=track,
        search=SearchConfig(epochs=2, batch_size=6, options=(0, 1, 3), patience=0),
        train=TrainConfig(epochs=2, batch_size=6),
    )


def words(images: Path, checkpoint: Path, out: Path, *track: str) -> list[str]:
    return ["fit", str(images), "--backbone", str(checkpoint), "--out", str(out), "--layout", "1", "--track", *track]


def history(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def metrics(run: Path) -> dict[str, Any]:
    return json.loads((run / "metrics.json").read_text())


def outcome(run: Path) -> dict[str, Any]:
    records = [{name: value for name, value in record.items() if name != "seconds"} for record in history(run)]
    reached = {name: value for name, value in metrics(run).items() if name not in ("seconds", "peak_memory_bytes")}
    return {name: (run / name).read_bytes() for name in RESULTS} | {"history": records, "metrics": reached}


def events(run: Path) -> EventAccumulator:
    return EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0}).Reload()


def scalars(run: Path) -> dict[str, dict[int, float]]:
    """Reads the scalars of a run by name and step; fails if a step occurs twice."""
    found = events(run)
    read = {name: [(event.step, event.value) for event in found.Scalars(name)] for name in found.Tags()["scalars"]}
    assert all(len(dict(pairs)) == len(pairs) for pairs in read.values())
    return {name: dict(pairs) for name, pairs in read.items()}


def about_tracking(said: list[str]) -> list[str]:
    return [text for text in said if text.startswith("--track")]


def stop_after(step: int) -> Callable[..., None]:
    steps = iter(range(1, 99))

    def stop(*_: object) -> None:
        if next(steps) == step:
            raise Killed

    return stop
