"""Several runs on one page: what they say together is right, what cannot be compared is left out, and names are text."""

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import t

from dpl import load_backbone
from dpl.cli.main import main
from dpl.config import FitRun, SearchConfig, TrainConfig
from dpl.explain.gradcam import class_maps
from dpl.pipeline import fit
from dpl.reports.overlay import overlay
from dpl.reports.runs import default_page, write_side_by_side
from dpl.reports.runs.group_statistics import difference, layouts_of, over_seeds
from dpl.reports.runs.maps import shared_maps
from dpl.reports.runs.page import render
from dpl.reports.runs.runs_table import Group, grouped, letter, read_runs
from dpl.reports.web.accuracy import percent
from dpl.reports.web.pixels import data_uri
from dpl.runs import load_run
from dpl.schemas.explanation import read_explanation
from dpl.utils.errors import DplError
from dpl.utils.statistics import agreement_and_chance
from tests.reports.made_up import edit_json, write_json, write_run
from tests.reports.page import Page

NASTY = "<script>alert('&')</script>"


def write_runs(folder: Path, accuracies: dict[str, dict[int, float]], **arguments: Any) -> list[Path]:
    """Runs of two kinds, `searched` and `given`, with these accuracies by seed."""
    runs = []
    for kind, by_seed in accuracies.items():
        for seed, accuracy in by_seed.items():
            search = kind == "searched"
            more: dict[str, Any] = {"size": None} | arguments
            run = write_run(folder / f"{kind}-{seed}", seed=seed, search=search, epochs=3, **more)
            config = json.loads((run / "config.json").read_text())
            config["settings"]["seed"] = seed
            write_json(run / "config.json", config)
            edit_json(run / "metrics.json", seed=seed, accuracy=accuracy, accuracy_interval=None)
            runs.append(run)
    return runs


def shown(share: float) -> str:
    """As `Page.text` has it."""
    return percent(share).replace("\u202f", " ")


def page_of(runs: list[Path]) -> Page:
    told = read_runs(runs)
    return Page(render(told, None))


def test_letters_go_on_after_z() -> None:
    assert [letter(place) for place in (0, 1, 25, 26, 51, 52, 701, 702)] == ["A", "B", "Z", "AA", "AZ", "BA", "ZZ", "AAA"]


def test_runs_that_differ_in_the_seed_only_are_of_one_kind(tmp_path: Path) -> None:
    runs = write_runs(tmp_path, {"searched": {1: 0.9, 2: 0.8}, "given": {2: 0.7}})
    other = write_runs(tmp_path / "other", {"searched": {3: 0.9}})[0]
    config = json.loads((other / "config.json").read_text())
    config["settings"]["search"]["alpha_lr"] = 0.5
    write_json(other / "config.json", config)
    groups = grouped(read_runs([runs[0], runs[2], other, runs[1]]))
    assert [[one.letter for one in group.members] for group in groups] == [["A", "D"], ["B"], ["C"]]
    labels = [group.label for group in groups]
    assert labels == ["dpl, search.alpha_lr 0.03", "dpl, layout 4", "dpl, search.alpha_lr 0.5"]


def test_kinds_that_nothing_in_their_settings_tells_apart_are_told_apart_by_letter(tmp_path: Path) -> None:
    runs = write_runs(tmp_path, {"searched": {1: 0.9, 2: 0.8}})
    edit_json(runs[1] / "config.json", data="/elsewhere/digits")
    assert [group.label for group in grouped(read_runs(runs))] == ["dpl, searched (A)", "dpl, searched (B)"]


def test_means_and_paired_differences_are_those_of_the_seeds(tmp_path: Path) -> None:
    runs = write_runs(tmp_path, {"searched": {1: 0.9, 2: 0.8, 3: 0.85}, "given": {2: 0.7, 3: 0.78, 4: 0.1}})
    searched, fixed = grouped(read_runs(runs))
    mean = over_seeds(searched)
    assert mean is not None and (mean.mean, mean.count) == (pytest.approx(0.85), 3)
    assert mean.half == pytest.approx(t.ppf(0.975, 2) * 0.05 / 3**0.5)
    paired = difference(fixed, searched)
    assert paired is not None and (paired.mean, paired.count) == (pytest.approx(-0.085), 2)
    assert paired.half == pytest.approx(t.ppf(0.975, 1) * np.std([-0.1, -0.07], ddof=1) / 2**0.5)
    assert difference(Group("one", fixed.members[2:]), searched) is None


