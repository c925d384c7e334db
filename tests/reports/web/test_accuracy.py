"""Accuracies in words and numbers."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dpl.reports.web.accuracy import classes, percent, points
from dpl.schemas.run import ClassResult
from tests.reports.page import read


def test_shares_and_changes_are_rounded_once() -> None:
    assert percent(0.9111) == "91.1\u202f%"
    assert [points(change) for change in (0.391, -0.0204, 0.0, -0.0001)] == ["+39.1", "−2.0", "0.0", "0.0"]


def results(count: int) -> list[ClassResult]:
    return [
        ClassResult(name=f"class {index}", images=50, accuracy=0.5, zero_shot_accuracy=index / count) for index in range(count)
    ]


@pytest.mark.parametrize("count", [1, 2, 10, 60])
def test_up_to_sixty_classes_are_all_shown_the_largest_gain_first(count: int) -> None:
    shown = classes(results(count))
    assert shown is not None and shown["hidden"] == 0
    (rows,) = shown["groups"]
    assert [row["name"] for row in rows] == [f"class {index}" for index in range(count)]


@pytest.mark.parametrize("count", [61, 1000])
def test_of_more_classes_both_ends_are_shown(count: int) -> None:
    shown = classes(results(count))
    assert shown is not None and shown["hidden"] == count - 40
    best, worst = shown["groups"]
    assert [row["name"] for row in best] == [f"class {index}" for index in range(20)]
    assert worst[-1]["name"] == f"class {count - 1}" and len(worst) == 20


def test_classes_without_test_images_or_zero_shot_results_are_no_obstacle() -> None:
    shown = classes([ClassResult(name="a", images=0), ClassResult(name="b", images=4, accuracy=0.25)])
    assert shown is not None
    assert (shown["untested"], shown["compared"], shown["total"]) == (1, False, 1)
    assert classes([]) is None and classes([ClassResult(name="a", images=0)]) is None


def test_a_thousand_classes_say_what_is_left_out_and_stay_small(make_run: Callable[..., Path]) -> None:
    run = make_run(classes=[f"class {index}" for index in range(1000)], layers=12, epochs=80, size=None)
    text = read(run).text
    assert "the 20 with the best and the 20 with the worst changes; 960 between them are left out" in text
    assert (run / "report.html").stat().st_size < 300_000


def test_two_classes_and_their_confusions_are_shown(make_run: Callable[..., Path]) -> None:
    page = read(make_run(classes=["cat", "dog"]))
    assert "Most frequent confusions" in page.text and "cat dog" in page.text
    assert "1 in 2" in page.text
