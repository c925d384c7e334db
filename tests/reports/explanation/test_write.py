"""`dpl explain`: pages and figures of where models look."""

import os
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dpl import DplError, load_backbone, load_run, save_run
from dpl.classifier import ZeroShot
from dpl.cli.arguments import Explain, parse
from dpl.cli.main import main
from dpl.data.pixels.decode import read_image
from dpl.data.pixels.transforms import eval_pixels
from dpl.explain.gradcam import class_maps
from dpl.inference import predict_files
from dpl.methods.coop import CoOp, CoOpConfig
from dpl.methods.dpl import Dpl, DplConfig
from dpl.prompts.layout import PromptLayout
from dpl.reports.explanation import write as files
from dpl.reports.explanation.figure import MOST_ROWS
from dpl.reports.explanation.grid import Sheet
from dpl.reports.explanation.write import explain_files
from dpl.schemas.explanation import Example, Explanation, Prediction, write_explanation
from tests.cases import quick_and_slow
from tests.checkpoints import save_checkpoint

SCRIPT = "<script>alert(1)</script>"
NAMES, TEMPLATE = ("green", "red", SCRIPT), "a {}."


def save_dpl(folder: Path, checkpoint: Path, length: int, seed: int, names: tuple[str, ...] = NAMES) -> Path:
    """A run with prompts so large that it sees other things than the frozen model."""
    backbone = load_backbone(str(checkpoint), "cpu")
    layout = PromptLayout.uniform(length, backbone.image.depth, backbone.text.depth)
    save_run(folder, Dpl(backbone, names, (TEMPLATE,), DplConfig(layout, 3.0), seed))
    return folder


@pytest.fixture
def run(tmp_path: Path, checkpoint: Path) -> Path:
    return save_dpl(tmp_path / "run", checkpoint, 2, 1)


@pytest.fixture
def other(tmp_path: Path, checkpoint: Path) -> Path:
    return save_dpl(tmp_path / "other <b>", checkpoint, 3, 2, ("blue", "yellow"))


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Three noisy images, one with a name that is no text for a page."""
    folder, rng = tmp_path / "pictures", np.random.default_rng(0)
    folder.mkdir()
    paths = [folder / name for name in ("a.png", "b <img src=x>.png", "c.png")]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)
    return paths


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Sheet]:
    """What is drawn, as it was before it was drawn."""
    sheets: list[Sheet] = []
    for name in ("page", "figure"):
        real: Callable[..., bytes] = getattr(files, name)

        def kept(sheet: Sheet, *kind: str, real: Any = real) -> bytes:
            sheets.append(sheet)
            return real(sheet, *kind)

        monkeypatch.setattr(files, name, kept)
    return sheets


def keep_examples(run: Path, size: int = 16) -> Explanation:
    """Gives the run two examples: one of class 0 and one of class 2."""
    rng = np.random.default_rng(1)
    guesses = [Prediction(label=0, probability=0.5)] * 2
    examples = [Example(name=f"{label}.png", label=label, kind="right", predictions=guesses) for label in (0, 2)]
    kept = Explanation(
        models=["zero-shot", "tuned"],
        examples=examples,
        confusions=[],
        attention=None,
        prompts=None,
        pictures=rng.integers(0, 256, (2, 3, size, size), dtype=np.uint8),
        maps=np.zeros((2, 2, 2, 2), np.float32),
        confused=np.zeros((0, 3, 4, 4), np.uint8),
    )
    write_explanation(run, kept)
    return kept


class Parsed(HTMLParser):
    """Elements, their attributes and the visible text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).replace("\u202f", " ").split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_columns_are_zero_shot_the_others_and_the_run_each_with_its_own_class(run, other, pictures, drawn):
    path = explain_files(run, list(map(str, pictures)), [other])
    assert path == run / "explain.html"
    (sheet,) = drawn
    assert [column.name for column in sheet.columns] == ["zero-shot", "other <b>", "run"]
    assert [column.note for column in sheet.columns] == ["the frozen model", "dpl, 12 prompt tokens", "dpl, 8 prompt tokens"]
    for column, predicted in ((1, predict_files(other, [*map(str, pictures)])), (2, predict_files(run, [*map(str, pictures)]))):
        for row, image in zip(sheet.rows, predicted, strict=True):
            assert row.name == image["image"] and row.truth is None
            assert row.views[column].class_name == image["classes"][0]["name"]
            assert row.views[column].probability == pytest.approx(image["classes"][0]["probability"], rel=1e-4)


def test_maps_are_those_of_the_models(run, pictures, drawn):
    explain_files(run, list(map(str, pictures)))
    model = load_run(run)
    frozen = ZeroShot(model.backbone, NAMES, (TEMPLATE,))
    pixels = torch.stack([eval_pixels(read_image(path), model.backbone.preprocessing) for path in pictures])
    for place, classifier in enumerate((frozen, model)):
        labels = torch.tensor([NAMES.index(row.views[place].class_name) for row in drawn[0].rows])
        expected = class_maps(classifier, pixels, labels)
        for row, pixel, heat in zip(drawn[0].rows, pixels, expected, strict=True):
            np.testing.assert_allclose(row.views[place].heat, heat, atol=1e-4)
            assert np.array_equal(row.picture, pixel.permute(1, 2, 0).numpy())


