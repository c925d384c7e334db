"""Decodes and seconds of `dpl fit` on a folder of photos, now against an earlier commit, alternating, each in its own process.

    python -m benchmarks folders 6bafbc5 --images 2000 --runs 3
    python -m benchmarks folders 6bafbc5 --images 10000 --first-step-only

The photos are JPEGs of coloured noise at all scales, 1024 x 768; the files of a class are links to a few of them. They lie in a
temporary folder, which is deleted. An image counts as decoded once per file that PIL decodes.
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import tyro
from PIL import Image

from benchmarks.commits import sources
from benchmarks.timing import markdown
from dpl.utils.errors import DplError
from dpl.utils.files import read_json

SIZE = (1024, 768)
DISTINCT = 20  # photos of a class


@dataclass(frozen=True)
class Settings:
    """What to run."""

    commit: Annotated[str, tyro.conf.Positional]
    """The earlier commit."""
    images: int = 2000
    """Photos in the folder."""
    classes: int = 3
    """Classes, of equally many photos."""
    shots: int = 16
    """Training images per class."""
    runs: int = 3
    """Of each commit; the table shows medians."""
    first_step_only: bool = False
    """End a run after its first training step."""


def main(settings: Settings) -> None:
    """Prints decodes, seconds until the first step is done, and seconds of the whole command, by commit."""
    found: dict[str, list[dict[str, float]]] = {settings.commit: [], "now": []}
    with TemporaryDirectory() as folder, sources(settings.commit) as folders:
        data = make_folder(Path(folder) / "photos", settings.images, settings.classes)
        for _ in range(settings.runs):
            for name, source in folders.items():
                found[name].append(_fit(source, settings, data, Path(folder)))
                print(f"{name}: " + ", ".join(f"{key} {value:.1f}" for key, value in found[name][-1].items()), flush=True)
    before, now = ({key: median(run[key] for run in runs) for key in runs[0]} for runs in found.values())
    rows = [[key, f"{before[key]:.1f}", f"{now[key]:.1f}", f"{before[key] / now[key]:.1f}"] for key in before]
    print(markdown([f"{settings.images} photos, {settings.shots} shots", settings.commit, "now", "ratio"], rows))


def make_folder(folder: Path, images: int, classes: int) -> Path:
    """Writes a folder of `classes` class folders with `images` photos in all."""
    rng = np.random.default_rng(0)
    for label in range(classes):
        place = folder / f"class {label}"
        place.mkdir(parents=True)
        for index in range(images // classes + (label < images % classes)):
            file = place / f"{index:05}.jpg"
            if index < DISTINCT:
                photo(rng).save(file, quality=90)
            else:
                os.link(place / f"{index % DISTINCT:05}.jpg", file)
    return folder


def photo(rng: np.random.Generator) -> Image.Image:
    """Makes a picture with details of every size, so that its JPEG is about as large as that of a photo."""
    total = np.zeros((SIZE[1], SIZE[0], 3))
    for octave in range(9):
        small = rng.normal(0, 128 / 1.5**octave, (3 * 2**octave, 4 * 2**octave, 3)).astype(np.float32)
        layers = [Image.fromarray(small[..., colour]).resize(SIZE, Image.Resampling.BILINEAR) for colour in range(3)]
        total += np.stack([np.asarray(layer) for layer in layers], axis=-1)
    return Image.fromarray((128 + total / 2).clip(0, 255).astype(np.uint8))


def _fit(source: Path, settings: Settings, data: Path, folder: Path) -> dict[str, float]:
    report, mode = folder / "report.json", "first" if settings.first_step_only else "all"
    script = [sys.executable, str(Path(__file__).with_name("counted_fit.py")), str(report), mode]
    arguments = [str(data), "--shots", str(settings.shots), "--out", str(folder / "run"), "--overwrite"]
    before, start = os.times(), time.monotonic()
    child = subprocess.run([*script, *arguments], env={**os.environ, "PYTHONPATH": str(source)}, capture_output=True, text=True)
    seconds, after = time.monotonic() - start, os.times()
    if child.returncode:
        raise DplError(f"dpl fit with the sources in {source} failed: {child.stderr.strip().splitlines()[-1]}")
    found = read_json(report)
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    times = {"seconds until the first step is done": found["first_step"] - start}
    if not settings.first_step_only:
        times["seconds"] = seconds
    return {"decodes": found["decodes"], **times, "processor seconds": processor}