def test_of_two_runs_with_the_same_seed_the_first_counts_and_it_is_said(tmp_path: Path) -> None:
    runs = write_runs(tmp_path, {"searched": {1: 0.9, 2: 0.8}})
    runs += write_runs(tmp_path / "again", {"searched": {2: 0.1}})
    (group,) = grouped(read_runs(runs))
    mean = over_seeds(group)
    assert mean is not None and mean.mean == pytest.approx(0.85) and mean.count == 2
    assert "the first counts over seeds: dpl, searched." in page_of(runs).text


def test_the_page_has_every_number_and_asks_for_nothing(tmp_path: Path) -> None:
    runs = write_runs(tmp_path, {"searched": {1: 0.91, 2: 0.82}, "given": {1: 0.7, 2: 0.75}}, size=16)
    page = page_of(runs)
    for accuracy in (0.91, 0.82, 0.7, 0.75, 0.865, 0.725):
        assert shown(accuracy) in page.text
    assert "−14.0 ± " in page.text and "reference" in page.text
    assert "Do the searches agree?" in page.text and "Rank correlation" in page.text
    searched = grouped(read_runs(runs))[0].members
    for branch in ("image", "text"):
        found = agreement_and_chance(layouts_of(searched, branch))
        assert f"{100 * found.found.equal:.0f} % {100 * found.chance.equal:.0f} % (" in page.text
        assert f"{found.found.distance:.2f} {found.chance.distance:.2f} (" in page.text
    for run in runs:
        metrics = json.loads((run / "metrics.json").read_text())
        assert shown(metrics["calibration"]["tuned"]["ece"]) in page.text
        assert f"{metrics['cost']['image']:#.3g} (+" in page.text and run.name in page.text
    assert "dpl report " + " ".join(map(str, runs)) in page.text
    assert not page.scripts and not [
        value for _, key, value in page.attributes if key in ("src", "href") and "data:" not in value
    ]
    assert render(read_runs(runs), None) == render(read_runs(runs), None)


def test_layouts_stand_on_one_scale(tmp_path: Path) -> None:
    runs = write_runs(tmp_path, {"searched": {1: 0.9, 2: 0.8}, "given": {1: 0.7}})
    pictures = {picture.get("id"): picture for picture in page_of(runs).pictures}
    bars = {}
    for branch in ("image", "text"):
        for column in pictures[f"layouts-{branch}"].iter("g"):
            found = re.fullmatch(r"(\w), (\w+) layer (\d+): (\d+) tokens?", column.findtext("title") or "")
            assert found is not None
            bars[found[1], found[2], int(found[3])] = int(found[4]), [float(bar.get("height", 0)) for bar in column.iter("rect")]
    expected = {}
    for name, run in zip("ABC", runs, strict=True):
        layout = json.loads((run / "layout.json").read_text())
        expected |= {(name, branch, place): n for branch in layout for place, n in enumerate(layout[branch], 1)}
    assert {key: length for key, (length, _) in bars.items()} == expected
    scale = {round(heights[0] / length, 1) for length, heights in bars.values() if length}
    assert len(scale) == 1 and all(not heights for length, heights in bars.values() if not length)


def test_names_of_classes_folders_and_tasks_are_text(tmp_path: Path) -> None:
    runs = write_runs(
        tmp_path / "<b>&", {"searched": {1: 0.9}, "given": {1: 0.8}}, classes=[NASTY, '"><img src=x>', "b"], size=16
    )
    for run in runs:
        config = json.loads((run / "config.json").read_text())
        config["task"]["name"] = config["backbone"]["name"] = NASTY
        config["settings"]["layout"] = config["settings"].get("layout") and NASTY
        write_json(run / "config.json", config)
    path = write_side_by_side(runs, tmp_path / "page.html")
    page = Page(path.read_text())
    assert not page.scripts and NASTY in page.text
    assert NASTY not in path.read_text()
    assert {element for element in page.elements} & {"script", "b"} == set()


