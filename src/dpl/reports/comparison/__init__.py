"""What runs of several methods say together: tables in four formats, and pictures."""

import json
from pathlib import Path

from dpl.files import write_bytes, write_json, write_text
from dpl.reports.comparison.table import Comparison, Interval, Result, Row, describe, interval

__all__ = ["JSON_NAME", "Comparison", "Interval", "Result", "Row", "describe", "interval", "write_comparison"]

JSON_NAME = "compare.json"


def write_comparison(out: Path, comparison: Comparison) -> None:
    """Writes compare.json, .md, .csv and .tex, and, of results, .svg and .png, to the folder `out`; each whole."""
    # Also where there is no result yet: what the import takes is then no run's memory.
    from dpl.reports.comparison.figure import pictures
    from dpl.reports.comparison.text import to_csv, to_dict, to_latex, to_markdown

    write_json(out / JSON_NAME, json.loads(json.dumps(to_dict(comparison))))
    write_text(out / "compare.md", to_markdown(comparison))
    write_text(out / "compare.csv", to_csv(comparison))
    write_text(out / "compare.tex", to_latex(comparison))
    if comparison.results:
        for ending, data in pictures(comparison).items():
            write_bytes(out / f"compare.{ending}", data)
