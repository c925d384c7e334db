"""What a run is about: half of the classes, shots that another run has drawn, images resized as asked."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dpl.backbones.loading import load_backbone
from dpl.cli.main import main
from dpl.config import FitRun, TrainConfig
from dpl.data.fewshot import sample
from dpl.data.load import load_task
from dpl.inference import evaluate_run, predict_files
from dpl.methods.linear_probe import LinearProbeRun
from dpl.pipeline import default_folder, fit, resume
from dpl.runs import load_run, settings_of
from dpl.schemas.explanation import read_explanation
from dpl.utils.errors import DplError
from tests.checkpoints import save_images


class Killed(Exception):
    """Stands for a kill of the process."""


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five classes; in the order of their labels azure, black, cyan, dark blue, red: base are the first three."""
    folder = save_images(tmp_path_factory.mktemp("five") / "five")
    for old, new in (("green", "cyan"), ("dark_blue", "dark_blue"), ("red", "red")):
        (folder / old).rename(folder / new)
    more = save_images(tmp_path_factory.mktemp("more") / "more", per_class=8)
    for old, new in (("green", "azure"), ("red", "black")):
        (more / old).rename(folder / new)
    return folder


def short(data: Path, checkpoint: Path, out: Path, **changes) -> FitRun:
    settings = {"data": str(data), "backbone": str(checkpoint), "shots": 2, "layout": "1", "train": TrainConfig(epochs=1)}
    return FitRun(**{**settings, "out": out, **changes})


