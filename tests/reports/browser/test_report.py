"""The report in a browser: it answers, needs nothing but itself, and can be seen by all, on paper too."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dpl.reports.web.html import write_report
from tests.browser import Tab
from tests.reports.made_up import write_run
from tests.reports.page import Page, history

EPOCHS = 8


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run whose search weighed a mixture for 8 epochs; a class is called `<script>`."""
    names = ["<script>alert(1)</script>", *(f"class {place}" for place in range(5))]
    return write_report(write_run(tmp_path_factory.mktemp("report") / "run", classes=names, layers=4, epochs=EPOCHS))


def heat(tab: Tab, branch: str) -> list[tuple[float, bool]]:
    """Value and outline of every cell of a heatmap, as its title and its class tell."""
    cells = tab.page.locator(f"#heat-{branch} .cell").evaluate_all(
        "cells => cells.map(cell => [cell.children[0].textContent, cell.classList.contains('chosen')])"
    )
    return [(float(title.rsplit(": ", 1)[1].removesuffix(" %")), chosen) for title, chosen in cells]


def expected(report: Path, branch: str, epoch: int) -> list[tuple[float, bool]]:
    """The same of the embedded history; epochs count from 1."""
    of = history(Page(report.read_text(encoding="utf-8")))[branch]
    return [(value / 10, cell == "1") for value, cell in zip(of["values"][epoch - 1], of["outlined"][epoch - 1], strict=True)]


def shown(tab: Tab) -> int:
    return int(tab.page.locator("#epoch-shown").inner_text())


def test_the_slider_redraws_both_heatmaps(report: Path, open_page: Callable[..., Tab]) -> None:
    tab = open_page(report)
    assert all(heat(tab, branch) == expected(report, branch, EPOCHS) for branch in ("image", "text"))
    before = tab.page.locator("#heat-image").screenshot()
    tab.page.locator("#epoch").press("Home")
    assert shown(tab) == 1
    assert all(heat(tab, branch) == expected(report, branch, 1) for branch in ("image", "text"))
    assert heat(tab, "image") != expected(report, "image", EPOCHS)
    assert tab.page.locator("#heat-image").screenshot() != before
    tab.page.locator("#epoch").press("ArrowRight")
    assert (shown(tab), tab.page.locator("#epoch").get_attribute("aria-valuetext")) == (2, "after epoch 2")
    assert heat(tab, "text") == expected(report, "text", 2)


WATCH = """() => {
  window.seen = [];
  const shown = document.getElementById("epoch-shown");
  new MutationObserver(() => window.seen.push(Number(shown.textContent))).observe(shown, {childList: true});
}"""


def test_play_goes_once_through_all_epochs_and_stops(report: Path, open_page: Callable[..., Tab]) -> None:
    tab = open_page(report)
    tab.page.evaluate(WATCH)
    button = tab.page.locator("#play")
    assert (button.inner_text(), button.get_attribute("aria-label")) == ("Play", "Play through the epochs")
    button.press("Enter")
    assert (button.inner_text(), button.get_attribute("aria-label")) == ("Pause", "Pause")
    tab.until(f"window.seen.length === {EPOCHS}")
    assert button.inner_text() == "Play"
    tab.page.wait_for_timeout(500)  # longer than the longest step
    assert tab.page.evaluate("window.seen") == list(range(1, EPOCHS + 1))
    assert heat(tab, "image") == expected(report, "image", EPOCHS)
    assert tab.errors == []


def test_pause_and_the_slider_stop_playing(report: Path, open_page: Callable[..., Tab]) -> None:
    tab = open_page(report)
    button = tab.page.locator("#play")
    for stop in (button.click, lambda: tab.page.locator("#epoch").press("ArrowLeft")):
        tab.page.locator("#epoch").press("Home")
        button.click()
        tab.until("Number(document.getElementById('epoch-shown').textContent) > 2")
        stop()
        at = shown(tab)
        assert button.inner_text() == "Play" and at < EPOCHS
        tab.page.wait_for_timeout(500)
        assert shown(tab) == at