def test_runs_on_different_data_are_not_compared_in_accuracy(tmp_path: Path) -> None:
    runs = write_runs(tmp_path, {"searched": {1: 0.9}, "given": {1: 0.8}})
    edit_json(runs[1] / "config.json", data="elsewhere")
    page = page_of(runs)
    assert "tested on different images or classes: no differences of accuracy" in page.text
    assert (
        "−10.0" not in page.text
        and "−10.0" in page_of(write_runs(tmp_path / "b", {"searched": {1: 0.9}, "given": {1: 0.8}})).text
    )


def test_runs_of_different_depth_are_shown_but_do_not_agree(tmp_path: Path) -> None:
    runs = write_runs(tmp_path, {"searched": {1: 0.9}})
    runs += write_runs(tmp_path / "deep", {"searched": {2: 0.8}}, layers=9)
    config = json.loads((runs[1] / "config.json").read_text())
    config["backbone"]["fingerprint"] = "another"
    write_json(runs[1] / "config.json", config)
    page = page_of(runs)
    assert "The runs have different backbones" in page.text and "Do the searches agree" not in page.text


def test_a_run_that_was_only_searched_has_its_layout_shown(tmp_path: Path) -> None:
    runs = write_runs(tmp_path, {"searched": {1: 0.9, 2: 0.8}})
    for run in runs:
        edit_json(run / "config.json", kind="search")
        (run / "metrics.json").unlink()
    page = page_of(runs)
    assert "Only searched, and so without an accuracy: A, B." in page.text
    assert "Mean accuracy" not in page.text and "Do the searches agree?" in page.text


def test_the_page_goes_where_the_runs_are_and_over_nothing_else(tmp_path: Path, monkeypatch, capsys) -> None:
    runs = write_runs(tmp_path / "runs", {"searched": {1: 0.9, 2: 0.8}})
    monkeypatch.chdir(tmp_path)
    assert main(["report", *map(str, runs)]) == 0
    assert capsys.readouterr().out == "runs/compare.html\n"
    assert main(["report", *map(str, runs)]) == 0  # a page of ours is written again
    capsys.readouterr()
    (tmp_path / "runs" / "compare.html").write_text("mine")
    assert main(["report", *map(str, runs)]) == 2
    assert "is not a page of runs side by side; give another --out" in capsys.readouterr().err
    assert (tmp_path / "runs" / "compare.html").read_text() == "mine"
    assert default_page([runs[0], tmp_path / "elsewhere"]) == Path("compare.html")
    for words, problem in (
        ([*map(str, runs), "--out", "no/where.html"], "there is no folder no"),
        ([str(runs[0]), str(runs[0]), "--out", "b.html"], "is there twice"),
        ([str(runs[0]), "--out", "a.html"], "is for the page of several runs"),
    ):
        assert main(["report", *words]) == 2
        assert problem in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]


def test_where_a_run_cannot_be_loaded_a_note_stands_for_its_maps(tmp_path: Path) -> None:
    runs = write_runs(tmp_path, {"searched": {1: 0.9, 2: 0.8}}, size=16)
    config = json.loads((runs[1] / "config.json").read_text())
    config["backbone"]["name"] = "no/such"
    write_json(runs[1] / "config.json", config)
    found = shared_maps(read_runs(runs))
    assert found is not None and [note.split(" on this")[0] for note in found.notes] == [
        "No maps of B: backbone no/such: is not in the Hugging Face cache"
    ]
    assert [tile.name for tile in found.examples[0][2]] == ["the picture", "zero-shot", "A"]
    config["backbone"] |= {"name": "tiny", "fingerprint": "another"}
    write_json(runs[1] / "config.json", config)
    found = shared_maps(read_runs(runs))
    assert found is not None and found.notes == ["Another backbone or preprocessing, and so no map of these pictures: B."]
    first = json.loads((runs[0] / "config.json").read_text())
    first["backbone"]["preprocessing"], config["backbone"] = {"resize": "squash"}, dict(first["backbone"])
    config["backbone"]["preprocessing"] = {"resize": "longest"}
    write_json(runs[0] / "config.json", first)
    write_json(runs[1] / "config.json", config)
    found = shared_maps(read_runs(runs))
    assert found is not None and found.notes == ["Another backbone or preprocessing, and so no map of these pictures: B."]
    (runs[0] / "explanation.json").unlink()
    (runs[1] / "explanation.json").unlink()
    assert shared_maps(read_runs(runs)) is None