def test_names_are_text_on_the_page_and_nothing_is_fetched(run, other, pictures):
    page = Parsed(explain_files(run, [str(pictures[1])], [other], label=None))
    assert not page.all("script") and {name for name, _ in page.elements} >= {"style", "figure", "img"}
    assert "other <b>" in page.text and "b <img src=x>.png" in page.text
    images = page.all("img")
    assert len(images) == 1 + 1 + 3 and all(str(image["src"]).startswith("data:image/webp;base64,") for image in images)
    assert all(image["alt"] for image in images)
    assert [link["href"] for link in page.all("link")] == ["data:,"]
    labelled = Parsed(explain_files(run, [str(pictures[1])], label=SCRIPT))
    assert not labelled.all("script") and labelled.text.count(SCRIPT) == 3


def test_all_maps_are_of_the_class_that_is_asked_about(run, pictures, drawn):
    explain_files(run, list(map(str, pictures)), label="red")
    (sheet,) = drawn
    assert sheet.label == "red" and {view.class_name for row in sheet.rows for view in row.views} == {"red"}
    chances = {
        row["image"]: {c["name"]: c["probability"] for c in row["classes"]} for row in predict_files(run, [*map(str, pictures)])
    }
    for row in sheet.rows:
        assert row.views[-1].probability == pytest.approx(chances[row.name]["red"], rel=1e-4)


def test_without_images_the_runs_examples_are_shown_with_what_is_right(run, drawn):
    kept = keep_examples(run)
    page = Parsed(explain_files(run))
    (sheet,) = drawn
    assert [(row.name, row.truth) for row in sheet.rows] == [("0.png", "green"), ("2.png", SCRIPT)]
    assert np.array_equal([row.picture.transpose(2, 0, 1) for row in sheet.rows], kept.pictures)
    for row in sheet.rows:
        for view in row.views:
            assert row.verdict(view) == ("right" if view.class_name == row.truth else "wrong")
            assert f"{view.class_name} with {100 * view.probability:.1f} %, {row.verdict(view)}" in page.text


