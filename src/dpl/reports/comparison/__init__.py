"""Comparison of several methods over shots and seeds: tables in four formats, and pictures."""

import json
from pathlib import Path

from dpl.reports.comparison.table import Comparison, Result, Row, describe
from dpl.utils.files import write_bytes, write_json, write_text

__all__ = ["JSON_NAME", "Comparison", "Result", "Row", "describe", "write_comparison"]

JSON_NAME = "compare.json"


def write_comparison(out: Path, comparison: Comparison) -> None:
    """Writes compare.json, .md, .csv and .tex, and compare.svg and .png if there are results, each atomically.

    Args:
        out: the folder, which must exist.
        comparison: the comparison.
    """
    # Imported even without results, so that the memory of the import is not measured as a run's.
    from dpl.reports.comparison.figure import pictures
    from dpl.reports.comparison.text import to_csv, to_dict, to_latex, to_markdown

    write_json(out / JSON_NAME, json.loads(json.dumps(to_dict(comparison))))
    write_text(out / "compare.md", to_markdown(comparison))
    write_text(out / "compare.csv", to_csv(comparison))
    write_text(out / "compare.tex", to_latex(comparison))
    if comparison.results:
        for ending, data in pictures(comparison).items():
            write_bytes(out / f"compare.{ending}", data)
