"""What a comparison says of made-up results: numbers by hand, formats that parse, pictures that do not change."""

import csv
import io
import json
import re
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from PIL import Image

from dpl.cli.comparison import comparison_progress, print_comparison
from dpl.reports.comparison import Comparison, Result, write_comparison
from dpl.reports.comparison.figure import apart, pictures, shorten
from dpl.reports.comparison.text import cells, latex, markdown, to_csv, to_dict, to_latex, to_markdown
from dpl.utils.files import read_json
from dpl.utils.statistics import mean_interval

NASTY = "coop:init='50% $x_1$ {a} & #b|c*d` <e> ~f^g\\ --h'"
ACCURACIES = {
    ("dpl", 1): (0.50, 0.60, 0.70),
    ("dpl", 4): (0.80, 0.80, 0.80),
    (NASTY, 1): (0.40, 0.65, 0.60),
    (NASTY, 4): (0.70, 0.75, 0.85),
}
T2 = 4.302652729911275  # Student's t, 0.975, two degrees of freedom
ABOUT = {
    "command": "dpl compare colours --methods dpl",
    "classes": 3,
    "test_images": 18,
    "template": "a {}.",
    "backbone": {"name": "tiny", "fingerprint": "f", "precision": "fp32"},
    "device": "cpu",
    "versions": {"dpl": "0.1"},
}


def result(label: str, shots: int, seed: int, accuracy: float) -> Result:
    return Result(label, label.split(":")[0], shots, seed, f"{shots}-{seed}", accuracy, 0.3, 100 * seed, 2.0 * seed, seed * 2**20)


@pytest.fixture
def empty() -> Comparison:
    return Comparison("colours", "/colours", ("dpl", NASTY), (1, 4), (1, 2, 3), "dpl", "default", ABOUT)


@pytest.fixture
def whole(empty: Comparison) -> Comparison:
    for (label, shots), accuracies in reversed(ACCURACIES.items()):
        for seed, accuracy in zip((3, 2, 1), reversed(accuracies), strict=True):
            empty = empty.with_result(result(label, shots, seed, accuracy))
    return empty


def test_a_row_has_the_mean_and_the_paired_difference_to_the_reference(whole: Comparison):
    reference, other = whole.tables[1]
    assert reference.difference is None and other.difference is not None
    assert other.accuracy.mean == pytest.approx(0.55)
    # Differences -0.10, +0.05, -0.10: mean -0.05, standard deviation sqrt((0.05^2 + 0.10^2 + 0.05^2) / 2).
    assert other.difference.mean == pytest.approx(-0.05)
    assert other.difference.half == pytest.approx(T2 * 0.0075**0.5 / 3**0.5)
    assert (other.trainable_parameters, other.seconds, other.peak_memory_bytes) == (200, 4, 2 * 2**20)
    assert cells(other)[1:] == ("55.0 ± 32.9", "-5.0 ± 21.5", "3", "200", "4.0", "2 MiB")


def test_only_seeds_that_both_have_are_paired(whole: Comparison):
    kept = [one for one in whole.results if (one.label, one.seed) not in {("dpl", 1), (NASTY, 3)}]
    row = replace(whole, results=tuple(kept)).tables[1][1]
    assert row.difference == mean_interval([0.65 - 0.60])
    assert cells(row)[2] == "+5.0" and row.accuracy.count == 2
    without = replace(whole, results=tuple(one for one in kept if one.label != "dpl"))
    assert without.tables[1][0].difference is None


def test_a_single_seed_is_told_to_have_no_interval(whole: Comparison):
    one = replace(whole, seeds=(2,), results=tuple(one for one in whole.results if one.seed == 2))
    assert cells(one.tables[1][1])[1:4] == ("65.0", "+5.0", "1, no interval")
    assert "±" not in to_markdown(one).split("- Accuracy")[0] and r"\pm" not in to_latex(one) and "seed 2" in to_latex(one)


def test_results_stand_in_the_order_of_the_plan(whole: Comparison):
    order = [(shots, seed, label) for shots in (1, 4) for seed in (1, 2, 3) for label in ("dpl", NASTY)]
    assert [(one.shots, one.seed, one.label) for one in whole.results] == order


def test_csv_has_a_line_for_every_run(whole: Comparison):
    rows = list(csv.DictReader(io.StringIO(to_csv(whole))))
    assert len(rows) == 12 and {row["label"] for row in rows} == {"dpl", NASTY}
    for row in rows:
        accuracy = ACCURACIES[row["label"], int(row["shots"])][int(row["seed"]) - 1]
        assert float(row["accuracy"]) == accuracy and (row["task"], row["preset"]) == ("colours", "default")


def test_json_has_the_numbers_as_they_are(whole: Comparison):
    data = json.loads(json.dumps(to_dict(whole), allow_nan=False))
    assert (data["done"], data["planned"], data["command"]) == (12, 12, ABOUT["command"])
    row = data["tables"][0]["rows"][1]
    assert row["label"] == NASTY and row["difference"]["mean"] == pytest.approx(-0.05)
    assert data["comparison"]["reference"] == "dpl" and data["versions"] == ABOUT["versions"]


