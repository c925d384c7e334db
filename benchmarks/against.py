"""`dpl fit` now against an earlier commit, alternating, each in a process of its own.

    python -m benchmarks against 58fa367 --data digits --runs 3
    python -m benchmarks against 1e2c276 --data FOLDER --model vit-l/14-336 --words "--shots 2 --search.epochs 1 --train.epochs 1"

The earlier one runs from a temporary worktree with this environment's libraries.
"""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Annotated

import tyro

from benchmarks.clips import SHAPES, write_checkpoint
from benchmarks.commits import sources
from benchmarks.timing import markdown
from dpl.utils.errors import DplError
from dpl.utils.files import read_json


@dataclass(frozen=True)
class Settings:
    """What to run."""

    commit: Annotated[str, tyro.conf.Positional]
    """The earlier commit."""
    data: str = "digits"
    """A task of dpl, or a folder of images."""
    model: str = ""
    """A CLIP of `benchmarks.clips` with random weights, such as vit-l/14-336; by default dpl's own."""
    words: str = ""
    """Further options of both fits, such as "--shots 2"."""
    seed: int = 1
    """Of the run."""
    runs: int = 3
    """Of each; the table shows medians."""


def main(settings: Settings) -> None:
    """Prints seconds and peak memory of both, and their ratios."""
    if settings.model and settings.model not in SHAPES:
        raise DplError(f"--model {settings.model}: the shapes are {', '.join(SHAPES)}")
    seconds: dict[str, list[dict[str, float]]] = {settings.commit: [], "now": []}
    with sources(settings.commit) as folders, TemporaryDirectory() as folder:
        words = shlex.split(settings.words)
        if settings.model:
            write_checkpoint(SHAPES[settings.model], Path(folder) / "clip")
            words += ["--backbone", str(Path(folder) / "clip")]
        for _ in range(settings.runs):
            for name, source in folders.items():
                seconds[name].append(_fit(source, settings, words, Path(folder) / "run"))
                print(f"{name}: " + ", ".join(f"{part} {value:.2f}" for part, value in seconds[name][-1].items()), flush=True)
    middle = {name: {part: median(run[part] for run in runs) for part in runs[0]} for name, runs in seconds.items()}
    before, now = middle[settings.commit], middle["now"]
    rows = [[part, f"{before[part]:.2f}", f"{now[part]:.2f}", f"{before[part] / now[part]:.2f}"] for part in before]
    print(markdown([f"dpl fit {settings.data}", f"{settings.commit}", "now", "ratio"], rows))


def _fit(source: Path, settings: Settings, words: Sequence[str], run: Path) -> dict[str, float]:
    """Seconds, processor seconds and peak memory of the whole process, seconds of its stages, and the accuracy in percent."""
    command = [sys.executable, "-m", "dpl", "fit", settings.data, "--seed", str(settings.seed), "--out", str(run), "--overwrite"]
    start = time.perf_counter()
    with TemporaryFile() as said:
        child = subprocess.Popen([*command, *words], env={**os.environ, "PYTHONPATH": str(source)}, stdout=said, stderr=said)
        _, status, usage = os.wait4(child.pid, 0)
        said.seek(0)
        if status:
            raise DplError(f"{shlex.join(command)} in {source} failed: {said.read().decode(errors='replace')[-2000:]}")
    result = {"seconds": time.perf_counter() - start, "processor, s": usage.ru_utime + usage.ru_stime}
    result["peak memory, GB"] = usage.ru_maxrss * 1024 / 1e9  # Linux counts KiB
    for line in (run / "history.jsonl").read_text().splitlines():
        record = json.loads(line)
        key = f"{record['stage']} s"
        result[key] = result.get(key, 0.0) + record["seconds"]
    return {**result, "accuracy, %": 100 * read_json(run / "metrics.json")["accuracy"]}
