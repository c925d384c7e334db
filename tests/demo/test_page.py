"""The page as a person uses it, in Chromium."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dpl.data.pixels.decode import read_image
from dpl.data.pixels.transforms import eval_pixels
from dpl.demo.demo import Demo, Example, png
from tests.browser import Tab

from .conftest import NAMES

MODELS = ("zero-shot", "tuned")


@pytest.fixture
def url(served: Callable[[Demo], str], demo: Demo, picture: Path) -> str:
    pixels = eval_pixels(read_image(picture), demo.model.backbone.preprocessing)  # an example is stored as the model saw it
    example = Example("test/<i>7</i>.png", "test/<i>7</i>.png: green", png(Image.fromarray(pixels.permute(1, 2, 0).numpy())))
    return served(Demo(demo.name, demo.model, demo.model.text_features().detach(), [example]))


def card(tab: Tab, place: int = 0) -> Any:
    return tab.page.locator(".card:not(.waiting)").nth(place)


def give(tab: Tab, *files: Path) -> None:
    tab.page.set_input_files("#files", list(files))
    card(tab, len(files) - 1).wait_for()


def classes(tab: Tab, model: str) -> dict[str, float]:
    """Names and percentages, as they stand on the first card."""
    rows = card(tab).locator(f"[data-model={model}] .classes li")
    texts = [(row.locator(".name").inner_text(), row.locator(".share").inner_text()) for row in rows.all()]
    return {name: float(share.removesuffix(" %")) for name, share in texts}


def reword(tab: Tab, field: str, text: str) -> None:
    with tab.page.expect_response("**/answer"):
        tab.page.fill(field, text)
    card(tab).wait_for()


def well(tab: Tab, url: str) -> bool:
    """Whether nothing was complained of, and nothing asked of another host."""
    return not tab.errors and all(place.startswith((f"{url}/", "data:image/")) for place in tab.requests)


def test_an_image_shows_what_both_models_make_of_it(open_page, url: str, demo: Demo, picture: Path):
    tab = open_page(url)
    before = tab.picture()
    assert before.std() > 5 and tab.page.locator("#empty").is_visible()
    give(tab, picture)
    expected = demo.answer(picture.name, picture.read_bytes(), demo.own)
    for model in MODELS:
        like: Any = expected.models[model]
        shares = {name: 100 * share for _, name, share in like.classes}
        assert classes(tab, model) == pytest.approx(shares, abs=0.051)
        place = card(tab).locator(f"[data-model={model}]")
        shown = place.locator("img")
        assert shown.evaluate("image => [image.complete, image.naturalWidth]") == [True, like.picture.width]
        assert place.locator("figcaption").inner_text() == f"what speaks for “{NAMES[like.label]}”"
        widths = place.locator(".bar i").evaluate_all("bars => bars.map(bar => bar.getBoundingClientRect().width)")
        assert widths == sorted(widths, reverse=True) and widths[0] > 10
    assert tab.page.title() == f"{demo.name}: demo" and tab.page.locator(".card h3").inner_text() == picture.name
    assert (tab.picture() != before).mean() > 0.02 and well(tab, url)


def test_other_class_names_change_zero_shot_and_are_text(open_page, url: str, picture: Path):
    tab = open_page(url)
    dialogs: list[object] = []
    tab.page.on("dialog", lambda dialog: (dialogs.append(dialog), dialog.dismiss()))
    give(tab, picture)
    own = {model: classes(tab, model) for model in MODELS}
    assert set(own["zero-shot"]) == set(NAMES)
    reword(tab, "#template", "the {} thing")
    assert classes(tab, "zero-shot") != own["zero-shot"] and classes(tab, "tuned") == own["tuned"]
    assert "the tuned model keeps its own" in tab.page.locator("#note").inner_text()
    reword(tab, "#names", "a cat\n<img src=x onerror=alert()>\nred")
    for model in MODELS:
        assert set(classes(tab, model)) == {"a cat", "<img src=x onerror=alert()>", "red"}
    with tab.page.expect_response("**/answer"):
        tab.page.click("#own")
    card(tab).wait_for()
    assert {model: classes(tab, model) for model in MODELS} == own
    assert not dialogs and well(tab, url)


def test_a_class_can_be_chosen_to_see_what_speaks_for_it(open_page, url: str, picture: Path):
    tab = open_page(url)
    give(tab, picture)
    last = card(tab).locator("[data-model=zero-shot] .classes button").last
    name, before = last.locator(".name").inner_text(), card(tab).locator("[data-model=zero-shot] img").get_attribute("src")
    with tab.page.expect_response("**/answer"):
        last.press("Enter")
    card(tab).wait_for()
    for model in MODELS:
        assert card(tab).locator(f"[data-model={model}] figcaption").inner_text() == f"what speaks for “{name}”"
        assert card(tab).locator(f"[data-model={model}] [aria-pressed=true] .name").inner_text() == name
    assert card(tab).locator("[data-model=zero-shot] img").get_attribute("src") != before
    assert tab.page.evaluate("document.activeElement.textContent").startswith(name) and well(tab, url)


def test_what_cannot_be_used_is_told_beside_it(open_page, url: str, picture: Path, tmp_path: Path):
    tab = open_page(url)
    (tmp_path / "large.png").write_bytes(bytes(10_000_001))
    give(tab, picture)
    tab.page.set_input_files("#files", [tmp_path / "large.png"])
    refused = tab.page.locator("#refused")
    refused.wait_for()
    assert refused.inner_text() == "large.png: more than 10 MB; give a smaller file" and well(tab, url)
    tab.page.set_input_files("#files", [{"name": "<b>no.png", "mimeType": "image/png", "buffer": b"no image"}])
    problem = tab.page.locator(".card .problem").first
    problem.wait_for()
    assert problem.inner_text().startswith("cannot read <b>no.png as an image: not an image") and refused.is_hidden()
    tab.page.locator(".remove").first.click()
    tab.page.fill("#names", "one")
    tab.page.locator("#problem").wait_for()
    assert tab.page.locator("#problem").inner_text() == "give at least two class names, a line each"
    assert len(classes(tab, "tuned")) == 3  # what was there stays
    assert len(tab.errors) == 2 and all("422" in error for error in tab.errors)  # Chromium's own note of each refusal


def test_an_example_of_the_run_can_be_looked_at(open_page, url: str):
    tab = open_page(url)
    tab.page.locator(".examples button").click()
    card(tab).wait_for()
    assert card(tab).locator("h3").inner_text() == "test/<i>7</i>.png" and len(classes(tab, "tuned")) == 3
    tab.page.locator(".remove").click()
    assert tab.page.locator("#empty").is_visible() and well(tab, url)


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (390, False), (390, True)])
def test_it_can_be_read_by_everyone(open_page, url: str, picture: Path, width: int, dark: bool):
    tab = open_page(url, width=width, dark=dark, still=True)
    give(tab, picture)
    ground = tab.picture()[0, 0]
    assert ground.mean() < 60 if dark else ground.mean() > 200
    assert tab.picture(full_page=True).std() > 20 and tab.overflow() <= 0
    assert tab.findings() == [] and well(tab, url)
