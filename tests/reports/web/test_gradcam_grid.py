"""Examples, their maps and the confused images in the page: whose pixels they are, and what is said of them."""

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dpl.reports.web.confusions import confusions
from dpl.reports.web.gradcam_grid import KINDS, gradcam_grid, where
from dpl.reports.web.pixels import data_uri
from dpl.schemas.explanation import read_explanation
from dpl.schemas.run_folder import read_run
from tests.reports.page import read


def decoded(uri: str) -> np.ndarray:
    assert uri.startswith("data:image/webp;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB"))


def test_the_examples_are_grouped_by_kind_with_the_pixels_that_the_model_saw(run: Path) -> None:
    explanation = read_explanation(run)
    assert explanation is not None
    shown = gradcam_grid(read_run(run), explanation)
    assert shown is not None
    assert [title for title, _, _ in shown["groups"]] == [title for title, _ in KINDS.values()]
    cards = [card for _, _, group in shown["groups"] for card in group]
    assert len(cards) == len(explanation.examples) == 8
    for card in cards:
        (place,) = [place for place, example in enumerate(explanation.examples) if example.name == card["name"]]
        assert (decoded(card["picture"]) == explanation.pictures[place].transpose(1, 2, 0)).all()
        assert [view["model"] for view in card["views"]] == ["zero-shot", "tuned"]
        for view, prediction in zip(card["views"], explanation.examples[place].predictions, strict=True):
            assert view["named"] == str(prediction.label) and view["probability"] == prediction.probability
            assert view["right"] == (prediction.label == explanation.examples[place].label)
            assert decoded(view["picture"]).shape == (192, 192, 3)


def test_right_and_wrong_are_said_in_words_and_every_picture_has_its_own(run: Path) -> None:
    page = read(run)
    repaired = page.text[page.text.index("Repaired: zero-shot wrong, tuned right") : page.text.index("Spoiled:")]
    assert repaired.count("✗ wrong") == repaired.count("✓ right") == 3
    assert page.elements.count("img") == len(page.values("alt")) and all(page.values("alt"))
    assert "Map of tuned: nothing speaks for the class" in page.values("alt")
    assert any(re.fullmatch("Map of zero-shot: the most of it in the .*(left|right|centre)", alt) for alt in page.values("alt"))
    assert "dpl explain RUN IMAGE..." in page.text and "Selvaraju" in page.text


@given(st.integers(0, 8), st.integers(0, 8), st.integers(9, 20))
def test_the_place_of_the_most_heat_is_named(row: int, column: int, size: int) -> None:
    heat = np.zeros((9, 9), np.float32)
    assert where(heat) is None
    heat[row, column] = 1
    told = where(heat) or ""
    assert ("upper" in told, "lower" in told) == (row < 3, row > 5)
    assert ("left" in told, "right" in told) == (column < 3, column > 5)
    assert where(np.kron(heat, np.ones((size, size), np.float32))) == told


def test_large_pictures_are_made_smaller_and_small_ones_kept_exactly() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert (decoded(data_uri(Image.fromarray(noise))) == noise).all()
    assert decoded(data_uri(Image.new("RGB", (336, 336), "red"))).shape == (224, 224, 3)


def test_confused_images_stand_beside_their_pair(run: Path) -> None:
    explanation, folder = read_explanation(run), read_run(run)
    shown = confusions(folder, explanation)
    assert explanation is not None and shown is not None and folder.metrics is not None and shown["pictured"]
    for row, pair, stored in zip(shown["rows"], folder.metrics.confusions, explanation.confusions, strict=True):
        assert (row["true"], row["predicted"], row["count"]) == (pair.true, pair.predicted, pair.count)
        assert row["part"] == pytest.approx(pair.count / 54)
        assert [name for name, _ in row["pictures"]] == stored.names
        for (_, uri), index in zip(row["pictures"], stored.pictures, strict=True):
            assert (decoded(uri) == explanation.confused[index].transpose(1, 2, 0)).all()


def test_classes_of_one_name_have_each_their_own_images(make_run: Callable[..., Path]) -> None:
    run = make_run(classes=["bank", "bird"])
    config = json.loads((run / "config.json").read_text())
    config["task"]["class_names"] = ["bank", "bank"]
    (run / "config.json").write_text(json.dumps(config))
    metrics, found = (json.loads((run / f"{name}.json").read_text()) for name in ("metrics", "explanation"))
    found["confusions"] = found["confusions"][:2]
    found["confusions"][0] |= {"true": 0, "predicted": 1}
    found["confusions"][1] |= {"true": 1, "predicted": 0}
    metrics["confusions"] = [{"true": "bank", "predicted": "bank", "count": pair["count"]} for pair in found["confusions"]]
    pixels = read_explanation(run)
    assert pixels is not None
    count = sum(len(pair["pictures"]) for pair in found["confusions"])
    tensors = {"pictures": pixels.pictures, "maps": pixels.maps, "confused": np.ascontiguousarray(pixels.confused[:count])}
    from safetensors.numpy import save

    (run / "explanation.safetensors").write_bytes(save(tensors))
    (run / "explanation.json").write_text(json.dumps(found))
    (run / "metrics.json").write_text(json.dumps(metrics))
    shown = confusions(read_run(run), read_explanation(run))
    assert shown is not None
    assert [[name for name, _ in row["pictures"]] for row in shown["rows"]] == [pair["names"] for pair in found["confusions"]]


def test_older_runs_show_the_pairs_without_images(make_run: Callable[..., Path]) -> None:
    page = read(make_run(size=None))
    assert "Most frequent confusions" in page.text and "Some of them" not in page.text and "Where it looks" not in page.text
    assert "img" not in page.elements
