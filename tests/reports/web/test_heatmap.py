"""The heatmaps, read as XML, and the numbers that they are given."""

import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpl.reports.web.alphas import permille, softmax
from dpl.reports.web.heatmap import STRONG, Grid, Heat, colour_scale, heatmap
from dpl.reports.web.svg import WIDTH
from tests.reports.page import cells

GRID = Grid("tokens", [0, 2, 4], ["0 tokens", "2 tokens", "4 tokens"], "%", ("0 %", "50 %", "100 %"))


def draw(values: list[list[int]], darkest: int = 1000, outlined: list[list[bool]] | None = None) -> ElementTree.Element:
    heat = Heat(values, darkest, outlined or [[False] * len(row) for row in values])
    return ElementTree.fromstring(heatmap("image", "title", "description", GRID, heat))


def test_softmax_is_a_distribution_even_of_huge_alphas() -> None:
    assert softmax([1000.0, 1000.0]) == [0.5, 0.5]
    assert sum(softmax([0.3, -2.0, 1e308])) == 1
    assert permille([[0.0, math.log(3)]]) == [[250, 750]]


def test_a_heatmap_shows_every_value_and_outlines_the_layout() -> None:
    picture = draw([[933, 62, 5], [120, 200, 680]], outlined=[[True, False, False], [False, True, True]])
    shown = cells(picture)
    assert [cell.findtext("title") for cell in shown][:3] == [
        "layer 1, 0 tokens: 93.3 %",
        "layer 1, 2 tokens: 6.2 %",
        "layer 1, 4 tokens: 0.5 %",
    ]
    assert [cell.findtext("text") or "" for cell in shown] == ["93", "6", "", "12", "20", "68"]
    assert [cell[2].get("fill-opacity") for cell in shown] == ["0.933", "0.062", "0.005", "0.12", "0.2", "0.68"]
    assert [index for index, cell in enumerate(shown) if "chosen" in cell.get("class", "").split()] == [0, 4, 5]
    rows = [float(cell[1].get("y", 0)) for cell in shown[:3]]
    assert rows == sorted(rows, reverse=True)  # later rows stand higher


@given(st.lists(st.lists(st.integers(0, 10_000), min_size=3, max_size=3), min_size=1, max_size=30))
def test_the_darkest_value_is_all_dark_and_numbers_change_colour_with_the_shade(values: list[list[int]]) -> None:
    darkest = max(1, *map(max, values))
    shown = cells(draw(values, darkest))
    shades = [float(cell[2].get("fill-opacity", -1)) for cell in shown]
    assert all(0 <= shade <= 1 for shade in shades) and max(shades) == (1 if any(map(any, values)) else 0)
    strong = ["strong" in cell.get("class", "").split() for cell in shown]
    assert strong == [1000 * value >= STRONG * darkest for row in values for value in row]
    assert all(bool(cell.findtext("text")) == (value >= 10) for cell, value in zip(shown, sum(values, []), strict=True))


@pytest.mark.parametrize(("layers", "wide"), [(6, False), (12, False), (24, True), (48, True)])
def test_only_heatmaps_of_many_layers_are_wider_than_a_phone(layers: int, wide: bool) -> None:
    picture = draw([[500, 300, 200]] * layers)
    assert (float(picture.get("width", 0)) > WIDTH) == wide
    assert ("wide" in picture.get("class", "").split()) == wide


def test_the_scale_names_both_ends_and_the_middle() -> None:
    picture = ElementTree.fromstring(colour_scale("text", ("0", "half", "<all>")))
    assert [text.text for text in picture.iter("text")] == ["0", "half", "<all>"]
    assert [stop.get("stop-opacity") for stop in picture.iter("stop")] == ["0", "1"]