@pytest.mark.parametrize(
    ("ending", "begins"), quick_and_slow([("html", b"<!doctype")], [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
)
def test_every_kind_of_file_is_the_same_again(run, other, pictures, tmp_path, ending, begins):
    out = tmp_path / f"looks.{ending.upper()}"
    made = [explain_files(run, [str(pictures[0].parent)], [other], out=out).read_bytes() for _ in range(2)]
    assert made[0].startswith(begins) and made[0] == made[1]
    assert not (run / "explain.html").exists()


def test_a_figure_has_a_cell_for_every_map(run, pictures, tmp_path):
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    explain_files(run, [str(pictures[0])], out=one)
    explain_files(run, [*map(str, pictures)], [run], out=two)
    small, large = (read_image(path) for path in (one, two))
    assert small.width > 900 and large.height > 2 * small.height and large.width > 1.2 * small.width
    assert len(np.unique(np.asarray(small.convert("L")))) > 50


def test_an_unreadable_image_is_left_out_and_said(run, pictures, drawn):
    pictures[1].write_text("no image")
    said: list[str] = []
    explain_files(run, [str(pictures[0].parent)], say=said.append)
    assert len(drawn[0].rows) == 2 and len(said) == 1 and said[0].startswith("left out: cannot read")


def test_runs_of_the_same_name_have_their_whole_paths(run, checkpoint, pictures, tmp_path, drawn):
    same = tmp_path / "elsewhere" / "run"
    same.parent.mkdir()
    save_dpl(same, checkpoint, 1, 3)
    explain_files(run, [str(pictures[0])], [same])
    assert [column.name for column in drawn[0].columns[1:]] == [str(same), str(run)]


def test_another_method_can_stand_beside(run, checkpoint, pictures, tmp_path, drawn):
    save_run(tmp_path / "words", CoOp(load_backbone(str(checkpoint), "cpu"), NAMES, (TEMPLATE,), CoOpConfig(context=1)))
    explain_files(run, [str(pictures[0])], [tmp_path / "words"])
    assert drawn[0].columns[1].note == "coop, 1 prompt token"


def test_a_file_name_that_is_no_text_has_its_place(run, pictures):
    strange = os.fsencode(pictures[0].parent) + b"/\xff\x01.png"
    os.rename(pictures[0], strange)  # noqa: PTH104, a Path of bytes there is not
    assert r"\udcff?.png" in Parsed(explain_files(run, [os.fsdecode(strange)])).text


def refused(run: Path, *arguments: Any, **settings: Any) -> str:
    """What is said; nothing new may be there afterwards."""
    there = set(run.parent.rglob("*"))
    with pytest.raises(DplError) as error:
        explain_files(run, *arguments, **settings)
    assert set(run.parent.rglob("*")) == there
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_does_not_fit_is_refused_before_anything_is_written(run, other, pictures, tmp_path):
    image, folder = [str(pictures[0])], pictures[0].parent
    assert "ends in .html or .png, .pdf, .svg" in refused(run, image, out=tmp_path / "looks.jpg")
    assert "there is no folder" in refused(run, image, out=tmp_path / "missing" / "looks.html")
    assert "no such run folder" in refused(tmp_path / "none", image, out=tmp_path / "looks.html")
    assert "no such file or folder" in refused(run, ["missing.png"])
    assert "keeps no examples of its own; name images" in refused(run)
    assert "other <b> has no such class; it has blue, yellow" in refused(run, image, [other], label="red")
    assert "no such run folder" in refused(run, image, [tmp_path / "none"])
    (folder / "broken.png").write_text("no image")
    assert "none of the 1 files is a readable image" in refused(run, [str(folder / "broken.png")])


def test_a_run_on_another_backbone_is_refused(run, pictures, tmp_path):
    far = save_dpl(tmp_path / "far", save_checkpoint(tmp_path / "weights", seed=5), 1, 1)
    assert refused(run, [str(pictures[0])], [far]).startswith(f"{far}: was made with backbone")


def test_a_run_that_sees_images_in_another_way_is_refused(run, pictures, tmp_path, checkpoint):
    backbone = load_backbone(str(checkpoint), "cpu", resize="squash")
    save_run(tmp_path / "squashed", Dpl(backbone, NAMES, (TEMPLATE,), DplConfig(PromptLayout.uniform(1, 2, 2), 3.0), 1))
    said = refused(run, [str(pictures[0])], [tmp_path / "squashed"])
    assert said == f"{tmp_path / 'squashed'}: resizes images in another way than {run}; explain each by itself"


@pytest.mark.parametrize("resize", ["squash", "pad"])
def test_the_picture_is_drawn_as_the_models_see_it(resize, pictures, tmp_path, checkpoint, drawn):
    backbone = load_backbone(str(checkpoint), "cpu", resize=resize)
    run = tmp_path / resize
    save_run(run, Dpl(backbone, NAMES, (TEMPLATE,), DplConfig(PromptLayout.uniform(1, 2, 2), 3.0), 1))
    explain_files(run, [str(pictures[0])])
    image, expected = read_image(pictures[0]), Image.new("RGB", (16, 16))
    height, top = (16, 0) if resize == "squash" else (13, 2)
    expected.paste(image.resize((16, height), Image.Resampling.BICUBIC), (0, top))
    (row,) = drawn[0].rows
    assert np.array_equal(row.picture, np.asarray(expected))
    pixels = torch.tensor(np.asarray(expected)).permute(2, 0, 1)[None]
    model = load_run(run)
    label = model(pixels).argmax(dim=-1)
    np.testing.assert_allclose(row.views[-1].heat, class_maps(model, pixels, label)[0], atol=1e-5)


def test_examples_of_another_size_are_refused(run):
    keep_examples(run, size=8)
    assert "keeps no examples of 16 pixels" in refused(run)


def test_a_figure_is_not_endless(run, tmp_path):
    for index in range(MOST_ROWS + 1):
        Image.new("RGB", (4, 4), (index, 0, 0)).save(tmp_path / f"{index:02}.png")
    paths = sorted(str(path) for path in tmp_path.glob("*.png"))
    assert "at most 40 images, not 41; let it end in .html" in refused(run, paths, out=tmp_path / "looks.pdf")


def test_the_command_writes_and_says_where(run, other, pictures, tmp_path, capsys):
    out = tmp_path / "looks.html"
    images = [str(path) for path in pictures]
    assert main(["explain", str(run), *images, "--beside", str(other), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert len(Parsed(out).all("figure")) == 3 * 4
    assert main(["explain", str(run), images[0], "--label", "teal"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("dpl: --label teal: run has no such class; it has green, red, <script>")


def test_every_command_of_the_page_parses():
    page = Path(__file__).parents[3] / "docs" / "explain.md"
    lines = [line.split()[2:] for line in page.read_text().splitlines() if line.startswith("    dpl explain ")]
    found = [parse(Explain, line, "dpl explain") for line in lines]
    assert [(len(own.images), len(own.beside), own.label, own.out) for own in found] == [
        (1, 0, None, None),
        (1, 2, None, Path("looks.pdf")),
        (1, 0, "NAME", None),
        (0, 0, None, None),
    ]


@pytest.mark.parametrize(("width", "dark"), [(390, False), (1200, True)])
def test_the_page_in_a_browser(run, other, pictures, open_page, width: int, dark: bool):
    tab = open_page(explain_files(run, [*map(str, pictures)], [other], label=None), width=width, dark=dark)
    assert not tab.errors and len(tab.requests) == 1 and tab.overflow() == 0 and tab.findings() == []
    assert tab.page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 100)")
    picture = tab.picture()
    assert picture.std() > 10 and (picture[-1, -1].mean() < 128) == dark


def test_a_run_that_is_not_there_is_named_as_such(tmp_path):
    with pytest.raises(DplError, match="no such run folder"):
        explain_files(tmp_path / "nowhere")
