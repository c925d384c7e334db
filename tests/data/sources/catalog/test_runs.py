"""Whole runs on the replicas with the embedded backbone: every layout that can be trained on, with and without split files."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dpl.backbones.loading import Backbone, load_backbone
from dpl.classifier import ZeroShot
from dpl.cli.main import main
from dpl.config import preset
from dpl.data.load import load_task
from dpl.data.sources.catalog import CATALOG
from dpl.evaluate import evaluate_classifier
from dpl.methods import METHODS
from dpl.pipeline import fit
from tests.cases import quick_and_slow

from .replicas import NAMES, SPLITS

TRAINABLE = [name for name, row in CATALOG.items() if row.trained_on is None]
SHIFTS = [name for name, row in CATALOG.items() if row.trained_on]


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return load_backbone("tiny")


def run(name: str, root: Path, out: Path, tiny: Backbone) -> tuple[dict, dict, list[str]]:
    """config.json and metrics.json of a run of the quickest method that learns from shots, and what it said."""
    config = preset(METHODS["tip-adapter"].run(), "default", name, 2)
    said: list[str] = []
    fit(replace(config, method="tip-adapter", root=root, out=out), say=said.append, common=(load_task(name, root=root), tiny))
    return json.loads((out / "config.json").read_text()), json.loads((out / "metrics.json").read_text()), said


@pytest.mark.parametrize("name", quick_and_slow(["eurosat"], [name for name in TRAINABLE if name != "eurosat"]))
def test_a_run_on_every_data_set(root: Path, tmp_path: Path, tiny: Backbone, name: str):
    config, metrics, said = run(name, root, tmp_path / "run", tiny)
    assert config["task"]["class_names"] == list(NAMES[name]) and config["task"]["templates"] == list(CATALOG[name].templates)
    classes = len(NAMES[name])
    assert metrics["test_images"] == 2 * classes and 0 <= metrics["accuracy"] <= 1
    assert [len(config["shots"][part]) for part in ("train", "val")] == [2 * classes, 2 * classes]
    images = root / CATALOG[name].folder / CATALOG[name].images
    assert all((images / path).is_file() for part in config["shots"].values() for path in part)
    assert not any("published" in note for note in said)


@pytest.mark.parametrize("name", quick_and_slow(["dtd"], ["stanford_cars", "ucf101"]))
def test_a_run_without_the_split_file_says_so(without_splits: Path, tmp_path: Path, tiny: Backbone, name: str):
    _, metrics, said = run(name, without_splits, tmp_path / "run", tiny)
    assert metrics["test_images"] > 0 and any(
        "not the published one" in note and SPLITS[name][0].split("/")[1] in note for note in said
    )


@pytest.mark.parametrize("name", quick_and_slow(["imagenet_a"], [name for name in SHIFTS if name != "imagenet_a"]))
def test_a_shift_is_evaluated(root: Path, tiny: Backbone, name: str):
    task = load_task(name, root=root)
    evaluation = evaluate_classifier(ZeroShot(tiny, task.class_names, task.templates[:1]), task.test)
    assert len(evaluation.labels) == 2 * len(NAMES[name]) and 0 <= evaluation.accuracy <= 1


def test_imagenet_is_learned_on_and_its_shifts_evaluated_from_the_command_line(root: Path, tmp_path: Path, capsys):
    run = tmp_path / "run"
    method = ["--method", "coop", "--train.epochs", "1", "--shots", "1"]
    assert main(["fit", "imagenet", "--root", str(root), *method, "--out", str(run)]) == 0
    assert "validation shots are drawn from the training images" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--on", *SHIFTS, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["data"], row["classes"], row["test_images"]) for row in found] == [
        (name, len(NAMES[name]), 2 * len(NAMES[name])) for name in SHIFTS
    ]
    assert main(["fit", "imagenet_a", "--root", str(root), *method]) == 2
    assert "test images only" in capsys.readouterr().err


def test_a_folder_of_the_same_name_where_one_stands_changes_nothing(root: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(root)
    run = tmp_path / "run"
    assert main(["fit", "dtd", "--root", ".", "--method", "zero-shot", "--out", str(run), "--shots", "1"]) == 0
    config = json.loads((run / "config.json").read_text())
    assert config["data"] == "dtd" and config["settings"]["root"] == str(root)
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", str(run)]) == 0
