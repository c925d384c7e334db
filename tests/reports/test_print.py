"""Figures for print: what is drawn are the run's numbers, the files are whole, and always the same bytes."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from PIL import Image

from dpl.cli.main import main
from dpl.reports.print import FIGURES, FORMATS, run_figures, write_figures
from dpl.reports.print import runs as static_runs
from dpl.reports.runs.group_statistics import layouts_of
from dpl.reports.runs.runs_table import grouped, read_runs
from dpl.reports.style import COLUMN, DPI, PAGE, files_of, paper, shorten
from dpl.reports.web.alphas import softmax
from dpl.schemas.explanation import read_explanation
from dpl.schemas.run_folder import read_run
from dpl.utils.errors import DplError
from dpl.utils.statistics import agreement_and_chance, wilson_interval
from tests.cases import quick_and_slow
from tests.reports.made_up import edit_history, edit_json, write_run

SMALL: dict[str, Any] = {"layers": 3, "options": [0, 1, 2], "epochs": 3, "size": 16}
OLD: dict[str, Any] = SMALL | {"size": None}
HOSTILE = ["<script>alert(1)</script>", "$\\frac{1}{2$", "a & b --> c", "{}%\\n", "方法", "é" * 80, "$x$", "_^", "-->", " "]


@pytest.fixture
def look() -> Iterator[None]:
    with paper():
        yield


def drawn(name: str, run: Path) -> Figure:
    figure = FIGURES[name](read_run(run), read_explanation(run))
    assert figure is not None
    return figure


def axes_of(figure: Figure) -> list[Axes]:
    return [one for one in figure.axes if one.get_title(loc="left")]


def heights(axes: Axes) -> list[float]:
    return [bar.get_height() for bar in bars(axes)]


def mesh(axes: Axes) -> np.ndarray:
    (found,) = [one for one in axes.collections if isinstance(one, QuadMesh)]
    return np.asarray(found.get_array())


def xs(line: Line2D) -> list[float]:
    return np.asarray(line.get_xdata(), float).tolist()


def ys(line: Line2D) -> list[float]:
    return np.asarray(line.get_ydata(), float).tolist()


def bars(axes: Axes) -> list[Any]:
    """The bars of all calls of bar and barh."""
    return [bar for group in axes.containers for bar in group]


def dots(axes: Axes) -> dict[str, np.ndarray]:
    return {str(one.get_label()): np.asarray(one.get_offsets()) for one in axes.collections if isinstance(one, PathCollection)}


def read(run: Path, name: str) -> dict[str, Any]:
    return json.loads((run / f"{name}.json").read_text())


def history(run: Path, stage: str) -> list[dict[str, Any]]:
    return [line for text in (run / "history.jsonl").read_text().splitlines() if (line := json.loads(text))["stage"] == stage]


@pytest.mark.parametrize("wanted", quick_and_slow([["preference"]], [["gradcam-grid"], [*FIGURES]]), ids="-".join)
def test_figures_are_written_in_every_format_and_the_same_twice(wanted: list[str], tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", method="pruning", **SMALL)
    figures = {name: files_of(lambda name=name: drawn(name, run), FORMATS) for name in wanted}
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "svg.fonttype": "path"}):  # a person's own settings
        assert files_of(lambda: drawn(wanted[0], run), FORMATS) == figures[wanted[0]]
    assert write_figures(tmp_path / "figures", figures) == []
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert names == {f"{name}.{ending}" for name in wanted for ending in FORMATS}
    for name in wanted:
        pdf, svg, png = ((tmp_path / "figures" / f"{name}.{ending}").read_bytes() for ending in FORMATS)
        assert pdf.startswith(b"%PDF-") and b"CreationDate" not in pdf and b"/Type3" not in pdf
        assert b"<dc:date>" not in svg and ElementTree.fromstring(svg).tag.endswith("svg")
        picture = Image.open(io.BytesIO(png))
        assert round(picture.info["dpi"][0]) == DPI
        assert min(abs(picture.width / DPI - width) for width in (COLUMN, PAGE)) < 0.01
        pixels = np.asarray(picture.convert("L"))
        assert (pixels < 250).mean() > 0.01 and (pixels > 250).mean() > 0.1


def test_text_in_an_svg_is_text_with_a_font_to_fall_back_on(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", search=False, **SMALL)
    found = files_of(lambda: drawn("layout", run), ("svg",))
    assert found is not None
    svg = found.files["svg"].decode()
    assert ">layer</text>" in svg and "'DejaVu Sans', sans-serif" in svg


def test_hostile_class_names_are_text(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", classes=HOSTILE, **SMALL)
    told, explanation = read_run(run), read_explanation(run)
    lacking, texts = "", []
    for name in ("classes", "confusions", "gradcam-grid"):
        found = files_of(lambda name=name: FIGURES[name](told, explanation), ("svg", "png"))
        assert found is not None
        root = ElementTree.fromstring(found.files["svg"])
        assert not [one for one in root.iter() if one.tag.endswith("script")]
        texts += ["".join(one.itertext()) for one in root.iter() if one.tag.endswith("text")]
        lacking += found.lacking
    shown = {shorten(name, 20) for name in HOSTILE} - {""}
    assert shown <= {" ".join(text.split()) for text in texts}
    assert "方" in lacking and "法" in lacking and "é" not in lacking


def test_characters_that_the_font_lacks_are_said_once(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", classes=["方法", "b"], **SMALL)
    figures = {name: files_of(lambda name=name: drawn(name, run), ("png",)) for name in ("classes", "confusions")}
    assert write_figures(tmp_path, figures) == ["the font of PDF and PNG lacks some characters, drawn as boxes: 方法"]


@pytest.mark.parametrize("layers", [3, 20])
def test_bars_of_a_layout_are_its_lengths(tmp_path: Path, layers: int, look: None) -> None:
    run = write_run(tmp_path / "run", method="pruning", layers=layers, epochs=2)
    layout = read(run, "layout")
    panels = axes_of(drawn("layout", run))
    assert [heights(one) for one in panels] == [layout["image"], layout["text"]]
    assert len({one.get_ylim() for one in panels}) == 1
    assert panels[0].get_title(loc="left") == f"Image branch: {sum(layout['image'])} tokens"


def test_preference_shows_the_probabilities_and_outlines_the_layout(tmp_path: Path, look: None) -> None:
    run = write_run(tmp_path / "run", epochs=12)
    line, layout = history(run, "search")[-1], read(run, "layout")
    for axes, branch in zip(axes_of(drawn("preference", run))[:2], ("image", "text"), strict=True):
        expected = 100 * np.array([softmax(row) for row in line["alphas"][branch]]).T
        assert mesh(axes) == pytest.approx(expected, abs=0.051)
        corners = {one.get_xy() for one in axes.patches if isinstance(one, Rectangle)}
        assert corners == {(layer, length) for layer, length in enumerate(layout[branch])}  # options are 0, 1, 2, ...


def test_saliency_over_epochs_begins_with_the_first_and_ends_with_the_last(tmp_path: Path, look: None) -> None:
    run = write_run(tmp_path / "run", method="pruning", epochs=30)
    lines, figure = history(run, "search"), drawn("preference-epochs", run)
    assert len(figure.axes) == 16
    titles = [axes.get_title(loc="left") for axes in figure.axes[:8]]
    assert (titles[0], titles[-1]) == ("epoch 1", "epoch 30")
    for axes, branch in ((figure.axes[0], "image"), (figure.axes[8], "text")):
        assert mesh(axes) == pytest.approx(1000 * np.array(lines[0]["saliency"][branch]).T, abs=0.051)
    text = figure.axes[15]
    assert mesh(text) == pytest.approx(1000 * np.array(lines[-1]["saliency"]["text"]).T, abs=0.051)


@pytest.mark.parametrize(("method", "noted"), [("mixture", "alpha_difference"), ("pruning", None)])
def test_curves_of_the_search_are_those_of_the_history(tmp_path: Path, method: str, noted: str | None, look: None) -> None:
    run = write_run(tmp_path / "run", method=method, epochs=9)
    lines, panels = history(run, "search"), axes_of(drawn("search", run))
    training, validation = panels[0].lines[:2]
    assert ys(training) == [line["train_loss"] for line in lines]
    assert ys(validation) == [line["validation_loss"] for line in lines]
    assert xs(training) == list(range(1, 10))
    if noted:
        assert ys(panels[1].lines[1]) == [line[noted]["text"] for line in lines]
    tokens = next(one for one in panels if one.get_title(loc="left").startswith("Tokens"))
    assert ys(tokens.lines[0]) == [sum(line["layout"]["image"]) for line in lines]


def test_the_moment_of_settling_is_marked_where_there_is_one(tmp_path: Path, look: None) -> None:
    run = write_run(tmp_path / "run", method="pruning", epochs=6)
    last = history(run, "search")[-1]["layout"]
    for number in (4, 5):
        edit_history(run / "history.jsonl", number, lambda line: line.update(layout=last))
    edit_history(run / "history.jsonl", 3, lambda line: line["layout"].update(text=[0] * 6))
    edit_json(run / "layout.json", **last)
    for axes in axes_of(drawn("search", run)):
        (mark,) = [line for line in axes.lines if str(line.get_label()).startswith("settled")]
        assert xs(mark) == [4, 4]
    edit_history(run / "history.jsonl", 5, lambda line: line["layout"].update(text=[0] * 6))
    edit_history(run / "history.jsonl", 6, lambda line: line["layout"].update(text=[1] * 6))
    assert not [line for axes in axes_of(drawn("search", run)) for line in axes.lines if "settled" in str(line.get_label())]


def test_training_curves_are_those_of_the_history_and_break_where_a_value_is_missing(run: Path, look: None) -> None:
    lines = history(run, "train")
    number = len(history(run, "search")) + 3
    edit_history(run / "history.jsonl", number, lambda line: line.update(loss=None))
    loss, accuracy = axes_of(drawn("training", run))
    values = np.asarray(loss.lines[0].get_ydata(), float)
    assert np.isnan(values[2]) and np.isfinite(np.delete(values, 2)).all()
    assert ys(accuracy.lines[0]) == [line["accuracy"] for line in lines]


def test_dots_of_the_classes_stand_where_the_accuracies_are(run: Path, look: None) -> None:
    rows = {row["name"]: row for row in read(run, "metrics")["per_class"]}
    (axes,) = drawn("classes", run).axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert sorted(names) == sorted(rows)
    found = dots(axes)
    for label, key in (("tuned", "accuracy"), ("zero-shot", "zero_shot_accuracy")):
        assert found[label][:, 0] == pytest.approx([rows[name][key] for name in names])
    changes = found["tuned"][:, 0] - found["zero-shot"][:, 0]
    assert (np.diff(changes) <= 1e-9).all()


def test_of_many_classes_both_ends_are_drawn(tmp_path: Path, look: None) -> None:
    run = write_run(tmp_path / "run", classes=[f"class {place}" for place in range(100)], **SMALL)
    (axes,) = drawn("classes", run).axes
    assert len(dots(axes)["tuned"]) == 40 and any("60" in one.get_text() for one in axes.texts)


def test_numbers_of_the_confusions_are_their_counts(run: Path, look: None) -> None:
    counts: dict[tuple[str, str], int] = {}
    for pair in read(run, "metrics")["confusions"]:
        counts[pair["true"], pair["predicted"]] = counts.get((pair["true"], pair["predicted"]), 0) + pair["count"]
    (axes,) = drawn("confusions", run).axes
    across, down = ([label.get_text() for label in labels] for labels in (axes.get_xticklabels(), axes.get_yticklabels()))
    found = {}
    for text in axes.texts:
        column, row = (int(place) for place in text.get_position())
        found[down[row], across[column]] = int(text.get_text())
    assert found == counts


def test_the_reliability_diagram_shows_the_bins(run: Path, look: None) -> None:
    calibration = read(run, "metrics")["calibration"]
    zero, tuned, *below = drawn("reliability", run).axes
    for axes, images, key in ((zero, below[0], "zero_shot"), (tuned, below[1], "tuned")):
        bins, ece = calibration[key]["bins"], calibration[key]["ece"]
        assert heights(axes) == [one["accuracy"] for one in bins if one["images"]]
        said = [ys(line)[0] for line in axes.lines if line.get_marker() == "o"]
        assert said == [one["confidence"] for one in bins if one["images"]]
        assert heights(images) == [one["images"] for one in bins]
        assert axes.get_title(loc="left").endswith(f"ECE {100 * ece:.1f} %")


def test_bars_of_cost_are_the_operations(run: Path, look: None) -> None:
    cost = read(run, "metrics")["cost"]
    for axes, key in zip(drawn("cost", run).axes, ("image", "classes"), strict=True):
        expected = [cost["frozen"][key], *(one[key] for one in cost["uniform"]), cost[key]]
        assert [bar.get_width() for bar in bars(axes)] == expected
        more = 100 * (cost[key] / cost["frozen"][key] - 1)
        assert axes.texts[-1].get_text().endswith(f"(+{more:.1f} %)")


def test_the_attention_map_shows_every_head_of_every_layer(run: Path, look: None) -> None:
    attention, figure = read(run, "explanation")["attention"], drawn("attention", run)
    maps = [axes for axes in figure.axes if axes.get_ylabel() == "head"]
    for axes, branch in zip(maps, ("image", "text"), strict=True):
        assert mesh(axes) == pytest.approx(100 * np.array(attention[branch]).T)


def test_the_contact_sheet_has_every_picture_and_every_map(run: Path, look: None) -> None:
    explanation, figure = read_explanation(run), drawn("gradcam-grid", run)
    assert explanation is not None
    pictures = [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]
    assert len(pictures) == 3 * len(explanation.examples)
    for place, picture in enumerate(explanation.pictures):
        assert (pictures[3 * place] == picture.transpose(1, 2, 0)).all()
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.images]
    for place, example in enumerate(explanation.examples):
        marks = ["✓" if one.label == example.label else "✗" for one in example.predictions]
        assert titles[3 * place + 1 : 3 * place + 3] == [
            f"{mark} {one.label}" for mark, one in zip(marks, example.predictions, strict=True)
        ]


def test_what_a_run_has_no_data_for_is_left_out_and_said(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", search=False, **OLD)
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "mine.txt").write_text("mine")
    figures = run_figures(run, ("png",))
    absent = ["preference", "preference-epochs", "search", "reliability", "cost", "attention", "gradcam-grid"]
    assert [name for name, one in figures.items() if one is None] == absent
    assert write_figures(tmp_path / "figures", figures) == [f"no data in the run for: {', '.join(absent)}"]
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert names == {f"{name}.png" for name in FIGURES if name not in absent} | {"mine.txt"}


def test_a_layout_of_zeros_has_no_layout_figure(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", search=False, **OLD)
    (run / "layout.json").write_text('{"image": [0, 0, 0], "text": [0, 0, 0]}')
    assert FIGURES["layout"](read_run(run), None) is None


@pytest.fixture
def several(tmp_path: Path) -> list[Path]:
    """Two searched runs that differ in the seed, and a given one."""
    folders = [write_run(tmp_path / name, seed=seed, epochs=3, size=None) for name, seed in (("one", 7), ("two", 8))]
    folders.append(write_run(tmp_path / "given", search=False, size=None))
    edit_json(folders[1] / "metrics.json", seed=2)
    return folders


def test_figures_of_several_runs_show_their_numbers(several: list[Path], look: None) -> None:
    groups = grouped(read_runs(several))
    layouts = static_runs.draw_layouts(groups)
    accuracies, agreement = static_runs.draw_accuracies(groups), static_runs.draw_agreement(groups)
    assert layouts is not None and accuracies is not None and agreement is not None
    expected = [read(run, "layout")[branch] for run in several for branch in ("image", "text")]
    assert [heights(axes) for axes in layouts.axes] == expected
    assert len({axes.get_ylim() for axes in layouts.axes}) == 1

    (axes,) = accuracies.axes
    metrics = [read(run, "metrics") for run in several]
    found = [xs(line)[0] for line in axes.lines if line.get_marker() == "o"]
    assert found == [one["accuracy"] for one in metrics]
    spans = [tuple(xs(line)) for line in axes.lines if line.get_linestyle() == "-"]
    for one in metrics:
        assert pytest.approx(wilson_interval(round(one["accuracy"] * one["test_images"]), one["test_images"])) in spans
    (mean,) = [xs(line)[0] for line in axes.lines if line.get_marker() == "D"]
    assert mean == pytest.approx((metrics[0]["accuracy"] + metrics[1]["accuracy"]) / 2)

    image = agreement_and_chance(layouts_of(groups[0].members, "image"))
    equal = [xs(line)[0] for line in agreement.axes[0].lines if line.get_marker() == "o"]
    assert equal[0] == image.found.equal


def test_the_command_writes_figures_beside_the_page(several: list[Path], tmp_path: Path, capsys) -> None:
    out, one = tmp_path / "figures", several[2]
    assert main(["report", str(one), "--figures", str(out), "--format", "svg"]) == 0
    output = capsys.readouterr()
    assert output.out.splitlines() == [str(one / "report.html"), str(out)]
    assert re.fullmatch(rf"{out}: no data in the run for: .*gradcam-grid\n", output.err)
    assert main(["report", *map(str, several), "--out", str(tmp_path / "c.html"), "--figures", str(out), "--format", "png"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "c.html"), str(out)]
    assert {"layout.svg", "layouts.png", "accuracies.png", "agreement.png"} <= {path.name for path in out.iterdir()}


def test_nothing_is_written_where_the_folder_is_a_file_or_the_run_is_broken(several: list[Path], tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("mine")
    assert main(["report", str(several[0]), "--figures", str(tmp_path / "file")]) == 2
    assert "is a file; give another folder to --figures" in capsys.readouterr().err
    with pytest.raises(DplError, match="is a file"):
        write_figures(tmp_path / "file", {})
    (several[0] / "layout.json").write_text("{")
    assert main(["report", str(several[0]), "--figures", str(tmp_path / "new")]) == 2
    assert "layout.json: layout: not JSON" in capsys.readouterr().err
    assert not (tmp_path / "new").exists() and not (several[0] / "report.html").exists()
