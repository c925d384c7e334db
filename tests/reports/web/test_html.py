"""The page as a whole: self-contained, safe, complete, the same every time, and whole or not there."""

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from dpl.methods import METHODS
from dpl.reports.web.html import write_report
from dpl.utils.errors import DplError
from tests.reports.made_up import edit_history, edit_json
from tests.reports.page import Page, history, read


def test_the_report_is_one_small_file_made_in_under_a_second(run: Path) -> None:
    assert write_report(run) == (path := run / "report.html")
    took = []
    for _ in range(3):  # the least counts: the machine may be busy
        start = time.perf_counter()
        write_report(run)
        took.append(time.perf_counter() - start)
    assert min(took) < 1
    assert path.stat().st_size < 600_000
    assert not list(run.glob(".*"))


def test_the_report_of_a_thousand_classes_of_large_pictures_is_made_soon_and_stays_small(make_run: Callable[..., Path]) -> None:
    run = make_run(classes=[f"class {place}" for place in range(1000)], layers=24, options=list(range(13)), epochs=100, size=336)
    start = time.perf_counter()
    assert write_report(run).stat().st_size < 2_000_000
    assert time.perf_counter() - start < 10


def test_the_report_of_a_large_search_stays_small(make_run: Callable[..., Path]) -> None:
    run = make_run(method="pruning", layers=12, options=list(range(13)), epochs=80, size=None)
    assert write_report(run).stat().st_size < 300_000


def test_nothing_is_fetched_from_anywhere(either: Path) -> None:
    source = write_report(either).read_text()
    source = re.sub(r"data:image/webp;base64,[A-Za-z0-9+/=]+", "data:,", source)  # which may hold any letters
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)|\bfetch\b|<iframe", source)
    page = Page(source)
    assert set(page.values("src")) == {"data:,"}
    places = {f"#{place}" for place in page.values("id")} | {"data:,"}
    assert all(link in places or (either / link).is_file() for link in page.values("href"))
    (policy,) = [value for value in page.values("content") if "default-src" in value]
    assert policy.startswith("default-src 'none'")
    digest = hashlib.sha256(next(script for script in page.scripts if "addEventListener" in script).encode()).digest()
    assert f"script-src 'sha256-{base64.b64encode(digest).decode()}'" in policy


def test_the_same_run_gives_the_same_bytes(either: Path) -> None:
    assert write_report(either).read_bytes() == write_report(either).read_bytes()


def test_the_main_result_stands_in_words(run: Path) -> None:
    edit_json(
        run / "metrics.json",
        accuracy=0.9111,
        accuracy_interval=[0.8842, 0.9324],
        zero_shot_accuracy=0.52,
        zero_shot_interval=[0.478, 0.562],
        zero_shot_ensemble_accuracy=0.53,
    )
    text = read(run).text
    assert "91.1 % of 540 test images correctly (95 % interval 88.4–93.2 %), against 52.0 % zero-shot" in text
    assert "and 53.0 % with an ensemble of 3 templates." in text
    assert "47.8–56.2 %" in text and "overlap" not in text
    assert "Shots 16 per class" in text and "Backbone tiny" in text and "Seed 1" in text and "Layout searched" in text


def test_chance_is_one_in_the_number_of_classes(run: Path) -> None:
    page = read(run)
    places = {line.get("x1") for picture in page.pictures for line in picture.iter("line") if line.get("class") == "chance"}
    assert places == {"10%"} and "chance, 1 in 10" in page.text


