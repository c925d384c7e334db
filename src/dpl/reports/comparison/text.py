"""Formats a comparison as JSON, Markdown, CSV and LaTeX."""

import csv
import io
import re
from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any

from dpl.data.paths import shown
from dpl.reports.comparison.table import Comparison, Result, Row
from dpl.utils.statistics import Interval

HEAD = ("method", "accuracy", "difference", "seeds", "parameters", "seconds", "memory")
NOTHING = "–"
PRESETS = {
    "default": "dpl's own recipe",
    "paper": "the settings that its authors published",
    "paper-transfer": "the settings that its authors published for the transfer to other data",
}
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~$&#])")
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": r"\textasciigrave{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def percent(value: Interval, sign: str = "") -> str:
    """Formats a mean and its half width in percent or points; a single seed has no half width.

    Args:
        value: the interval, 0-1.
        sign: "+" to write the sign of positive values too.

    Example:

        >>> percent(Interval(0.612, 0.0131, 3)), percent(Interval(0.02, None, 1), "+")
        ('61.2 ± 1.3', '+2.0')
    """
    mean = f"{100 * value.mean:{sign}.1f}"
    return mean if value.half is None else f"{mean} ± {100 * value.half:.1f}"


def cells(row: Row) -> tuple[str, ...]:
    """Formats a row in the order of `HEAD`.

    Args:
        row: a method at one number of shots.

    Returns:
        Name, accuracy in percent, difference in points, seeds, parameters, time in seconds, memory in MiB.
    """
    memory = NOTHING if row.peak_memory_bytes is None else f"{row.peak_memory_bytes / 2**20:,.0f} MiB"
    difference = NOTHING if row.difference is None else percent(row.difference, "+")
    seeds = "1, no interval" if row.accuracy.count == 1 else str(row.accuracy.count)
    costs = f"{row.trainable_parameters:,.0f}", f"{row.seconds:.1f}", memory
    return row.label, percent(row.accuracy), difference, seeds, *costs


def explanation(comparison: Comparison) -> tuple[str, ...]:
    """Explains the numbers of the tables, a sentence each."""
    return (
        f"Accuracy: percent of the {comparison.about['test_images']} test images of {comparison.task}, mean over the seeds.",
        f"Difference: points of accuracy, the method minus {comparison.reference}, paired: seed by seed on the same shots.",
        "±: half width of the 95 % interval over seeds, from Student's t with n - 1 degrees of freedom; not the narrower 1.96"
        " standard errors that scripts of the field print. A single seed has no interval.",
        "Parameters, seconds and memory: means over the seeds. Seconds and memory are those of learning, without evaluation;"
        " memory is the peak of the tensors on a GPU, else that of the whole process, with Python and the backbone in it.",
        f"Settings: every method in {PRESETS[comparison.preset]} (--preset {comparison.preset}), except the settings that follow"
        " a method's name.",
    )


def to_dict(comparison: Comparison) -> dict[str, Any]:
    """Returns the content of compare.json; accuracies and differences are 0-1, not rounded."""
    about = dict(comparison.about)
    asked = ("task", "data", "labels", "shots", "seeds", "reference", "preset")
    return {
        "comparison": {name: getattr(comparison, name) for name in asked},
        "command": about.pop("command"),
        "done": len(comparison.results),
        "planned": comparison.planned,
        "explanation": explanation(comparison),
        "tables": [{"shots": shots, "rows": [asdict(row) for row in rows]} for shots, rows in comparison.tables.items()],
        "runs": [asdict(result) for result in comparison.results],
        **about,
    }


def to_csv(comparison: Comparison) -> str:
    """Returns the content of compare.csv: a line per run."""
    names = ["task", "preset", *(entry.name for entry in fields(Result))]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for result in comparison.results:
        writer.writerow({"task": comparison.task, "preset": comparison.preset, **asdict(result)})
    return text.getvalue()


def to_markdown(comparison: Comparison) -> str:
    """Returns the content of compare.md."""
    about = comparison.about
    lines = [f"# Methods on {markdown(comparison.task)}", ""]
    if len(comparison.results) < comparison.planned:
        lines += [f"{len(comparison.results)} of {comparison.planned} runs are done; the same command does the others.", ""]
    for shots, rows in comparison.tables.items():
        lines += [f"## {_shots(shots)}", "", f"| {' | '.join(HEAD)} |", "|---|" + "---:|" * (len(HEAD) - 1)]
        lines += [f"| {' | '.join(map(markdown, cells(row)))} |" for row in rows] + [""]
    if comparison.results:
        lines += ["![Accuracy](compare.svg)", ""]
    lines += [f"- {markdown(sentence)}" for sentence in explanation(comparison)]
    backbone, versions = about["backbone"], about["versions"]
    made = f"Backbone {backbone['name']} in {backbone['precision']} on {about['device']}; template {about['template']!r}; "
    made += ", ".join(f"{name} {number}" for name, number in versions.items())
    lines += [f"- {markdown(shown(made))}.", "", "Made by", "", f"    {shown(about['command'])}", ""]
    return "\n".join(lines)


def to_latex(comparison: Comparison) -> str:
    """Returns the content of compare.tex: a table of accuracies and, with several methods, one of differences.

    Each table has a column per number of shots. The tables need the LaTeX package booktabs.
    """
    of = f"on the {comparison.about['test_images']} test images of {latex(comparison.task)}"
    seeds = f"seed{'s' * (len(comparison.seeds) > 1)} {', '.join(map(str, comparison.seeds))}"
    preset = f"every method in {PRESETS[comparison.preset]}"
    spread = ", mean and $t$-based 95\\,\\% interval over" if len(comparison.seeds) > 1 else ","
    accuracy = f"Accuracy (\\%) {of}{spread} {seeds}; {preset}."
    lines = [f"% {shown(comparison.about['command'])}", *_table(comparison, accuracy, lambda row: row.accuracy, "")]
    if len(comparison.labels) > 1:
        points = f"Points of accuracy above {latex(comparison.reference)} {of}, paired by seed{spread} {seeds}; {preset}."
        lines += ["", *_table(comparison, points, lambda row: row.difference, "+")]
    return "\n".join(lines) + "\n"


def _table(comparison: Comparison, caption: str, value: Callable[[Row], Interval | None], sign: str) -> list[str]:
    tables = comparison.tables
    found = {(row.label, shots): value(row) for shots, rows in tables.items() for row in rows}
    lines = [
        r"\begin{table}",
        r"\centering",
        f"\\caption{{{caption}}}",
        f"\\begin{{tabular}}{{l{'r' * len(tables)}}}",
        r"\toprule",
    ]
    lines += [" & ".join(["Method", *map(_shots, tables)]) + r" \\", r"\midrule"]
    for label in comparison.labels:
        numbers = [found.get((label, shots)) for shots in tables]
        if any(numbers):
            written = ["--" if one is None else f"${percent(one, sign)}$".replace("±", r"\pm") for one in numbers]
            lines.append(" & ".join([latex(label), *written]) + r" \\")
    return [*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]


def _shots(shots: int) -> str:
    return f"{shots} shot{'s' * (shots > 1)}"


def markdown(text: str) -> str:
    """Returns `text` on one line with the special characters of Markdown escaped."""
    return _MARKDOWN.sub(r"\\\1", shown(text))


def latex(text: str) -> str:
    """Returns `text` on one line with the special characters of LaTeX escaped."""
    escaped = "".join(_LATEX.get(character, character) for character in shown(text))
    return re.sub("-(?=-)", "-{}", escaped)  # LaTeX would join two hyphens to a dash
