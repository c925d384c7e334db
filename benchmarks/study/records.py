"""What the study has measured so far: JSON lines, a file per task, appended as results come."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.study.statistics import Record

RESULTS = Path("benchmarks/study/results")


@dataclass(frozen=True)
class Cell:
    """One result: an arm on a task, with so many shots and a seed."""

    task: str
    shots: int
    seed: int
    arm: str


def read_records(folder: Path = RESULTS) -> list[Record]:
    """All records, in the order of tasks, shots, seeds and arms. A line that a kill has cut is passed over."""
    records = {}
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_text().splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if "gate" in record:  # the name of the prompt scale in earlier records
                record["prompt_scale"], record["unscaled_accuracy"] = record.pop("gate"), record.pop("ungated_accuracy")
            records[cell_of(record)] = record
    return sorted(records.values(), key=lambda record: (record["task"], record["shots"], record["seed"], record["arm"]))


def cell_of(record: Record) -> Cell:
    """What `record` is the result of."""
    return Cell(record["task"], record["shots"], record["seed"], record["arm"])


def append(record: dict[str, Any], folder: Path = RESULTS) -> None:
    """Adds a line, on a line of its own whatever a kill has left."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{record['task']}.jsonl"
    with file.open("a+b") as lines:
        lines.seek(0, 2)
        if lines.tell():
            lines.seek(-1, 2)
            if lines.read(1) != b"\n":
                lines.write(b"\n")
        lines.write(json.dumps(record).encode() + b"\n")


def missing(cells: Sequence[Cell], records: Iterable[Record]) -> list[Cell]:
    """The cells that have no record yet."""
    done = {cell_of(record) for record in records}
    return [cell for cell in cells if cell not in done]
