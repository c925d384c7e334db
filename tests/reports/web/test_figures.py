"""The pictures, read as XML: what they show is what the numbers say."""

import math
import re
from xml.etree import ElementTree

import pytest

from dpl.reports.web.figures import change_track, interval_track, layout_picture
from dpl.reports.web.svg import WIDTH, Series, line_chart, number, tag, ticks


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def texts(picture: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in picture.iter("text")]


def group(picture: ElementTree.Element, style: str) -> list[ElementTree.Element]:
    return [part for part in picture.iter("g") if style in part.get("class", "").split()]


def test_a_tag_escapes_what_is_not_markup() -> None:
    svg = tag("text", '<b> & "c"', tag("tspan", "x"), x=1.5, text_anchor="<", class_="k", fill=None)
    assert svg == '<text x="1.5" text-anchor="&lt;" class="k">&lt;b&gt; &amp; &#34;c&#34;<tspan>x</tspan></text>'


@pytest.mark.parametrize(("value", "text"), [(1.0, "1"), (-0.001, "0"), (10.0, "10"), (2.345678, "2.35"), (100.0, "100")])
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize("top", [1e-300, 3.7e-5, 0.015, 0.3, 1, 2.3, 6, 12, 99, 100, 1e9])
def test_ticks_reach_the_top_in_few_round_steps(top: float) -> None:
    rows = ticks(top)
    assert rows[0] == 0 and rows[-1] >= top * (1 - 1e-9)
    assert 2 <= len(rows) <= 7
    assert re.fullmatch(r"[125](\.0*)?e[+-]\d+", f"{rows[1]:.9e}")


@pytest.mark.parametrize("top", [1, 2, 6, 12, 24])
def test_ticks_of_counts_are_whole(top: int) -> None:
    assert all(row == int(row) for row in ticks(top, whole=True))


def test_a_layout_has_one_block_per_token_and_the_count_above() -> None:
    picture = parse(layout_picture("image", [2, 0, 4], 4, 144))
    columns = group(picture, "column")
    blocks = [[rect for rect in column.iter("rect") if rect.get("class") is None] for column in columns]
    assert [len(column) for column in blocks] == [2, 0, 4]
    assert texts(picture) == ["layer", "2", "1", "0", "2", "4", "3"]
    assert columns[2].findtext("title") == "image layer 3: 4 prompt tokens x 144 = 576 parameters"
    assert "2, 0, 4" in (picture.findtext("desc") or "")


@pytest.mark.parametrize(("layers", "wide"), [(6, False), (12, False), (24, True), (48, True)])
def test_only_pictures_of_many_layers_are_wider_than_a_phone(layers: int, wide: bool) -> None:
    picture = parse(layout_picture("text", [1] * layers, 1, None))
    assert (float(picture.get("width", 0)) > WIDTH) == wide
    assert ("wide" in picture.get("class", "").split()) == wide


def test_lines_keep_inside_the_axes_and_break_where_a_value_is_missing() -> None:
    values = (1.0, 2.0, None, 4.0, math.nan, 3.0, 2.5)
    picture = parse(line_chart("key", "Loss", range(1, 8), [Series("a", values, "image")]))
    assert len([part for part in picture.iter("path")]) == 2
    assert len([part for part in picture.iter("circle")]) == 1
    height = float(picture.get("height", 0))
    for path in picture.iter("path"):
        places = [float(place) for place in re.findall(r"[\d.]+", path.get("d", ""))]
        assert all(0 <= x <= WIDTH for x in places[::2]) and all(0 <= y <= height for y in places[1::2])
    assert Series("a", values, "image").has_gaps


@pytest.mark.parametrize("epochs", [1, 2, 3, 5, 25, 30, 80, 81, 99, 1000])
def test_epoch_labels_run_from_the_first_to_the_last_without_touching(epochs: int) -> None:
    picture = parse(line_chart("key", "Loss", range(1, epochs + 1), [Series("a", (1.0,) * epochs, "image")]))
    labels = [text for text in picture.iter("text") if text.get("class") == "middle"]
    assert (labels[0].text, labels[-1].text) == ("1", str(epochs))
    places = [float(label.get("x", 0)) for label in labels]
    assert all(after - before > 20 for before, after in zip(places, places[1:], strict=False))


def test_a_chart_without_any_value_is_still_a_chart() -> None:
    picture = parse(line_chart("key", "Loss", [1, 2], [Series("a", (None, math.inf), "image")]))
    assert "no values" in (picture.findtext("desc") or "")


def test_tracks_stand_where_the_accuracies_are() -> None:
    picture = parse(interval_track("Tuned", 0.911, (0.884, 0.932), 0.1, tuned=True))
    circle = picture.find("circle")
    assert circle is not None and circle.get("cx") == "91.1%"
    lines = {line.get("class"): (line.get("x1"), line.get("x2")) for line in picture.iter("line")}
    assert lines["interval tuned"] == ("88.4%", "93.2%") and lines["chance"] == ("10%", "10%")


@pytest.mark.parametrize(("before", "after", "way"), [(0.2, 0.8, "rise"), (0.8, 0.2, "fall"), (None, 0.5, None)])
def test_a_change_joins_zero_shot_and_tuned(before: float | None, after: float, way: str | None) -> None:
    picture = parse(change_track("seven", before, after))
    assert len(list(picture.iter("circle"))) == (1 if before is None else 2)
    ways = [line.get("class") for line in picture.iter("line") if "way" in line.get("class", "")]
    assert ways == ([f"way {way}"] if way else [])
