"""The chart of a layout and of the search's preferences on a terminal."""

import io
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from dpl.cli.terminal import summary
from dpl.cli.terminal_chart import BARS, HUES, Panel, Picture, drawn, print_blocks
from dpl.schemas.run import AlphaEpoch
from dpl.schemas.run_folder import read_run

MakeRun = Callable[..., Path]
LABELS = 6


def shown(run: Path, encoding: str = "utf-8", **console: object) -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    print_blocks(read_run(run), Console(file=file, **console))  # type: ignore[arg-type]
    file.seek(0)
    return file.read()


def columns(lines: list[str], layers: int) -> list[list[str]]:
    """The two characters of every layer of both branches, line by line, of branches side by side."""
    starts = [LABELS + 3 * layer + 1 for layer in range(layers)]
    starts += [start + 3 * layers + 1 for start in starts]
    return [[line.ljust(80)[start : start + 2] for start in starts] for line in lines]


@pytest.mark.parametrize("method", ["mixture", "pruning"])
def test_twelve_layers_fit_into_eighty_columns_and_few_lines(make_run: MakeRun, method):
    lines = shown(make_run(layers=12, method=method, options=list(range(13)))).splitlines()
    assert max(map(len, lines)) <= 80 and len(lines) <= 2 + 9


@pytest.mark.parametrize("method", ["mixture", "pruning"])
def test_the_numbers_under_the_blocks_are_the_layout(make_run: MakeRun, method):
    run = make_run(layers=12, method=method)
    layout = json.loads((run / "layout.json").read_text())
    (line,) = (line for line in shown(run).splitlines() if line.startswith("tokens"))
    assert list(map(int, line.split()[1:])) == layout["image"] + layout["text"]


def test_blocks_of_a_mixture_are_its_probabilities_and_the_chosen_are_wide(make_run: MakeRun):
    run = make_run(layers=12)
    read, lines = read_run(run), shown(run).splitlines()
    last = read.search[-1]
    assert isinstance(last, AlphaEpoch) and len(read.options) == 7
    lengths, percents = read.layout.image + read.layout.text, list(map(int, lines[9].split()[1:]))
    for row, blocks in zip(reversed(read.options), columns(lines[1:8], 12), strict=True):
        for alphas, length, block, percent in zip(last.alphas.image + last.alphas.text, lengths, blocks, percents, strict=True):
            part = math.exp(alphas[row]) / sum(map(math.exp, alphas))
            bar = BARS[math.ceil(8 * part)]
            assert block == (bar * 2 if row == length else f"{bar} ")
            assert row != length or percent == min(round(100 * part), 99)


def test_blocks_of_pruning_fall_with_the_rank_and_the_kept_are_wide(make_run: MakeRun):
    run = make_run(layers=12, method="pruning", options=list(range(13)))
    read, lines = read_run(run), shown(run).splitlines()
    assert [line[:LABELS].strip() for line in lines[1:7]] == ["11-12", "9-10", "7-8", "5-6", "3-4", "1-2"]
    rows = columns(lines[1:7], 12)
    for layer, length in enumerate(read.layout.image + read.layout.text):
        column = [row[layer] for row in rows][::-1]
        assert sum(block[0] == block[1] for block in column) == math.ceil(length / 2)
        heights = [BARS.index(block[0]) for block in column]
        assert heights == sorted(heights, reverse=True)
    assert any(block == "██" for row in rows for block in row)


@pytest.mark.parametrize("width", [40, 80])
def test_more_layers_than_fit_are_cut_into_parts(make_run: MakeRun, width):
    run = make_run(layers=24, method="pruning")
    lines = shown(run, force_terminal=True, color_system=None, width=width).splitlines()
    assert max(map(len, lines)) <= width
    layout = json.loads((run / "layout.json").read_text())
    numbers = [int(number) for line in lines if line.startswith("tokens") for number in line.split()[1:]]
    assert numbers == layout["image"] + layout["text"]
    assert ("image layout, 12-22" in "\n".join(lines)) == (width == 40)


@given(st.integers(1, 50), st.integers(1, 50), st.integers(0, 120), st.integers(30, 120))
def test_no_line_is_too_long_and_no_layer_is_lost(image, text, longest, width):
    panels = [
        Panel(branch, [[0.5] * layers], [[True] * layers], [[longest] * layers])
        for branch, layers in (("image", image), ("text", text))
    ]
    lines = [line.plain for line in drawn(Picture("", [""], ["tokens"], "Height: a half.", panels), width)]
    assert max(map(len, lines)) <= width
    assert sum(line.split()[1:].count(str(longest)) for line in lines if line.startswith("tokens")) == image + text


@given(st.floats(0, 1))
def test_a_block_is_no_lower_than_its_number_and_less_than_an_eighth_higher(height):
    panel = Panel("image", [[height]], [[True]], [[1]])
    block = drawn(Picture("", [""], ["tokens"], "", [panel]), 80)[1].plain.ljust(LABELS + 3)[LABELS + 1]
    assert height - 1e-8 <= BARS.index(block) / 8 < height + 1 / 8


def test_a_terminal_with_colours_gets_those_of_the_branches(make_run: MakeRun):
    out = shown(make_run(layers=12), force_terminal=True, color_system="truecolor")
    for hue in HUES.values():
        assert f"38;2;{int(hue[1:3], 16)};{int(hue[3:5], 16)};{int(hue[5:], 16)}m" in out


@pytest.mark.parametrize("variable", [("NO_COLOR", "1"), ("TERM", "dumb"), None])
def test_plain_where_colours_are_not_wanted(make_run: MakeRun, monkeypatch, variable):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    run = make_run(layers=12)
    if variable:
        monkeypatch.setenv(*variable)
    out = shown(run, force_terminal=bool(variable))
    assert "\x1b[3" not in out and ";2;" not in out and "██" in out


def test_a_terminal_that_knows_ascii_only_gets_ascii(make_run: MakeRun):
    out = shown(make_run(layers=12), encoding="ascii")
    assert out.isascii() and "@@" in out


def test_of_a_layout_that_was_given_only_the_layout_is_shown(make_run: MakeRun):
    lines = shown(make_run(layers=6, search=False)).splitlines()
    assert [line.split() for line in lines] == [["image", "layout", "text", "layout"], ["██"] * 12, ["tokens", *["4"] * 12]]


def test_nothing_is_shown_where_there_are_no_prompts(make_run: MakeRun):
    run = make_run(layers=6, search=False)
    (run / "layout.json").write_text(json.dumps({"image": [0] * 6, "text": [0] * 6}))
    assert shown(run) == ""


def test_the_end_of_a_run_shows_them_between_its_results_and_its_files(tmp_path, make_run: MakeRun, capsys):
    (tmp_path / "[red] [").mkdir()
    run = make_run(layers=6).rename(tmp_path / "[red] [" / "x] name")  # [/x] would end a style that nothing began
    summary(run)
    out = capsys.readouterr().out
    assert "\x1b" not in out and str(run) in out
    assert out.index("accuracy") < out.index("image layout") < out.index("report.html")
