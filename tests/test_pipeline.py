"""What a run is about: half of the classes, and shots that another run has drawn."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dpl.backbones.loading import load_backbone
from dpl.cli import main
from dpl.config import FitRun, TrainConfig
from dpl.data.fewshot import sample
from dpl.data.task import load_task
from dpl.errors import DplError
from dpl.methods.linear_probe import LinearProbeRun
from dpl.pipeline import default_folder, fit, resume
from dpl.runs import load_run, settings_of
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


def config_of(run: Path) -> dict:
    return json.loads((run / "config.json").read_text())


def outcome(run: Path) -> dict:
    """All that a run has learned and reached; not its settings, nor how long it took."""
    metrics = json.loads((run / "metrics.json").read_text())
    files = {name: (run / name).read_bytes() for name in ("prompts.safetensors", "class_features.safetensors", "layout.json")}
    return files | {key: value for key, value in metrics.items() if key not in ("seconds", "peak_memory_bytes", "seed")}


@pytest.mark.parametrize(("classes", "names"), [("base", ["azure", "black", "cyan"]), ("new", ["dark blue", "red"])])
def test_a_run_on_half_of_the_classes(classes, names: list[str], colours, checkpoint, tmp_path):
    run = fit(short(colours, checkpoint, tmp_path / "run", classes=classes))
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


def test_a_base_run_that_was_killed_goes_on_to_the_same_end(colours, checkpoint, tmp_path):
    whole = fit(short(colours, checkpoint, tmp_path / "whole", classes="base"))

    def stop(*_: object) -> None:
        raise Killed

    with pytest.raises(Killed):
        fit(short(colours, checkpoint, tmp_path / "run", classes="base"), on_step=stop)
    assert outcome(resume(tmp_path / "run")) == outcome(whole)


def test_the_run_folder_says_which_half():
    assert default_folder(FitRun("digits")) == Path("runs/digits-16shot-seed1")
    assert default_folder(FitRun("digits", classes="base")) == Path("runs/digits-base-16shot-seed1")
    assert default_folder(LinearProbeRun("digits", classes="new")) == Path("runs/digits-new-linear-probe-16shot-seed1")


def test_shots_from_a_run_with_another_seed_are_its_images(colours, checkpoint, tmp_path):
    first = fit(short(colours, checkpoint, tmp_path / "first", seed=1))
    said = []
    again = fit(short(colours, checkpoint, tmp_path / "again", seed=2, shots_from=first), say=said.append)
    other = fit(short(colours, checkpoint, tmp_path / "other", seed=2))
    assert config_of(again)["shots"] == config_of(first)["shots"] != config_of(other)["shots"]
    assert any(str(first) in note and "10 for train" in note for note in said)


@pytest.mark.parametrize("form", ["folder", "file"])
def test_shots_from_repeat_the_run_bit_for_bit(form: str, colours, checkpoint, tmp_path):
    first = fit(short(colours, checkpoint, tmp_path / "first"))
    source = first
    if form == "file":
        source = tmp_path / "shots.json"
        source.write_text(json.dumps(config_of(first)["shots"]))
    again = fit(short(colours, checkpoint, tmp_path / "again", shots_from=source))
    assert outcome(again) == outcome(first) and settings_of(again).shots_from == source


def test_resuming_does_not_need_the_file_of_the_shots(colours, checkpoint, tmp_path):
    first = fit(short(colours, checkpoint, tmp_path / "first"))
    file = tmp_path / "shots.json"
    file.write_text(json.dumps(config_of(first)["shots"]))

    def stop(*_: object) -> None:
        raise Killed

    with pytest.raises(Killed):
        fit(short(colours, checkpoint, tmp_path / "run", shots_from=file), on_step=stop)
    file.unlink()
    assert outcome(resume(tmp_path / "run")) == outcome(first)


def test_shots_of_all_classes_serve_a_half(colours, checkpoint, tmp_path):
    whole = fit(short(colours, checkpoint, tmp_path / "whole"))
    half = fit(short(colours, checkpoint, tmp_path / "half", classes="base"))
    again = fit(short(colours, checkpoint, tmp_path / "again", classes="base", seed=3, shots_from=whole))
    assert config_of(again)["shots"] == config_of(half)["shots"]


def test_the_command_line_takes_the_number_of_shots_from_the_run(colours, checkpoint, tmp_path, capsys):
    first = fit(short(colours, checkpoint, tmp_path / "first", shots=3))
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
        str(first),
    ]
    assert main([*words, "--out", str(tmp_path / "again")]) == 0
    assert settings_of(tmp_path / "again").shots == 3 and outcome(tmp_path / "again") == outcome(first)
    capsys.readouterr()
    assert main([*words, "--shots", "2", "--out", str(tmp_path / "never")]) == 2
    assert "has 3 shots per class, not 2; add --shots 3" in capsys.readouterr().err and not (tmp_path / "never").exists()


def test_shots_of_other_data_are_refused_before_anything_is_written(colours, checkpoint, images, tmp_path):
    first = fit(short(colours, checkpoint, tmp_path / "first"))
    with pytest.raises(DplError, match="are not in the train images of colours"):
        fit(short(images, checkpoint, tmp_path / "run", shots_from=first))
    assert not (tmp_path / "run").exists()


def test_data_of_test_images_only_are_refused_in_one_line(checkpoint, colours, tmp_path):
    task = replace(load_task(str(colours)), train=(), val=())
    for more in ({}, {"shots_from": tmp_path / "none.json"}):
        with pytest.raises(DplError, match="has test images only; train on other data and use dpl evaluate RUN --on"):
            fit(short(colours, checkpoint, tmp_path / "run", **more), common=(task, load_backbone(str(checkpoint))))
    assert not (tmp_path / "run").exists()
