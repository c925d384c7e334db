"""The section on costs: what was counted, beside the frozen model and uniform layouts."""

import json
from pathlib import Path

from dpl.reports.web.costs import costs
from dpl.schemas.run_folder import read_run
from tests.reports.made_up import edit_json
from tests.reports.page import read

COST = {
    "image": 1.1,
    "classes": 250.0,
    "frozen": {"image": 1.0, "classes": 200.0},
    "uniform": [{"length": 2, "image": 1.04, "classes": 230.0}, {"length": 1, "image": 1.2, "classes": 210.0}],
}


def test_rows_are_the_frozen_model_the_run_and_the_uniform_layouts_by_length(run: Path) -> None:
    edit_json(run / "metrics.json", cost=COST)
    (run / "layout.json").write_text(json.dumps({"image": [3, 0, 0, 0, 0, 0], "text": [0, 0, 0, 8, 0, 0]}))
    shown = costs(read_run(run))
    assert shown is not None
    rows = shown["rows"]
    assert [row["name"] for row in rows] == ["frozen, no prompts", "this run", "1 in every layer", "2 in every layer"]
    assert [row["tokens"] for row in rows] == [0, 11, 12, 24]
    assert [row["image"] for row in rows] == ["1.00", "1.10", "1.20", "1.04"]
    assert [row["classes"] for row in rows] == ["200", "250", "210", "230"]
    assert [row["more"] for row in rows] == ["", "+10.0\u202f%", "+20.0\u202f%", "+4.0\u202f%"]
    assert [row["near"] for row in rows] == [False, False, True, False]
    assert 'width="50%"' in rows[1]["track"] and 'width="100%"' in rows[2]["track"]


def test_parameters_seconds_and_memory_are_told(run: Path) -> None:
    edit_json(run / "metrics.json", trainable_parameters=1104, seconds=48.2, peak_memory_bytes=2**30)
    text = read(run).text
    assert "Learned 1,104 parameters Time 48 s Peak memory 1,024 MiB" in text


def test_what_is_not_known_is_left_out(run: Path) -> None:
    edit_json(run / "metrics.json", remove=("cost", "seconds", "peak_memory_bytes"))
    text = read(run).text
    assert "GFLOPs" not in text and "Peak memory" not in text and "Learned 1,104 parameters" in text


def test_a_cost_of_nothing_is_no_obstacle(run: Path) -> None:
    nothing = {"image": 0, "classes": 0}
    edit_json(run / "metrics.json", cost={**nothing, "frozen": nothing, "uniform": []})
    assert "this run" in read(run).text