@pytest.fixture(scope="module")
def plain(colours: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the settings of `short`; not to be changed."""
    return fit(short(colours, checkpoint, tmp_path_factory.mktemp("runs") / "plain"))


@pytest.fixture(scope="module")
def base(colours: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same on the base classes; not to be changed."""
    return fit(short(colours, checkpoint, tmp_path_factory.mktemp("runs") / "base", classes="base"))


def config_of(run: Path) -> dict:
    return json.loads((run / "config.json").read_text())


def outcome(run: Path) -> dict:
    """All that a run has learned and reached; not its settings, nor how long it took."""
    metrics = json.loads((run / "metrics.json").read_text())
    files = {name: (run / name).read_bytes() for name in ("prompts.safetensors", "class_features.safetensors", "layout.json")}
    return files | {key: value for key, value in metrics.items() if key not in ("seconds", "peak_memory_bytes", "seed")}


@pytest.mark.parametrize(("classes", "names"), [("base", ["azure", "black", "cyan"]), ("new", ["dark blue", "red"])])
def test_a_run_on_half_of_the_classes(classes, names: list[str], base, colours, checkpoint, tmp_path):
    run = base if classes == "base" else fit(short(colours, checkpoint, tmp_path / "run", classes=classes))
    config, metrics = config_of(run), json.loads((run / "metrics.json").read_text())
    assert config["task"]["class_names"] == names == metrics["class_names"] and config["settings"]["classes"] == classes
    # Drawn from all classes with the seed, then the half is taken: the names' first folder is the class.
    drawn = sample(load_task(str(colours)), 2, 1)
    of_half = [item.name for item in drawn.train if item.name.split("/")[0].replace("_", " ") in names]
    assert config["shots"]["train"] == of_half and len(of_half) == 2 * len(names)
    assert config["test_images"] == sum(
        load_task(str(colours)).class_names[i.label] in names for i in load_task(str(colours)).test
    )
    assert f"--classes {classes}" in config["command"]
    assert load_run(run).class_names == tuple(names)


def test_a_base_run_that_was_killed_goes_on_to_the_same_end(base, colours, checkpoint, tmp_path):
    def stop(*_: object) -> None:
        raise Killed

    with pytest.raises(Killed):
        fit(short(colours, checkpoint, tmp_path / "run", classes="base"), on_step=stop)
    assert outcome(resume(tmp_path / "run")) == outcome(base)


@pytest.mark.parametrize("resize", ["squash", "pad"])
def test_a_run_sees_images_resized_as_asked_in_all_that_is_done_with_it(resize, plain, colours, checkpoint, tmp_path):
    run = fit(short(colours, checkpoint, tmp_path / "run", resize=resize))
    config, model = config_of(run), load_run(run)
    rule = {"squash": "squash", "pad": "longest"}[resize]
    assert config["settings"]["resize"] == resize and f"--resize {resize}" in config["command"]
    assert config["backbone"]["preprocessing"]["resize"] == rule == model.backbone.preprocessing.resize
    assert outcome(run)["prompts.safetensors"] != outcome(plain)["prompts.safetensors"]

    def by_hand(path: Path) -> torch.Tensor:
        image = Image.open(path).convert("RGB")
        assert image.size == (24, 20)
        square = Image.new("RGB", (16, 16))
        square.paste(
            image.resize((16, 13 if resize == "pad" else 16), Image.Resampling.BICUBIC), (0, 2 if resize == "pad" else 0)
        )
        return torch.tensor(np.array(square)).permute(2, 0, 1)

    paths = sorted((colours / "red").glob("*.png"))[:3]
    expected = model(torch.stack([by_hand(path) for path in paths])).softmax(dim=-1)
    for row, probabilities in zip(predict_files(run, list(map(str, paths))), expected, strict=True):
        said = {one["name"]: one["probability"] for one in row["classes"]}
        assert said == pytest.approx({name: probabilities[model.class_names.index(name)].item() for name in said}, abs=1e-5)
    (result,) = evaluate_run(run)
    assert result["accuracy"] == json.loads((run / "metrics.json").read_text())["accuracy"]
    kept = read_explanation(run)
    assert kept is not None
    for example, pixels in zip(kept.examples, kept.pictures, strict=True):
        assert torch.equal(torch.from_numpy(pixels), by_hand(colours / example.name))


def test_a_killed_run_goes_on_with_its_resize_though_the_checkpoint_changed(colours, checkpoint, tmp_path):
    own = shutil.copytree(checkpoint, tmp_path / "checkpoint")
    said = json.loads((own / "preprocessor_config.json").read_text())
    (own / "preprocessor_config.json").write_text(json.dumps(said | {"size": [16, 16], "do_center_crop": False}))
    whole = fit(short(colours, own, tmp_path / "whole"))
    assert config_of(whole)["backbone"]["preprocessing"]["resize"] == "squash"

    def stop(*_: object) -> None:
        raise Killed

    with pytest.raises(Killed):
        fit(short(colours, own, tmp_path / "run"), on_step=stop)
    (own / "preprocessor_config.json").write_text(json.dumps(said | {"crop_size": 7}))
    assert outcome(resume(tmp_path / "run")) == outcome(whole)


def test_the_run_folder_says_which_half():
    assert default_folder(FitRun("digits")) == Path("runs/digits-16shot-seed1")
    assert default_folder(FitRun("digits", classes="base")) == Path("runs/digits-base-16shot-seed1")
    assert default_folder(LinearProbeRun("digits", classes="new")) == Path("runs/digits-new-linear-probe-16shot-seed1")


def test_shots_from_a_run_with_another_seed_are_its_images(plain, colours, checkpoint, tmp_path):
    said = []
    again = fit(short(colours, checkpoint, tmp_path / "again", seed=2, shots_from=plain), say=said.append)
    own = [item.name for item in sample(load_task(str(colours)), 2, 2).train]
    assert config_of(again)["shots"] == config_of(plain)["shots"] and config_of(again)["shots"]["train"] != own
    assert any(str(plain) in note and "10 for train" in note for note in said)


@pytest.mark.parametrize("form", ["folder", "file"])
def test_shots_from_repeat_the_run_bit_for_bit(form: str, plain, colours, checkpoint, tmp_path):
    source = plain
    if form == "file":
        source = tmp_path / "shots.json"
        source.write_text(json.dumps(config_of(plain)["shots"]))
    again = fit(short(colours, checkpoint, tmp_path / "again", shots_from=source))
    assert outcome(again) == outcome(plain) and settings_of(again).shots_from == source


def test_resuming_does_not_need_the_file_of_the_shots(plain, colours, checkpoint, tmp_path):
    file = tmp_path / "shots.json"
    file.write_text(json.dumps(config_of(plain)["shots"]))

    def stop(*_: object) -> None:
        raise Killed

    with pytest.raises(Killed):
        fit(short(colours, checkpoint, tmp_path / "run", shots_from=file), on_step=stop)
    file.unlink()
    assert outcome(resume(tmp_path / "run")) == outcome(plain)


def test_shots_of_all_classes_serve_a_half(plain, base, colours, checkpoint, tmp_path):
    again = fit(short(colours, checkpoint, tmp_path / "again", classes="base", seed=3, shots_from=plain))
    assert config_of(again)["shots"] == config_of(base)["shots"]


def test_the_command_line_takes_the_number_of_shots_from_the_run(plain, colours, checkpoint, tmp_path, capsys):
    words = [
        "fit",
        str(colours),
        "--backbone",
        str(checkpoint),
        "--layout",
        "1",
        "--train.epochs",
        "1",
        "--shots-from",
        str(plain),
    ]
    assert main([*words, "--out", str(tmp_path / "again")]) == 0
    assert settings_of(tmp_path / "again").shots == 2 and outcome(tmp_path / "again") == outcome(plain)
    capsys.readouterr()
    assert main([*words, "--shots", "3", "--out", str(tmp_path / "never")]) == 2
    assert "has 2 shots per class, not 3; add --shots 2" in capsys.readouterr().err and not (tmp_path / "never").exists()


def test_shots_of_other_data_are_refused_before_anything_is_written(plain, checkpoint, images, tmp_path):
    with pytest.raises(DplError, match="are not in the train images of colours"):
        fit(short(images, checkpoint, tmp_path / "run", shots_from=plain))
    assert not (tmp_path / "run").exists()


def test_data_of_test_images_only_are_refused_in_one_line(checkpoint, colours, tmp_path):
    task = replace(load_task(str(colours)), train=(), val=())
    for more in ({}, {"shots_from": tmp_path / "none.json"}):
        with pytest.raises(DplError, match="has test images only; train on other data and use dpl evaluate RUN --on"):
            fit(short(colours, checkpoint, tmp_path / "run", **more), common=(task, load_backbone(str(checkpoint))))
    assert not (tmp_path / "run").exists()
