"""A reproduction as Markdown, CSV and JSON. Published figures are kept apart, and every line of them is labelled as such."""

import csv
import io
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from dpl.data.paths import listed, shown
from dpl.experiments.reproduce.published import BACKBONE, FEW_SHOT_REMARKS, NO_FIGURES
from dpl.experiments.reproduce.table import ZERO_SHOT, Measured, Panel, Reproduction
from dpl.reports.comparison.text import NOTHING, markdown, percent
from dpl.utils.files import write_json, write_text

JSON_NAME = "reproduce.json"
PUBLISHED = f"published, {BACKBONE}, not measured here"


def write_reproduction(out: Path, found: Reproduction) -> None:
    """Writes reproduce.json, .md and .csv to the folder `out`, each atomically."""
    write_json(out / JSON_NAME, json.loads(json.dumps(to_dict(found))))
    write_text(out / "reproduce.md", to_markdown(found))
    write_text(out / "reproduce.csv", to_csv(found))


def lines_of(found: Reproduction, panel: Panel) -> list[tuple[str, ...]]:
    """Formats a table as text: a line per data set, their average, and the published figures if there are any.

    Args:
        found: the reproduction.
        panel: one of its tables.

    Returns:
        For each line its name and a cell per column, in percent, or a sign for a missing value.
    """
    lines = [
        (data, *(percent(row[column]) if column in row else NOTHING for column in panel.columns))
        for data, row in panel.rows.items()
    ]
    if panel.average:
        count = (
            f"{len(panel.complete)} of {len(panel.rows)}" if len(panel.complete) < len(panel.rows) else f"{len(panel.complete)}"
        )
        lines.append((f"average of {count}", *(percent(panel.average[column]) for column in panel.columns)))
    figures = {one.method: one.accuracy for one in panel.published}
    methods = dict(zip(found.labels, found.methods, strict=True)) | {ZERO_SHOT: ZERO_SHOT}
    cells = [figures.get(methods[column]) for column in panel.columns]
    if any(cells):
        lines.append((PUBLISHED, *(NOTHING if cell is None else f"[{100 * cell:.1f}]" for cell in cells)))
    return lines


def explanation(found: Reproduction) -> tuple[str, ...]:
    """Explains the numbers of the tables, in sentences."""
    about, seeds = found.about, f"seed{'s' * (len(found.seeds) > 1)} {', '.join(map(str, found.seeds))}"
    backbone = about["backbone"]
    sentences = [
        f"Measured: percent of the test images that are right, mean over the {seeds}, with backbone {backbone['name']}"
        f" in {backbone['precision']} on {about['device']}, --preset {found.preset}.",
        "±: half width of the 95 % interval over seeds, from Student's t with n - 1 degrees of freedom; an average's is over the"
        " seeds' averages. A single seed has no interval; zero-shot is the same for all seeds.",
    ]
    if found.protocol == "base-to-new":
        sentences.append(
            "Harmonic mean: 2 b n / (b + n) of base and new, seed by seed; in the line of the average that of the averages."
        )
    if found.absent:
        sentences.append(f"Not there, so left out: {listed(found.absent, 11)}. The averages are of the data sets in the table.")
    if any(panel.published for panel in found.panels):
        sentences.append(
            f"In brackets: published figures, of all 11 data sets with {BACKBONE}. To be compared only with an average of the"
            f" same data sets and the same backbone; measured here are {len(found.data)} data sets with {backbone['name']}."
        )
    return tuple(sentences)


def published(found: Reproduction) -> tuple[str, ...]:
    """Lists the published figures of the protocol, in sentences; none was measured here."""
    sentences = [
        f"{one.method}: [{100 * one.accuracy:.1f}], few-shot, {one.shots} shots, mean of all 11 data sets, {BACKBONE};"
        f" {one.source}."
        for panel in found.panels
        for one in panel.published
    ]
    return (*sentences, *FEW_SHOT_REMARKS) if found.protocol == "dpl-fewshot" else (NO_FIGURES,)


def to_dict(found: Reproduction) -> dict[str, Any]:
    """Builds the content of reproduce.json: accuracies 0-1, not rounded, with "published" apart from "measured"."""
    asked = ("protocol", "data", "absent", "labels", "methods", "shots", "seeds", "preset")
    tables = [{name: value for name, value in asdict(panel).items() if name != "published"} for panel in found.panels]
    return {
        "reproduction": {name: getattr(found, name) for name in asked},
        "done": sum(one.role == "own" for one in found.results),
        **found.about,
        "explanation": explanation(found),
        "measured": {"tables": tables, "evaluations": [asdict(one) for one in found.results]},
        "published": {
            "remark": "not measured here",
            "backbone": BACKBONE,
            "figures": [asdict(one) for panel in found.panels for one in panel.published],
            "sentences": published(found),
        },
    }


def to_csv(found: Reproduction) -> str:
    """Builds reproduce.csv: a line per evaluation and per published figure, distinguished by the column `kind`."""
    names = ["kind", "source", "backbone", "protocol", "preset", *(entry.name for entry in fields(Measured))]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n", restval="")
    writer.writeheader()
    same = {"protocol": found.protocol, "preset": found.preset}
    for one in found.results:
        writer.writerow({"kind": "measured", "backbone": found.about["backbone"]["name"], **same, **asdict(one)})
    for panel in found.panels:
        for figure in panel.published:
            what = {"data": "mean of all 11", "method": figure.method, "shots": figure.shots, "accuracy": figure.accuracy}
            writer.writerow({"kind": "published (not measured here)", "source": figure.source, "backbone": BACKBONE, **what})
    return text.getvalue()


def to_markdown(found: Reproduction) -> str:
    """Builds reproduce.md: the tables, their explanation, the published figures, versions and the command."""
    lines = [f"# {found.title}", ""]
    done, planned = sum(one.role == "own" for one in found.results), found.about["planned"]
    if done < planned:
        lines += [f"{done} of {planned} runs are in the tables; the same command goes on.", ""]
    for panel in found.panels:
        lines += [f"## {panel.title}", "", f"| data | {' | '.join(map(markdown, panel.columns))} |"]
        lines += ["|---|" + "---:|" * len(panel.columns)]
        lines += [f"| {' | '.join(map(markdown, line))} |" for line in lines_of(found, panel)] + [""]
    lines += [f"- {markdown(sentence)}" for sentence in explanation(found)]
    lines += ["", "## Published, not measured here", "", *(f"- {markdown(sentence)}" for sentence in published(found))]
    versions = ", ".join(f"{name} {number}" for name, number in found.about["versions"].items())
    return "\n".join([*lines, "", f"Made with {markdown(versions)} by", "", f"    {shown(found.about['command'])}", ""])
