"""docs/datasets.md says what the program does: its table, trees, downloads and commands are the catalogue's."""

import re
import shlex
from pathlib import Path

import pytest

from dpl.cli.arguments import CheckDataset, Compare, Datasets, Evaluate, WhereDataset, parse, parse_run
from dpl.cli.plans import comparison_plan
from dpl.data.sources.catalog import CATALOG

PAGE = (Path(__file__).parents[4] / "docs" / "datasets.md").read_text()
SECTIONS = dict(re.findall(r"^### (.+)\n((?:(?!###? ).*\n)*)", PAGE, re.MULTILINE))
COMMANDS = re.findall(r"^    (dpl [^#\n]*)", PAGE, re.MULTILINE)
OF_DATASETS = {"check": CheckDataset, "where": WhereDataset}


def plain(text: str) -> str:
    return " ".join(text.split())


def number(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


def test_the_table_is_the_catalogue():
    rows = [[cell.strip(" `") for cell in line.strip("| ").split("|")] for line in PAGE.splitlines() if line.startswith("| [`")]
    counts = {name: row.counts for name, row in CATALOG.items()}
    assert rows == [
        [f"[`{name}`](#{name})", row.folder, *map(number, vars(counts[name]).values()), row.template]
        for name, row in CATALOG.items()
    ]


@pytest.mark.parametrize("name", CATALOG)
def test_every_data_set_has_its_section(name: str):
    row, text = CATALOG[name], SECTIONS[name]
    assert text.lstrip().startswith(f"{row.title}. Template: *{row.template}*")
    assert f"```text\n{row.tree()}\n```\n" in text
    assert all(f"- {step}" in plain(text) for step in row.steps())
    assert len(text.rpartition("```\n")[2].strip()) > 40  # what differs


def test_sections_are_in_the_order_of_the_catalogue():
    assert list(SECTIONS) == list(CATALOG)


def test_the_ensemble_is_named():
    assert all(f"*{template}*" in plain(PAGE) for template in CATALOG["imagenet"].templates[1:])


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_parses(line: str):
    _, command, *rest = shlex.split(line)
    if command == "datasets":
        kind = OF_DATASETS.get(rest[0])
        parsed = parse(kind or Datasets, rest[1:] if kind else rest, "dpl datasets")
        assert getattr(parsed, "name", "dtd") in CATALOG
    elif command == "compare":
        assert comparison_plan(parse(Compare, rest, "dpl compare")).runs
    elif command == "evaluate":
        assert set(parse(Evaluate, rest, "dpl evaluate").on) <= set(CATALOG)
    else:
        assert command == "fit" and parse_run("fit", rest).data in CATALOG


def test_there_are_commands_of_all_kinds():
    assert {line.split()[1] for line in COMMANDS} == {"datasets", "fit", "evaluate", "compare"}
