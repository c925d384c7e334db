"""The data for the page's slider, and the style that shows it."""

import json
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

from dpl.reports.figures import STRONG
from dpl.reports.run_folder import read_run
from dpl.reports.stages import script_json
from tests.reports.page import read


def test_the_embedded_history_is_every_epoch_of_both_branches(run: Path) -> None:
    history = json.loads(next(script for script in read(run).scripts if script.startswith("{")))
    source = read_run(run)
    assert history["epochs"] == list(range(1, 26)) and history["options"] == list(source.options)
    for branch in ("image", "text"):
        shares = history[branch]["shares"]
        assert len(shares) == 25 and {len(epoch) for epoch in shares} == {6 * 7}
        assert all(abs(sum(epoch[layer * 7 : layer * 7 + 7]) - 1000) <= 4 for epoch in shares for layer in range(6))
        assert [source.options[place] for place in history[branch]["chosen"][-1]] == source.layout[branch]


def test_json_in_a_script_cannot_end_the_script() -> None:
    value = {"name": "</script><!--<script>&\u2028'\""}
    text = script_json(value)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == value


def test_the_picture_without_scripts_is_the_last_epoch(run: Path) -> None:
    page = read(run)
    history = json.loads(next(script for script in page.scripts if script.startswith("{")))
    for branch in ("image", "text"):
        (picture,) = [picture for picture in page.pictures if picture.get("id") == f"heat-{branch}"]
        cells = [part for part in picture.iter("g") if "cell" in part.get("class", "").split()]
        shown = [round(1000 * float(cell[2].get("fill-opacity", -1))) for cell in cells]
        assert shown == history[branch]["shares"][-1]


def test_a_layout_that_the_alphas_do_not_give_is_said_to_differ(run: Path) -> None:
    (run / "layout.json").write_text(json.dumps({"image": [9] * 6, "text": read_run(run).layout["text"]}))
    page = read(run)
    assert page.text.count("layout.json is not what the last alphas say") == 1
    history = json.loads(next(script for script in page.scripts if script.startswith("{")))
    assert history["image"]["chosen"][-1] == [-1] * 6 and min(history["text"]["chosen"][-1]) >= 0


def test_layers_that_the_search_left_open_are_counted(run: Path) -> None:
    last = read_run(run).search[-1].dominants
    assert f"In {12 - last['image'] - last['text']} of 12 layers no option holds more than half" in read(run).text


def test_a_single_epoch_has_no_slider(make_run: Callable[..., Path]) -> None:
    page = read(make_run(epochs=1))
    assert "input" not in page.elements and "After epoch" not in page.text


def style(dark: bool) -> dict[str, list[float]]:
    """The page's colours by name, as linear red, green and blue."""
    source = (files("dpl.reports") / "report.css").read_text()
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
