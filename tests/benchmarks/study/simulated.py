"""Records of a study that never ran, with known effects."""

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.study.statistics import EQUAL_BUDGET, LONGER, OURS, PAPER, UNIFORM, ZERO_SHOT, Record

EFFECTS = {
    ZERO_SHOT: -20.0, **{arm: -1.0 for arm in UNIFORM}, EQUAL_BUDGET: 0.0, "uniform-image-6": 0.5,
    "half-both-4": -2.0, "half-image-4": -3.0, "half-text-4": -4.0, LONGER: 0.2, PAPER: 0.4, OURS: 1.5,
    f"{OURS}:fresh": 1.0, f"{OURS}:mixture": 0.5, f"{OURS}:budget-4": 1.2, f"{OURS}:budget-2": 0.8,
}  # fmt: skip
RANDOM = tuple(f"random-{index:02d}" for index in range(1, 21))
STEPS = {ZERO_SHOT: 0, OURS: 280, PAPER: 500, LONGER: 280}


def simulate(
    tasks: Sequence[str] = ("digits", "eurosat", "pets"),
    seeds: int = 3,
    effects: Mapping[str, float] = EFFECTS,
    layout_sd: float = 0.0,
    seed_sd: float = 0.0,
    noise_sd: float = 0.0,
    draw: int = 0,
) -> list[Record]:
    """All arms at 16 shots, the few of 1 and 4; effects and standard deviations in points.

    A task's accuracy without effects is 70, 75, 80, ... percent. The random layouts' own effects are drawn per task around 0.
    Fewer shots shrink all but zero-shot. The validation loss is 1 - accuracy without the noise.
    """
    rng = np.random.default_rng(draw)
    records = []
    for index, task in enumerate(tasks):
        own = {arm: layout_sd * rng.standard_normal() for arm in RANDOM}
        for seed in range(1, seeds + 1):
            lift = seed_sd * rng.standard_normal()
            for shots in (1, 4, 16):
                for arm, effect in {**effects, **(own if shots == 16 else {})}.items():
                    if shots < 16 and not (arm in (ZERO_SHOT, PAPER, OURS) or arm.startswith("uniform-both")):
                        continue
                    points = 70 + 5 * (index % 5) + effect
                    if arm != ZERO_SHOT:
                        points += lift - {1: 22, 4: 8, 16: 0}[shots]
                    noise = 0.0 if arm == ZERO_SHOT else noise_sd * rng.standard_normal()
                    records.append(record(task, shots, seed, arm, (points + noise) / 100, 1 - points / 100))
    return records


def record(task: str, shots: int, seed: int, arm: str, accuracy: float, loss: float = 1.0) -> Record:
    """One result."""
    steps = STEPS.get(arm, 200)
    return {
        "task": task, "shots": shots, "seed": seed, "arm": arm, "accuracy": accuracy, "validation_loss": loss,
        "unscaled_accuracy": accuracy - 0.01 * (arm == OURS), "validation_accuracy": accuracy,
        "layout": layout_of(task, seed, arm), "steps": steps, "images": 16 * steps,
        "seconds": {"search": 1.0 if arm == OURS else 0.0, "train": steps / 50}, "commit": "abc1234",
    }  # fmt: skip


def layout_of(task: str, seed: int, arm: str) -> dict[str, list[int]]:
    """Six layers a branch: as the arm's name says, else drawn; ours is the task's own but for one row of each seed."""
    kind, *rest = arm.split("-")
    if kind in ("uniform", "half", "longer"):
        depth = 3 if kind == "half" else 6
        lengths = [int(rest[1])] * depth + [0] * (6 - depth)
        return {branch: lengths if rest[0] in ("both", branch) else [0] * 6 for branch in ("image", "text")}
    if arm == ZERO_SHOT:
        return {"image": [0] * 6, "text": [0] * 6}
    rows = np.random.default_rng([*(arm if kind == "random" else f"{kind} {task}").encode()]).integers(0, 9, 12)
    if kind != "random":
        rows[seed % 12] += 1
    return {"image": rows[:6].tolist(), "text": rows[6:].tolist()}


def rows(table: str) -> dict[str, list[str]]:
    """The cells of every row after its first, by the first."""
    lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]
    return {first: rest for first, *rest in lines}
