"""A run decodes an image once; images that cannot be decoded are met when they are read."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import ImageFile

from dpl.backbones.loading import load_backbone
from dpl.cli.main import main
from dpl.config import FitRun, SearchConfig, TrainConfig
from dpl.data.load import load_task
from dpl.inference import evaluate_run
from dpl.methods.linear_probe import LinearProbeRun
from dpl.methods.tip_adapter import TipAdapterConfig, TipAdapterRun
from dpl.pipeline import fit, load_inputs, resume
from dpl.utils.errors import DplError
from tests.checkpoints import save_images

FIT: dict[str, Any] = {
    "search": SearchConfig(epochs=1, options=(0, 2), budget=1.0),
    "train": TrainConfig(epochs=2, prompt_scales=(0.5, 1.0)),
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three classes with given splits, so that no image changes its split when another one is damaged."""
    for part, count in (("train", 8), ("val", 4), ("test", 4)):
        save_images(tmp_path / "data" / part, per_class=count)
    return tmp_path / "data"


def settings(data: Path, checkpoint: Path, out: Path, kind: Any = FitRun, **changes: Any) -> Any:
    given = FIT if kind is FitRun else {}
    return kind(**{"data": str(data), "backbone": str(checkpoint), "shots": 3, "out": out, **given, **changes})


def shots(run: Path) -> dict[str, list[str]]:
    return json.loads((run / "config.json").read_text())["shots"]


def metrics(run: Path) -> dict[str, Any]:
    return json.loads((run / "metrics.json").read_text())


def spoil(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:60])


@pytest.fixture
def decoded(monkeypatch) -> Counter[str]:
    """Counts the decodes of every file."""
    counts: Counter[str] = Counter()
    load = ImageFile.ImageFile.load

    def counted(image: ImageFile.ImageFile) -> Any:
        if image.tile:  # not decoded yet
            counts[str(image.filename)] += 1
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", counted)
    return counts


@pytest.mark.parametrize(
    ("kind", "design", "times"),
    [
        (FitRun, {"head": "text"}, 1),
        (FitRun, {"head": "residual"}, 2),  # training images once for the training, and once as the head sees test images
        (LinearProbeRun, {}, 1),
        (TipAdapterRun, {"design": TipAdapterConfig(augment_epochs=2)}, 1),
    ],
)
def test_shots_and_test_images_are_decoded_once_and_others_never(kind, design, times, data, checkpoint, tmp_path, decoded):
    run = fit(settings(data, checkpoint, tmp_path / "run", kind, **design))
    train, val = ([str(data / name) for name in shots(run)[part]] for part in ("train", "val"))
    test = [str(path) for path in (data / "test").rglob("*.png")]
    assert decoded == Counter({**dict.fromkeys(train, times), **dict.fromkeys((*val, *test), 1)})
    assert (len(train), len(val), len(test)) == (9, 9, 12)


def test_an_unreadable_shot_is_left_out_and_another_one_is_drawn(data, checkpoint, tmp_path):
    first = fit(settings(data, checkpoint, tmp_path / "first"))
    bad = [shots(first)["train"][0], shots(first)["val"][4]]
    for name in bad:
        spoil(data / name)
    said: list[str] = []
    run = fit(settings(data, checkpoint, tmp_path / "run"), say=said.append)
    assert any(note.startswith("skipped 2 unreadable images: ") and all(name in note for name in bad) for note in said)
    for name in bad:
        (data / name).unlink()
    without = fit(settings(data, checkpoint, tmp_path / "without"))
    assert shots(run) == shots(without) and {part: len(names) for part, names in shots(run).items()} == {"train": 9, "val": 9}
    assert (run / "prompts.safetensors").read_bytes() == (without / "prompts.safetensors").read_bytes()


