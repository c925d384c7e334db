"""Runs `dpl fit` and writes how many image files it has decoded, and when its first training step was done.

    python benchmarks/counted_fit.py REPORT all|first ARGUMENTS OF dpl fit ...

`first` ends the process after the first step. `benchmarks.folders` runs this file with the sources of two commits, so it imports
nothing of `benchmarks`.
"""

import json
import os
import sys
import time
from pathlib import Path
from threading import Lock
from typing import Any

from PIL import ImageFile

from dpl.cli.main import main
from dpl.optim.stage import Stage


def run(report: Path, ends_at_first: bool, arguments: list[str]) -> int:
    """Returns the exit status of `dpl fit`."""
    found: dict[str, float] = {"decodes": 0}
    lock, load, finish_step = Lock(), ImageFile.ImageFile.load, Stage.finish_step

    def counted(self: ImageFile.ImageFile) -> Any:
        if self.tile:  # not decoded yet
            with lock:
                found["decodes"] += 1
        return load(self)

    def finish(self: Stage, **losses: float) -> None:
        finish_step(self, **losses)
        found.setdefault("first_step", time.monotonic())
        if ends_at_first:
            report.write_text(json.dumps(found), encoding="utf-8")
            os._exit(0)

    ImageFile.ImageFile.load, Stage.finish_step = counted, finish
    status = main(["fit", *arguments])
    report.write_text(json.dumps(found), encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]), sys.argv[2] == "first", sys.argv[3:]))
