"""The data for the page's slider, and the style that shows it."""

import json
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

from dpl.reports.web.heatmap import STRONG
from dpl.reports.web.preference import script_json
from dpl.schemas.run import AlphaEpoch, SaliencyEpoch
from dpl.schemas.run_folder import read_run
from tests.reports.page import heat_cells, history, read


def test_the_embedded_history_is_every_epoch_of_both_branches(run: Path) -> None:
    source, embedded = read_run(run), history(read(run))
    assert embedded["epochs"] == list(range(1, 26)) and (embedded["unit"], embedded["strong"]) == ("%", STRONG)
    assert embedded["darkest"] == [1000] * 25
    for branch in ("image", "text"):
        values, outlined = embedded[branch]["values"], embedded[branch]["outlined"]
        assert len(values) == 25 and {len(epoch) for epoch in values} == {len(epoch) for epoch in outlined} == {6 * 7}
        assert all(abs(sum(epoch[layer * 7 : layer * 7 + 7]) - 1000) <= 4 for epoch in values for layer in range(6))
        chosen = [outlined[-1][layer * 7 : layer * 7 + 7] for layer in range(6)]
        assert all(row.count("1") == 1 for row in chosen)
        assert [source.options[row.index("1")] for row in chosen] == list(source.layout[branch])


def test_the_embedded_saliency_is_every_epoch_of_both_branches(pruned: Path) -> None:
    source, embedded = read_run(pruned).search, history(read(pruned))
    assert (embedded["epochs"], embedded["unit"]) == (list(range(1, 8)), "‰")
    for epoch, line in enumerate(source):
        assert isinstance(line, SaliencyEpoch)
        values = {branch: embedded[branch]["values"][epoch] for branch in ("image", "text")}
        assert embedded["darkest"][epoch] == max(*values["image"], *values["text"])
        for branch in values:
            assert values[branch] == [round(10_000 * share) for row in line.saliency[branch] for share in row]
            expected = "".join("1" * length + "0" * (6 - length) for length in line.layout[branch])
            assert embedded[branch]["outlined"][epoch] == expected


def test_json_in_a_script_cannot_end_the_script() -> None:
    value = {"name": "</script><!--<script>&\u2028'\""}
    text = script_json(value)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == value


def test_the_picture_without_scripts_is_the_last_epoch(either: Path) -> None:
    page = read(either)
    embedded = history(page)
    for branch in ("image", "text"):
        shown = heat_cells(page, branch)
        shades = [embedded["darkest"][-1] * float(cell[2].get("fill-opacity", -1)) for cell in shown]
        assert shades == pytest.approx(embedded[branch]["values"][-1], rel=1e-4)
        outlined = ["chosen" in cell.get("class", "").split() for cell in shown]
        assert outlined == [cell == "1" for cell in embedded[branch]["outlined"][-1]]


def test_a_layout_that_the_search_does_not_give_is_said_to_differ(either: Path) -> None:
    (either / "layout.json").write_text(json.dumps({"image": [9] * 6, "text": read_run(either).layout["text"]}))
    page = read(either)
    assert page.text.count("layout.json is not the layout of the search's last epoch") == 1
    assert len(set(history(page)["image"]["outlined"][-1])) == 1  # none of the options, or all prompts


def test_the_kept_prompts_are_outlined_from_the_bottom(pruned: Path) -> None:
    page, layout = read(pruned), read_run(pruned).layout
    for branch in ("image", "text"):
        shown = heat_cells(page, branch)
        columns = [shown[layer * 6 : layer * 6 + 6] for layer in range(6)]
        kept = [["chosen" in cell.get("class", "").split() for cell in column] for column in columns]
        assert kept == [[rank < length for rank in range(6)] for length in layout[branch]]
        assert all(float(column[0][1].get("y", 0)) > float(column[5][1].get("y", 0)) for column in columns)


def test_layers_that_the_search_left_open_are_counted(run: Path) -> None:
    last = read_run(run).search[-1]
    assert isinstance(last, AlphaEpoch)
    assert (
        f"In {12 - sum(last.dominants[branch] for branch in ('image', 'text'))} of 12 layers no option holds more than half"
        in read(run).text
    )


@pytest.mark.parametrize("method", ["mixture", "pruning"])
def test_a_single_epoch_has_no_slider(make_run: Callable[..., Path], method: str) -> None:
    page = read(make_run(epochs=1, method=method))
    assert "input" not in page.elements and "After epoch" not in page.text


def style(dark: bool) -> dict[str, list[float]]:
    """The page's colours by name, as linear red, green and blue."""
    source = (files("dpl.reports.web") / "report.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", source, flags=re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): #(\w{6});", blocks[1 if dark else 0]))
    return {name: [int(value[place : place + 2], 16) / 255 for place in (0, 2, 4)] for name, value in colours.items()}


def contrast(one: list[float], other: list[float]) -> float:
    """The contrast ratio of WCAG 2."""

    def luminance(colour: list[float]) -> float:
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_is_readable_on_the_page_and_on_every_cell(dark: bool) -> None:
    colours = style(dark)
    for name in ("ink", "muted", "image", "text", "tuned", "fall"):
        assert contrast(colours[name], colours["paper"]) >= 4.5, name
    for heat in ("heat-image", "heat-text"):
        for share in range(1001):
            cell = [
                end * share / 1000 + ground * (1 - share / 1000)
                for end, ground in zip(colours[heat], colours["panel"], strict=True)
            ]
            label = colours["on-dark" if share >= STRONG else "on-light"]
            assert contrast(label, cell) >= 4.5, (heat, share)