def test_a_class_without_a_readable_shot_is_named_before_anything_is_written(data, checkpoint, tmp_path):
    for file in (data / "train" / "red").iterdir():
        spoil(file)
    with pytest.raises(DplError, match=r"train has no readable image of the class red: train/red/\d\.png: .*; add some"):
        fit(settings(data, checkpoint, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_unreadable_shots_of_another_run_are_not_replaced(data, checkpoint, tmp_path):
    first = fit(settings(data, checkpoint, tmp_path / "first"))
    spoil(data / shots(first)["train"][0])
    with pytest.raises(DplError, match="cannot read .*png as an image: .*; replace or remove the file"):
        fit(settings(data, checkpoint, tmp_path / "run", shots_from=first))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("part", ["train", "test"])
def test_strict_refuses_an_unreadable_image_before_anything_is_written(part, data, checkpoint, tmp_path, capsys):
    spoil(data / part / "red" / "2.png")
    words = [str(data), "--backbone", str(checkpoint), "--shots", "3", "--strict", "--out", str(tmp_path / "run")]
    assert main(["fit", *words]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "cannot read" in line]
    assert "2.png" in line and not (tmp_path / "run").exists()


def test_unreadable_test_images_are_left_out_with_a_count(data, checkpoint, tmp_path):
    spoil(data / "test" / "red" / "2.png")
    said: list[str] = []
    run = fit(settings(data, checkpoint, tmp_path / "run"), say=said.append)
    assert metrics(run)["test_images"] == 11
    assert {row["name"]: row["images"] for row in metrics(run)["per_class"]}["red"] == 3
    (note,) = [note for note in said if "unreadable test image" in note]
    assert note.startswith("skipped 1 unreadable test image: test/red/2.png (") and note.endswith("those of the other 11")
    said.clear()
    (result,) = evaluate_run(run, say=said.append)
    assert (result["test_images"], result["accuracy"]) == (11, metrics(run)["accuracy"]) and note in said


def test_no_readable_test_image_is_one_line_and_the_run_goes_on_after_they_are_replaced(data, checkpoint, tmp_path):
    whole = fit(settings(data, checkpoint, tmp_path / "whole"))
    shutil.copytree(data / "test", tmp_path / "good")
    for file in (data / "test").rglob("*.png"):
        spoil(file)
    with pytest.raises(DplError, match="none of the 12 test images can be read, test/.*png first"):
        fit(settings(data, checkpoint, tmp_path / "run"))
    shutil.copytree(tmp_path / "good", data / "test", dirs_exist_ok=True)
    assert metrics(resume(tmp_path / "run"))["accuracy"] == metrics(whole)["accuracy"]


def test_a_strict_task_keeps_the_training_when_a_test_image_is_unreadable(data, checkpoint, tmp_path):
    """Data sets of the catalogue are strict without decoding all images first."""
    common = replace(load_task(str(data)), strict=True), load_backbone(str(checkpoint))
    spoil(data / "test" / "red" / "2.png")
    with pytest.raises(DplError, match=r"cannot read .*2\.png as an image: .* the file, then go on with --resume .*run$"):
        fit(settings(data, checkpoint, tmp_path / "run"), common=common)
    trained = (tmp_path / "run" / "prompts.safetensors").read_bytes()
    (data / "test" / "red" / "2.png").unlink()
    steps: list[str] = []
    run = resume(tmp_path / "run", on_step=lambda stage, *_: steps.append(stage))
    assert set(steps) == {"evaluate"} and metrics(run)["test_images"] == 11
    assert (run / "prompts.safetensors").read_bytes() == trained


def test_a_strict_task_refuses_an_unreadable_shot(data, checkpoint, tmp_path):
    task, backbone = replace(load_task(str(data)), strict=True), load_backbone(str(checkpoint))
    config = settings(data, checkpoint, tmp_path / "run")
    spoil(data / load_inputs(config, (task, backbone)).shots.val[0].name)
    with pytest.raises(DplError, match=r"cannot read .*val/.*png as an image: .*; replace or remove the file$"):
        load_inputs(config, (task, backbone))


def test_a_resumed_run_keeps_its_shots_when_other_images_come(data, checkpoint, tmp_path):
    whole = fit(settings(data, checkpoint, tmp_path / "whole"))

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(settings(data, checkpoint, tmp_path / "run"), on_step=stop)
    shutil.copy(data / "train" / "red" / "0.png", data / "train" / "red" / "00.png")
    run = resume(tmp_path / "run")
    assert shots(run) == shots(whole)
    assert (run / "prompts.safetensors").read_bytes() == (whole / "prompts.safetensors").read_bytes()