def test_markdown_tables_have_as_many_cells_in_every_row(whole: Comparison):
    text = to_markdown(whole)
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len(tables) == 2 * (2 + 2)
    assert {len(re.split(r"(?<!\\)\|", line)) for line in tables} == {7 + 2}
    for words in ("Student's t", "paired", "default", f"    {ABOUT['command']}", "(compare.svg)", "minus dpl"):
        assert words in text
    assert "are done" not in text
    assert "1 of 12 runs are done" in to_markdown(replace(whole, results=whole.results[:1]))


def test_markdown_and_latex_escape_what_would_mean_something():
    assert markdown("a|b*c_d`<e>\n") == r"a\|b\*c\_d\`\<e\>?"
    assert latex("5% & #1 _{x} $y$") == r"5\% \& \#1 \_\{x\} \$y\$"
    assert latex("~^\\") == r"\textasciitilde{}\textasciicircum{}\textbackslash{}"
    assert latex("a---b-c") == "a-{}-{}-b-c"


def test_latex_is_two_booktabs_tables_with_balanced_braces(whole: Comparison):
    lines = to_latex(whole).splitlines()
    text = "\n".join(line for line in lines if not line.startswith("%"))
    for environment in ("table", "tabular"):
        assert text.count(f"\\begin{{{environment}}}") == text.count(f"\\end{{{environment}}}") == 2
    bare = re.sub(r"\\[\\{}%&#$_,]", "", text)  # without escaped characters
    depth = [bare[: place + 1].count("{") - bare[: place + 1].count("}") for place in range(len(bare))]
    assert min(depth) >= 0 and depth[-1] == 0
    assert bare.count("$") % 2 == 0 and not set("%#_~^") & set(bare)
    rows = [line for line in bare.splitlines() if "&" in line]
    assert len(rows) == 2 + 3 and {row.count("&") for row in rows} == {2}
    assert r"$55.0 \pm 32.9$" in text and r"$-5.0 \pm 21.5$" in text and "% dpl compare" in lines[0]
    assert "Points" not in to_latex(replace(whole, labels=("dpl",), results=whole.results[:1]))


@pytest.mark.parametrize("shots", [(1, 4), (1,)])
def test_pictures_are_the_same_bytes_for_the_same_results_and_name_the_methods(whole: Comparison, shots):
    kept = replace(whole, shots=shots, results=tuple(one for one in whole.results if one.shots in shots))
    files = pictures(kept)
    assert files == pictures(kept)
    assert set(files) == {"svg", "png"} and b"<dc:date>" not in files["svg"]
    text = files["svg"].decode()
    ElementTree.fromstring(text)
    assert f"<!-- {shorten('dpl')} -->" in text and "<!-- colours: mean over 3 seeds" in text
    assert Image.open(io.BytesIO(files["png"])).width > 1000


@pytest.mark.parametrize("count", [1, 15])
def test_pictures_of_one_seed_many_methods_and_any_script(empty: Comparison, count: int):
    labels = tuple(f"方法 {index} " + "x" * 40 for index in range(count))
    few = replace(empty, labels=labels, seeds=(1,), reference=labels[0])
    for shots in few.shots:
        for label in labels:
            few = few.with_result(result(label, shots, 1, 0.5))
    assert b"one seed" in pictures(few)["svg"]


def test_labels_are_moved_apart_and_no_further():
    assert apart([0, 50, 100], 10, 0, 100) == [0, 50, 100]
    assert apart([50, 50], 10, 0, 100) == [45, 55]
    assert apart([98, 99], 10, 0, 100) == [90, 100]
    assert apart([0, 1, 2, 80], 10, 0, 100) == [0, 10, 20, 80]
    crowded = apart([5.0] * 9, 10, 0, 40)  # more than fit: apart all the same
    assert all(after - before == pytest.approx(10) for before, after in pairwise(crowded))


def test_files_are_written_before_and_after_the_first_result(empty: Comparison, whole: Comparison, tmp_path):
    write_comparison(tmp_path, empty)
    names = {f"compare.{ending}" for ending in ("json", "md", "csv", "tex")}
    assert {path.name for path in tmp_path.iterdir()} == names and read_json(tmp_path / "compare.json")["done"] == 0
    write_comparison(tmp_path, whole)
    assert {path.name for path in tmp_path.iterdir()} == names | {"compare.svg", "compare.png"}
    assert read_json(tmp_path / "compare.json") == json.loads(json.dumps(to_dict(whole)))


def test_the_terminal_shows_the_tables_and_where_the_files_are(whole: Comparison, tmp_path, capsys):
    print_comparison(whole, tmp_path)
    output = capsys.readouterr().out
    for words in ("colours, 1 shot\n", "colours, 4 shots\n", "55.0 ± 32.9", "-5.0 ± 21.5", NASTY, str(tmp_path / "compare.md")):
        assert words in re.sub(" +\n", "\n", output)


def test_without_a_terminal_progress_is_lines(capsys):
    with comparison_progress(3) as watch:
        watch.begin("dpl", 0)
        watch.say("1 of 3")
    assert watch.on_step is None and capsys.readouterr().err == "1 of 3\n"


def test_on_a_terminal_the_run_and_its_stage_are_shown(capsys, monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    with comparison_progress(3) as watch:
        watch.begin("coop, 4 shots, seed 1", 2)
        assert watch.on_step is not None
        watch.on_step("train", 5, 9, {"loss": 1.0})
        watch.say("2 of 3")
    errors = capsys.readouterr().err
    assert "coop, 4 shots, seed 1: training" in errors and "5/9" in errors and "2/3" in errors and "2 of 3" in errors