def test_who_wants_less_motion_goes_on_epoch_by_epoch(report: Path, open_page: Callable[..., Tab]) -> None:
    tab = open_page(report, still=True)
    button = tab.page.locator("#play")
    assert (button.inner_text(), button.get_attribute("aria-label")) == ("Next", "Next epoch")
    for epoch in (1, 2, 3):
        button.click()
        tab.page.wait_for_timeout(150)
        assert shown(tab) == epoch
    tab.page.wait_for_timeout(500)
    assert (shown(tab), button.inner_text()) == (3, "Next")
    assert heat(tab, "image") == expected(report, "image", 3)


@pytest.mark.parametrize("width", [390, 1200])
def test_in_both_themes_all_is_there_and_can_be_seen(report: Path, open_page: Callable[..., Tab], width: int) -> None:
    pictures = []
    for dark in (False, True):
        tab = open_page(report, width=width, dark=dark)
        assert tab.errors == [] and tab.requests == [report.resolve().as_uri()]
        assert tab.overflow() == 0
        loaded = tab.page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth > 0)")
        assert len(loaded) > 30 and all(loaded)
        for details in tab.page.locator("details:not([open]) summary").all():
            details.click()
        if dark == (width < 1000):  # axe takes seconds: one theme at each width
            assert tab.findings() == []
        pictures.append(tab.picture(full_page=True))
    light, dark = (picture.mean() for picture in pictures)
    assert light > 180 and dark < 90
    # No band of the page is blank: between sections there is less than this.
    for picture in pictures:
        bands = [picture[top : top + 160] for top in range(0, len(picture) - 160, 160)]
        assert all(np.ptp(band.astype(int)) > 40 for band in bands)


def until_it_answers(tab: Tab) -> float:
    """Seconds from the start of loading until the page's script has run; the least of three, as the machine may be busy."""
    spent = []
    for _ in range(3):
        tab.page.reload()
        assert tab.page.evaluate("document.documentElement.classList.contains('scripted')")
        spent.append(tab.page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd") / 1000)
    return min(spent)


def test_it_answers_within_two_seconds(report: Path, open_page: Callable[..., Tab]) -> None:
    assert 0 < until_it_answers(open_page(report)) < 2


def test_a_thousand_classes_answer_within_two_seconds(tmp_path: Path, open_page: Callable[..., Tab]) -> None:
    run = write_run(tmp_path / "run", classes=[f"class {place}" for place in range(1000)], layers=12, size=224)
    tab = open_page(write_report(run), width=390)
    assert 0 < until_it_answers(tab) < 2
    assert tab.errors == [] and tab.overflow() == 0


def test_links_of_the_contents_lead_to_their_sections(report: Path, open_page: Callable[..., Tab]) -> None:
    tab = open_page(report)
    links = tab.page.locator("nav a")
    sections = "Result, Layout, Search, Convergence, Classes, Where it looks, Calibration, Prompts, Cost, Repeating it"
    assert links.all_inner_texts() == sections.split(", ")
    links.get_by_text("Calibration").click()
    assert -5 < tab.page.locator("#calibration").evaluate("heading => heading.getBoundingClientRect().top") < 100


def test_on_paper_it_is_light_whole_and_without_controls(report: Path, open_page: Callable[..., Tab]) -> None:
    tab = open_page(report, width=794, dark=True)  # A4 at 96 dots per inch
    tab.page.emulate_media(media="print")
    assert tab.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(253, 253, 251)"
    assert not tab.page.locator("#play").is_visible() and not tab.page.locator("nav").is_visible()
    assert tab.overflow() == 0
    settings = tab.page.get_by_role("cell", name="2.13.0+cpu")
    assert settings.evaluate("cell => cell.getBoundingClientRect().height") > 0  # what is folded on the screen
    pdf = tab.page.pdf(format="A4")
    assert pdf.startswith(b"%PDF") and pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") > 3


def test_a_run_from_before_there_were_explanations_is_as_clean(tmp_path: Path, open_page: Callable[..., Tab]) -> None:
    run = write_run(tmp_path / "run", size=None, method="pruning")
    assert "cost" not in json.loads((run / "metrics.json").read_text())
    tab = open_page(write_report(run))
    assert tab.errors == [] and tab.overflow() == 0
    assert "Where it looks" not in tab.page.inner_text("body")
