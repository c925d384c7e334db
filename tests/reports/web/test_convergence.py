"""The moment of settling: found, marked in the charts, and said."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpl.reports.web.convergence import settled_epoch
from tests.reports.made_up import edit_history
from tests.reports.page import Page, read


@given(st.lists(st.integers(0, 2), min_size=1, max_size=12))
def test_it_is_the_first_epoch_from_which_on_nothing_changed(layouts: list[int]) -> None:
    epochs = list(range(3, 3 + len(layouts)))
    candidates = [epoch for place, epoch in enumerate(epochs[:-1]) if len(set(layouts[place:])) == 1]
    assert settled_epoch(epochs, layouts) == (candidates[0] if candidates else None)


def marked(page: Page) -> set[str]:
    """The charts with the mark."""
    lines = {picture.get("id", ""): [line.get("class") for line in picture.iter("line")] for picture in page.pictures}
    return {key for key, classes in lines.items() if "settled" in classes}


@pytest.mark.parametrize(
    ("method", "charts"), [("mixture", {"difference", "dominants", "changes", "tokens"}), ("pruning", {"tokens", "changes"})]
)
def test_the_charts_of_the_layout_are_marked_where_it_settled(
    make_run: Callable[..., Path], method: str, charts: set[str]
) -> None:
    run = make_run(method=method, epochs=9)
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    last = [line["layout"] for line in lines if line["stage"] == "search"][-1]
    for number in range(1, 10):
        found = last if number >= 6 else {branch: [1 - length for length in map(bool, last[branch])] for branch in last}
        edit_history(run / "history.jsonl", number, lambda line, found=found: line.update(layout=found))
    page = read(run)
    assert marked(page) == charts
    assert "The layout settled after epoch 6 of 9: from there on no layer's length changed." in page.text
    descriptions = [picture.findtext("desc") or "" for picture in page.pictures if picture.get("id") in charts]
    assert len(descriptions) == len(charts) and all("The layout settled after epoch 6." in told for told in descriptions)
    (tokens,) = [picture for picture in page.pictures if picture.get("id") == "tokens"]
    (line,) = [line for line in tokens.iter("line") if line.get("class") == "settled"]
    assert float(line.get("x1", 0)) == pytest.approx(50 + 5 / 8 * (376 - 62), abs=0.01)  # epoch 6 of 1 to 9


@pytest.mark.parametrize("method", ["mixture", "pruning"])
def test_a_layout_that_changed_in_the_last_epoch_did_not_settle(make_run: Callable[..., Path], method: str) -> None:
    run = make_run(method=method, epochs=5)
    edit_history(run / "history.jsonl", 4, lambda line: line.update(layout={"image": [6] * 6, "text": [6] * 6}))
    page = read(run)
    assert marked(page) == set()
    assert "The layout did not settle: it still changed in the last epoch." in page.text