def test_the_charts_end_at_the_last_values_of_the_history(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    last = [line for line in lines if line["stage"] == "search"][-1]
    text = read(run).text
    for name in ("alpha_difference", "dominants"):
        assert f"image, last {last[name]['image']:.3g}text, last {last[name]['text']:.3g}" in text
    assert f"image, last {sum(last['layout']['image'])}text, last {sum(last['layout']['text'])}" in text
    assert f"training, last {last['train_loss']:.3g}validation, last {last['validation_loss']:.3g}" in text
    assert f"training, last {lines[-1]['loss']:.3g}" in text
    assert f"training batches, last {100 * lines[-1]['accuracy']:.1f} %" in text


def test_the_charts_of_pruning_end_at_the_last_values_of_the_history(pruned: Path) -> None:
    lines = [json.loads(line) for line in (pruned / "history.jsonl").read_text().splitlines()]
    before, last = [line for line in lines if line["stage"] == "search"][-2:]
    text = read(pruned).text
    parts = {branch: f"{100 * sum(map(sum, last['saliency'][branch])):.1f} %" for branch in ("image", "text")}
    changed = {
        branch: sum(a != b for a, b in zip(before["layout"][branch], last["layout"][branch], strict=True)) for branch in parts
    }
    assert sum(changed.values()) > 0
    for values in (parts, changed, {branch: sum(last["layout"][branch]) for branch in parts}):
        assert f"image, last {values['image']}text, last {values['text']}" in text
    for branch, part in parts.items():
        assert f"at the end {part} of the saliency; {sum(last['layout'][branch])} of 36 kept" in text
    assert f"In {sum(changed.values())} of 12 layers the length still changed in the last epoch" in text
    assert f"training, last {last['train_loss']:.3g}validation, last {last['validation_loss']:.3g}" in text


def test_a_result_that_is_no_gain_is_said_plainly(run: Path) -> None:
    edit_json(run / "metrics.json", accuracy=0.50, accuracy_interval=[0.458, 0.542], zero_shot_accuracy=0.52)
    edit_json(run / "metrics.json", zero_shot_interval=[0.478, 0.562], zero_shot_ensemble_accuracy=0.53)
    text = read(run).text
    assert "fewer than 52.0 % zero-shot" in text
    assert "The ensemble, which needs no training, does better." in text
    assert "overlap: this run alone does not settle which is better" in text


def test_every_section_of_a_searched_run_is_there(run: Path) -> None:
    page = read(run)
    for phrase in ("The prompt layout", "What the search preferred", "How it converged", "Class by class"):
        assert phrase in page.text
    for phrase in ("Our reading", "mean absolute change of softmax(alpha)", "exceeds the sum of all the others"):
        assert phrase in page.text
    for phrase in ("dpl fit digits --shots 16 --seed 1", "search.options", "2.13.0+cpu", "9f86d081", "layout.json"):
        assert phrase in page.text
    assert "ran 25 epochs of at most 30 in 30 s" in page.text
    assert page.elements.count("details") == 2 and page.elements.count("h1") == 1


def test_every_section_of_a_pruned_run_is_there(pruned: Path) -> None:
    page = read(pruned)
    for phrase in ("The prompt layout", "What the search preferred", "How it converged", "Class by class"):
        assert phrase in page.text
    for phrase in ("squared, so that harm and help count alike", "with at most 2.5 prompts per layer on average (outlined)"):
        assert phrase in page.text
    assert "relative to the largest single share of the epoch in either branch" in page.text
    assert "alpha" not in page.text.replace("search.alpha_lr", "")
    assert {picture.get("id") for picture in page.pictures} >= {"heat-image", "heat-text", "tokens", "parts", "changes"}
    assert page.elements.count("input") == 1


def test_pruning_of_one_epoch_has_not_changed_and_says_no_limit_where_there_was_none(make_run: Callable[..., Path]) -> None:
    run = make_run(epochs=1, method="pruning")
    settings = json.loads((run / "config.json").read_text())["settings"]
    for limit in (0, 1):
        settings["search"]["budget"] = limit
        edit_json(run / "config.json", settings=settings)
        text = read(run).text
        assert "Layers whose length changed (of 6 layers) image, last nonetext, last none" in text
        assert "still changed" not in text
        assert ("keeps the most saliency (outlined)" in text) == (limit == 0)
        assert ("with at most 1 prompt per layer" in text) == (limit == 1)


def test_saliency_of_nothing_is_no_obstacle(pruned: Path) -> None:
    def none(line: dict[str, Any]) -> None:
        line["saliency"] = {branch: [[0.0] * 6] * 6 for branch in ("image", "text")}

    for number in range(1, 8):
        edit_history(pruned / "history.jsonl", number, none)
    assert "at the end 0.0 % of the saliency" in read(pruned).text


def test_a_mixture_within_a_budget_outlines_the_layout_that_it_found(run: Path) -> None:
    settings = json.loads((run / "config.json").read_text())["settings"]
    settings["search"]["budget"] = 1
    edit_json(run / "config.json", settings=settings)
    found = {"image": [1] * 6, "text": [1] * 6}
    for number in range(1, 26):
        edit_history(run / "history.jsonl", number, lambda line: line.update(layout=found))
    (run / "layout.json").write_text(json.dumps(found))
    page = read(run)
    assert "most probable lengths that together have at most 1 token per layer on average (outlined)" in page.text
    assert "layout.json is not" not in page.text and "image, last 6text, last 6" in page.text
    assert set(history(page)["image"]["outlined"]) == {"0100000" * 6}


def test_a_mixture_that_kept_no_layouts_has_its_largest_alphas(run: Path) -> None:
    whole = read(run)
    for number in range(1, 26):
        edit_history(run / "history.jsonl", number, lambda line: line.pop("layout"))
    assert history(read(run)) == history(whole)


@pytest.mark.parametrize(
    ("kind", "inherit", "goes_on"), [("fit", True, True), ("fit", False, False), ("fit", None, False), ("train", None, False)]
)
def test_where_training_starts_is_said(either: Path, kind: str, inherit: bool | None, goes_on: bool) -> None:
    settings = json.loads((either / "config.json").read_text())["settings"] | {"inherit": inherit}
    edit_json(either / "config.json", kind=kind, settings={key: value for key, value in settings.items() if value is not None})
    text = read(either).text
    assert ("Training goes on with the prompts of the layout as the search has learned them." in text) == goes_on
    assert ("Training starts from fresh prompts of the chosen lengths." in text) != goes_on


def test_a_run_with_a_given_layout_says_that_nothing_was_searched(make_run: Callable[..., Path]) -> None:
    page = read(make_run(search=False))
    assert "given its layout; it searched none" in page.text
    assert "No search stage in this run" in page.text
    assert "Loss in the training stage" in page.text
    assert "input" not in page.elements


def test_a_layout_of_zeros_says_that_nothing_was_trained(run: Path) -> None:
    zeros = {"image": [0] * 6, "text": [0] * 6}
    (run / "layout.json").write_text(json.dumps(zeros))
    (run / "history.jsonl").write_text("")
    edit_json(run / "config.json", kind="train", settings={"layout": "0"})
    edit_json(run / "metrics.json", trainable_parameters=0)
    text = read(run).text
    assert "No layer has a prompt: the backbone is the plain, frozen one, and nothing was trained." in text
    assert "a layout without tokens has nothing to train" in text


@pytest.mark.parametrize("method", ["coop", "linear-probe", "zero-shot"])
def test_a_method_without_a_search_says_what_it_learns_and_nothing_of_a_search(make_run, method: str) -> None:
    run = make_run(search=False)
    edit_json(run / "config.json", method=method, kind="fit", settings={"shots": 16, "seed": 1})
    if method != "coop":
        (run / "layout.json").write_text(json.dumps({"image": [0] * 6, "text": [0] * 6}))
        (run / "history.jsonl").unlink()
    if method == "zero-shot":
        edit_json(run / "metrics.json", trainable_parameters=0)
    text = read(run).text
    assert f"{method} learns {METHODS[method].summary}." in text and f"With {method}, the frozen backbone names" in text
    assert ("No layer has a prompt: what was learned is elsewhere." in text) == (method == "linear-probe")
    assert "search" not in text and "given its layout" not in text


def test_a_run_that_only_searched_reports_without_accuracies(run: Path) -> None:
    edit_json(run / "config.json", kind="search")
    (run / "metrics.json").unlink()
    lines = [line for line in (run / "history.jsonl").read_text().splitlines() if '"search"' in line]
    (run / "history.jsonl").write_text("\n".join(lines))
    page = read(run)
    assert "No prompts were trained in it, so there is no accuracy to report" in page.text
    assert "No training stage in this run." in page.text and "Class by class" not in page.text
    assert "Shots 16 per class Classes 10 Seed 1 Layout searched" in page.text and "metrics.json" not in page.text
    assert {picture.get("id") for picture in page.pictures} >= {"heat-image", "heat-text", "layout-image", "tokens"}
    assert "#result" not in page.values("href") and {link[1:] for link in page.values("href") if link[0] == "#"} <= set(
        page.values("id")
    )


def test_a_given_layout_of_zeros_needs_no_history(make_run: Callable[..., Path]) -> None:
    run = make_run(search=False)
    (run / "layout.json").write_text(json.dumps({"image": [0] * 6, "text": [0] * 6}))
    (run / "history.jsonl").unlink()
    assert "a layout without tokens has nothing to train" in read(run).text


def test_older_runs_without_ensemble_classes_confusions_and_widths_still_report(run: Path) -> None:
    missing = ("accuracy_interval", "zero_shot_interval", "zero_shot_ensemble_accuracy", "per_class", "confusions")
    edit_json(run / "metrics.json", remove=missing)
    backbone = json.loads((run / "config.json").read_text())["backbone"]
    edit_json(run / "config.json", backbone={"name": backbone["name"]}, remove=("versions", "command"))
    page = read(run)
    assert "no results per class" in page.text and "metrics.json lists none" in page.text
    assert "ensemble" not in page.text and "None" not in page.text
    assert "84.9–90.4 %" in page.text  # computed where the run has no interval


NASTY = [
    "<script>alert(1)</script>",
    "\"double\" & 'single' </title></svg>",
    "{{ 7 * 7 }}{% raw %}",
    "\x00bell\x07\udc80",
]


def test_class_names_are_text_everywhere(make_run: Callable[..., Path]) -> None:
    run = make_run(classes=NASTY)
    page = read(run)
    assert "<script>alert(1)</script>" in page.text and "{{ 7 * 7 }}{% raw %}" in page.text
    assert "\ufffdbell\ufffd\ufffd" in page.text
    assert page.elements.count("script") == 2
    assert not any("alert" in script for script in page.scripts)
    assert any(value.startswith("test/000.png, of the class <script>alert(1)</script>") for value in page.values("alt"))
    titles = [title.text or "" for picture in page.pictures for title in picture.iter("title")]
    assert any(title.startswith("<script>alert(1)</script>: zero-shot") for title in titles)
    assert any(title.startswith(NASTY[1]) for title in titles)


def test_names_of_task_backbone_settings_and_run_are_text_too(either: Path) -> None:
    evil = "</script><img src=x onerror=alert(1)>"
    config = json.loads((either / "config.json").read_text())
    config["task"]["name"] = config["backbone"]["name"] = config["command"] = config["dpl"] = config["data"] = evil
    config["settings"][evil] = {evil: [evil]}
    config["versions"][evil] = evil
    config["task"]["templates"] = [evil]
    before = read(either).elements.count("img")
    (either / "config.json").write_text(json.dumps(config))
    page = read(either)
    assert page.elements.count("img") == before and page.text.count(evil) >= 7


def test_ids_are_unique_and_every_reference_has_its_target(either: Path) -> None:
    page = read(either)
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    references = [name for attribute in ("aria-labelledby", "for") for value in page.values(attribute) for name in value.split()]
    assert references and set(references) <= set(ids)


def test_every_picture_has_a_name(either: Path) -> None:
    for picture in read(either).pictures:
        named = picture.get("aria-hidden") or picture.get("aria-label") or picture.find("title") is not None
        assert named, ElementTree.tostring(picture)


def test_a_failing_write_leaves_the_old_report(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = write_report(run).read_bytes()
    edit_json(run / "metrics.json", accuracy=0.1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(DplError, match=r"report\.html.*No space left"):
        write_report(run)
    assert (run / "report.html").read_bytes() == before
    assert not list(run.glob(".*"))


def test_a_broken_run_leaves_the_old_report(either: Path) -> None:
    before = write_report(either).read_bytes()
    (either / "metrics.json").write_text("{")
    with pytest.raises(DplError):
        write_report(either)
    assert (either / "report.html").read_bytes() == before
