"""`dpl fit` now against an earlier commit, alternating, each in a process of its own.

    python -m benchmarks against 58fa367 --data digits --runs 3

The earlier one runs from a temporary worktree with this environment's libraries.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated

import tyro

from benchmarks.timing import markdown
from dpl.files import read_json


@dataclass(frozen=True)
class Settings:
    """What to run."""

    commit: Annotated[str, tyro.conf.Positional]
    """The earlier commit."""
    data: str = "digits"
    """A task of dpl."""
    seed: int = 1
    """Of the run."""
    runs: int = 3
    """Of each; the table shows medians."""


def main(settings: Settings) -> None:
    """Prints the seconds of both and their ratio."""
    repository = Path(__file__).parents[1]
    with TemporaryDirectory() as folder:
        earlier = Path(folder) / "earlier"
        subprocess.run(["git", "worktree", "add", "--detach", str(earlier), settings.commit], cwd=repository, check=True)
        try:
            sources = {settings.commit: earlier / "src", "now": repository / "src"}
            seconds: dict[str, list[dict[str, float]]] = {name: [] for name in sources}
            for _ in range(settings.runs):
                for name, source in sources.items():
                    seconds[name].append(_fit(source, settings, Path(folder) / "run"))
                    print(f"{name}: " + ", ".join(f"{part} {value:.1f}" for part, value in seconds[name][-1].items()), flush=True)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(earlier)], cwd=repository, check=True)
    middle = {name: {part: median(run[part] for run in runs) for part in runs[0]} for name, runs in seconds.items()}
    before, now = middle[settings.commit], middle["now"]
    rows = [[part, f"{before[part]:.1f}", f"{now[part]:.1f}", f"{before[part] / now[part]:.2f}"] for part in before]
    print(markdown([f"dpl fit {settings.data}", f"{settings.commit}", "now", "ratio"], rows))


def _fit(source: Path, settings: Settings, run: Path) -> dict[str, float]:
    """Seconds of the whole command and of its stages, and the accuracy in percent."""
    command = [sys.executable, "-m", "dpl", "fit", settings.data, "--seed", str(settings.seed), "--out", str(run), "--overwrite"]
    start = time.perf_counter()
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(source)}, check=True, capture_output=True)
    result = {"seconds": time.perf_counter() - start}
    for line in (run / "history.jsonl").read_text().splitlines():
        record = json.loads(line)
        key = f"{record['stage']} s"
        result[key] = result.get(key, 0.0) + record["seconds"]
    return {**result, "accuracy, %": 100 * read_json(run / "metrics.json")["accuracy"]}
