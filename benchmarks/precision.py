"""Whether a search in bf16 finds the layout that it finds in fp32: how often, per row.

    python -m benchmarks precision --seeds 1 2 3

The same shots, prompts and batches in both; a row is one layer of one branch. Beside it, what chance and what noise do: the
agreement of two fp32 searches that differ in their seed.
"""

from dataclasses import astuple, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import dpl
from benchmarks.timing import markdown
from dpl.backbones.choices import Precision
from dpl.config import SearchConfig
from dpl.utils.files import read_json, write_json

BRANCHES = ("image", "text")
Layout = dict[str, list[int]]


@dataclass(frozen=True)
class Settings:
    """What to run."""

    data: str = "digits"
    """A task of dpl."""
    shots: int = 16
    """Images per class."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Seeds of shots and search."""
    search: SearchConfig = field(default_factory=lambda: SearchConfig(patience=0))
    """The search; it never stops early by default here."""
    out: Path = Path("runs/benchmark/precision.json")
    """The layouts; those that are there are not searched again."""


def main(settings: Settings) -> None:
    """Prints the rows that agree."""
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = read_json(settings.out) if settings.out.exists() else {}
    what = f"{settings.data}, {settings.shots} shots, {astuple(settings.search)}"
    layouts: dict[tuple[int, str], Layout] = {}
    for seed in settings.seeds:
        for precision in ("fp32", "bf16"):
            key = f"{what}, seed {seed}, {precision}"
            if key not in found:
                found[key] = _search(settings, seed, precision)
                write_json(settings.out, found)
            layouts[seed, precision] = found[key]
            print(f"seed {seed}, {precision}: {found[key]}", flush=True)
    pairs = [(f"seed {seed}, fp32 and bf16", layouts[seed, "fp32"], layouts[seed, "bf16"]) for seed in settings.seeds]
    pairs += [(f"fp32, seeds {a} and {b}", layouts[a, "fp32"], layouts[b, "fp32"]) for a, b in combinations(settings.seeds, 2)]
    print(markdown(["searches", "rows that agree", "mean difference, tokens a row"], [_row(*pair) for pair in pairs]))


def _search(settings: Settings, seed: int, precision: Precision) -> Layout:
    task, backbone = dpl.load_task(settings.data), dpl.load_backbone("tiny", precision=precision)
    result = dpl.search_layout(backbone, task, dpl.sample(task, settings.shots, seed), settings.search, seed=seed)
    return result.layout.to_dict()


def _row(name: str, one: Layout, other: Layout) -> list[str]:
    rows = [pair for branch in BRANCHES for pair in zip(one[branch], other[branch], strict=True)]
    distance = sum(abs(a - b) for a, b in rows) / len(rows)
    return [name, f"{sum(a == b for a, b in rows)} of {len(rows)}", f"{distance:.2f}"]
