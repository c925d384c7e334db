"""Whether a search in bf16 finds the layout that it finds in fp32: how often, per row.

    python -m benchmarks precision --seeds 1 2 3

The same shots, prompts and batches in both; a row is one layer of one branch. Beside it, what chance and what noise do: the
agreement of two fp32 searches that differ in their seed.
"""

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

import dpl
from benchmarks.timing import markdown
from dpl.backbones.loading import Precision
from dpl.config import SearchConfig
from dpl.files import read_json, write_json

BRANCHES = ("image", "text")


@dataclass(frozen=True)
class Settings:
    """What to run."""

    data: str = "digits"
    """A task of dpl."""
    shots: int = 16
    """Images per class."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Seeds of shots and search."""
    epochs: int = 20
    """Of the search; it never stops early here."""
    out: Path = Path("runs/benchmark/precision.json")
    """The layouts; those that are there are not searched again."""


def main(settings: Settings) -> None:
    """Prints the rows that agree."""
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = read_json(settings.out) if settings.out.exists() else {}
    for seed in settings.seeds:
        for precision in ("fp32", "bf16"):
            key = f"{settings.data}, {settings.shots} shots, {settings.epochs} epochs, seed {seed}, {precision}"
            if key not in found:
                found[key] = _search(settings, seed, precision)
                write_json(settings.out, found)
            print(f"{key}: {found[key]['layout']}", flush=True)
    layouts = {
        (seed, precision): found[f"{settings.data}, {settings.shots} shots, {settings.epochs} epochs, seed {seed}, {precision}"]
        for seed in settings.seeds
        for precision in ("fp32", "bf16")
    }
    pairs = [(f"seed {seed}, fp32 and bf16", layouts[seed, "fp32"], layouts[seed, "bf16"]) for seed in settings.seeds]
    pairs += [(f"fp32, seeds {a} and {b}", layouts[a, "fp32"], layouts[b, "fp32"]) for a, b in combinations(settings.seeds, 2)]
    print(markdown(["searches", "rows that agree", "largest difference of a probability"], [_row(*pair) for pair in pairs]))


def _search(settings: Settings, seed: int, precision: Precision) -> dict[str, Any]:
    task, backbone = dpl.load_task(settings.data), dpl.load_backbone("tiny", precision=precision)
    config = SearchConfig(epochs=settings.epochs, patience=0)
    result = dpl.search_layout(backbone, task, dpl.sample(task, settings.shots, seed), config, seed=seed)
    layout = {"image": result.layout.image, "text": result.layout.text}
    return {"layout": layout, "alphas": result.history[-1]["alphas"]}


def _row(name: str, one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    rows = [pair for branch in BRANCHES for pair in zip(one["layout"][branch], other["layout"][branch], strict=True)]
    probs = [torch.cat([torch.tensor(run["alphas"][branch]).softmax(dim=-1) for branch in BRANCHES]) for run in (one, other)]
    return [name, f"{sum(a == b for a, b in rows)} of {len(rows)}", f"{(probs[0] - probs[1]).abs().max():.3f}"]