@pytest.fixture(scope="module")
def fitted(images: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two real runs, a search and a given layout, with other seeds."""
    folder, common = tmp_path_factory.mktemp("fitted"), {"data": str(images), "backbone": str(checkpoint), "shots": 4}
    train = TrainConfig(epochs=3)
    search = SearchConfig(epochs=1, options=(0, 2))
    return [
        fit(FitRun(**common, seed=1, out=folder / "searched", search=search, train=train)),
        fit(FitRun(**common, seed=2, out=folder / "given", layout="2", train=train)),
    ]


def test_maps_are_those_that_each_run_gives_by_itself(fitted: list[Path]) -> None:
    found, explanation = shared_maps(read_runs(fitted)), read_explanation(fitted[0])
    assert found is not None and explanation is not None and found.notes == [] and found.letter == "A"
    model = load_run(fitted[1])
    pixels = torch.from_numpy(explanation.pictures)
    probabilities = model(pixels).softmax(dim=-1).detach()
    expected = class_maps(model, pixels, probabilities.argmax(dim=-1))
    for place, (example, (name, true, tiles)) in enumerate(zip(explanation.examples, found.examples, strict=True)):
        assert (name, true) == (example.name, model.class_names[example.label])
        assert [tile.name for tile in tiles] == ["the picture", "zero-shot", "A", "B"]
        picture = explanation.pictures[place].transpose(1, 2, 0).copy()
        assert tiles[0].source == data_uri(Image.fromarray(picture))
        for model_place, tile in enumerate(tiles[1:3]):
            said = example.predictions[model_place]
            assert (tile.predicted, tile.right) == (model.class_names[said.label], said.label == example.label)
            assert tile.source == data_uri(overlay(picture, explanation.maps[place, model_place], 168))
        label = int(probabilities[place].argmax())
        assert (tiles[3].predicted, tiles[3].probability) == (
            model.class_names[label],
            percent(float(probabilities[place, label])),
        )
        assert tiles[3].source == data_uri(overlay(picture, expected[place].numpy(), 168))


def test_one_backbone_serves_all_runs(fitted: list[Path], monkeypatch) -> None:
    loaded = []

    def load(*given, **named):
        loaded.append(given)
        return load_backbone(*given, **named)

    monkeypatch.setattr("dpl.backbones.loading.load_backbone", load)
    assert shared_maps(read_runs([*fitted[::-1]])) is not None
    assert len(loaded) == 1


@pytest.mark.slow
def test_the_page_in_a_browser(fitted: list[Path], tmp_path: Path, open_page) -> None:
    path = write_side_by_side(fitted, tmp_path / "page.html")
    seen = []
    for dark in (False, True):
        tab = open_page(path, dark=dark)
        assert tab.errors == [] and [url for url in tab.requests if not url.startswith("data:")] == [path.as_uri()]
        assert tab.findings() == []
        seen.append(tab.picture(full_page=True))
        assert seen[-1].std() > 10
    assert abs(float(seen[0].mean()) - float(seen[1].mean())) > 100
    phone = open_page(path, width=390)
    assert phone.overflow() == 0 and phone.errors == []
    widths = phone.page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert widths and all(width > 0 for width in widths)


def test_a_broken_run_is_named(tmp_path: Path) -> None:
    runs = write_runs(tmp_path, {"searched": {1: 0.9, 2: 0.8}})
    (runs[1] / "metrics.json").write_text("{")
    with pytest.raises(DplError, match=re.escape(str(runs[1] / "metrics.json"))):
        write_side_by_side(runs, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_a_folder_whose_name_is_no_text_can_be_shown(tmp_path: Path) -> None:
    runs = write_runs(tmp_path / os.fsdecode(b"no\xfftext"), {"searched": {1: 0.9, 2: 0.8}})
    path = write_side_by_side(runs, tmp_path / "page.html")
    assert "no\ufffdtext/searched-1" in Page(path.read_text()).text
