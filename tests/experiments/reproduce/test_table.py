"""Tables of incomplete results; published figures are always labelled as published."""

import json

import pytest

from dpl.experiments.reproduce.published import FEW_SHOT
from dpl.experiments.reproduce.table import Measured, Reproduction
from dpl.experiments.reproduce.text import explanation, lines_of, to_csv, to_dict, to_markdown

BACKBONE = {"name": "tiny", "fingerprint": "0", "precision": "fp32"}


def made(results: list[Measured], protocol: str = "dpl-fewshot", absent: tuple[str, ...] = (), **changes) -> Reproduction:
    about = {"command": "dpl reproduce", "backbone": BACKBONE, "device": "cpu", "versions": {"dpl": "1"}, "planned": 9}
    asked = {"protocol": protocol, "title": "T", "data": ("x", "y|z"), "absent": absent, "labels": ("coop", "dpl:layout=1")}
    asked |= {"methods": ("coop", "dpl"), "shots": (1, 16), "seeds": (1, 2), "preset": "paper", "about": about}
    return Reproduction(**(asked | changes)).with_results(results)


def one(data: str, seed: int, accuracy: float, label: str = "coop", shots: int = 16, role: str = "own") -> Measured:
    return Measured(data, role, "all", label, label.split(":")[0], shots, seed, accuracy, 0.25, data, f"{data}/run")


def all_of(data: str, accuracies: list[float]) -> list[Measured]:
    return [one(data, seed, a, label) for label in ("coop", "dpl:layout=1") for seed, a in zip((1, 2), accuracies, strict=True)]


def test_an_average_is_of_the_data_sets_that_are_complete():
    (panel,) = made([*all_of("x", [0.4, 0.6]), one("y|z", 1, 0.9)]).panels
    assert panel.complete == ("x",) and panel.average["coop"] == panel.rows["x"]["coop"]
    found = made([*all_of("x", [0.4, 0.6]), one("y|z", 1, 0.9)])
    lines = {line[0]: line[1:] for line in lines_of(found, panel)}
    assert lines["average of 1 of 2"] == ("25.0", "50.0 ± 127.1", "50.0 ± 127.1") and lines["y|z"] == ("25.0", "90.0", "–")
    (panel,) = made([one("x", 1, 0.4)]).panels
    assert panel.average == {} and not any("average" in line[0] for line in lines_of(found, panel))


def test_the_interval_of_an_average_is_that_of_the_seeds_averages():
    # x and y move against each other: their average stands still, whatever each does.
    (panel,) = made([*all_of("x", [0.4, 0.6]), *all_of("y|z", [0.8, 0.6])]).panels
    average = panel.average["coop"]
    assert average.mean == pytest.approx(0.6) and average.half == pytest.approx(0) != panel.rows["x"]["coop"].half
    assert panel.average["zero-shot"].half is None and panel.average["zero-shot"].mean == 0.25


def test_harmonic_means_of_made_up_numbers():
    halves = [one(data, seed, value, label, role=role) for label in ("coop", "dpl:layout=1")
              for data, role, seed, value in (
                  ("x", "own", 1, 0.6), ("x", "new", 1, 0.3), ("x", "own", 2, 0.5), ("x", "new", 2, 0.5),
                  ("y|z", "own", 1, 0.8), ("y|z", "new", 1, 0.5), ("y|z", "own", 2, 0.0), ("y|z", "new", 2, 0.0))]  # fmt: skip
    base, new, both = made(halves, "base-to-new").panels
    assert both.rows["x"]["coop"].mean == pytest.approx((0.4 + 0.5) / 2)
    assert both.rows["y|z"]["coop"].mean == pytest.approx((8 / 13 + 0) / 2)
    # Of the averages: seed 1 has 0.7 and 0.4, seed 2 0.25 and 0.25.
    assert both.average["coop"].mean == pytest.approx((0.56 / 1.1 + 0.25) / 2)
    assert (base.average["coop"].mean, new.average["coop"].mean) == (pytest.approx(0.475), pytest.approx(0.325))
    unfinished = [measured for measured in halves if measured.role == "own" or measured.data == "x"]
    assert made(unfinished, "base-to-new").panels[2].complete == ("x",)


def test_published_figures_are_those_of_the_protocol_page_and_stand_apart():
    assert {one.method: one.accuracy for one in FEW_SHOT} == {
        "zero-shot": 0.651, "coop": 0.8, "tip-adapter-f": 0.807, "PLOT++": 0.821, "clip-lora": 0.83
    }  # fmt: skip
    found = made([*all_of("x", [0.8, 0.8]), *all_of("y|z", [0.8, 0.8])], absent=("dtd",))
    line = lines_of(found, found.panels[0])[-1]
    assert line == ("published, CLIP ViT-B/16, not measured here", "[65.1]", "[80.0]", "–")
    assert "dtd" in " ".join(explanation(found)) and "2 data sets with tiny" in " ".join(explanation(found))
    said = to_dict(found)
    assert 0.651 not in [row["accuracy"] for row in said["measured"]["evaluations"]] and said["published"]["remark"]
    assert json.loads(json.dumps(said))["published"]["figures"][0]["source"]
    assert sum(line.startswith("published (not measured here)") for line in to_csv(found).splitlines()) == 5


def test_other_shots_and_protocols_have_no_published_figures():
    (panel,) = made([one("x", 1, 0.4, shots=1)]).panels
    assert panel.published == ()
    (panel,) = made([one("x", 1, 0.4, role="target")], "domain").panels
    assert panel.published == () and "no published figures" in to_markdown(made([one("x", 1, 0.4, role="target")], "domain"))


def test_markdown_says_what_is_missing_and_escapes_names():
    text = to_markdown(made([one("y|z", 1, 0.9)]))
    assert "1 of 9 runs are in the tables; the same command goes on." in text and "y\\|z" in text
    assert "## Published, not measured here" in text


def test_zero_shot_as_a_method_takes_the_place_of_the_column():
    found = made([one("x", 1, 0.3, "zero-shot")], labels=("zero-shot",), methods=("zero-shot",), seeds=(1,))
    assert found.columns == ("zero-shot",) and found.panels[0].rows["x"]["zero-shot"].mean == 0.3
