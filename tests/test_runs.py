import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dpl import DplError, PromptLayout, load_backbone, load_run, save_run
from dpl.backbones.identity import first_fingerprint
from dpl.methods.dpl import Dpl, DplConfig
from dpl.pipeline import resume
from dpl.runs import class_features, save_parameters
from tests.checkpoints import save_checkpoint

NAMES, LAYOUT = ("red", "blue"), PromptLayout((2, 0), (0, 3))


@pytest.fixture
def model(checkpoint: Path) -> Dpl:
    return Dpl(load_backbone(str(checkpoint)), NAMES, ["a photo of a {}."], DplConfig(LAYOUT, 0.5), seed=1)


@pytest.mark.parametrize("scale", [1.0, 0.25, 0.0])
def test_a_saved_classifier_comes_back_the_same(model: Dpl, tmp_path: Path, scale: float):
    model.prompt_scale = scale
    save_run(tmp_path / "run", model)
    again = load_run(tmp_path / "run")
    pixels = torch.randint(0, 255, (2, 3, 16, 16), dtype=torch.uint8)
    assert torch.equal(again(pixels), model(pixels))
    assert (again.class_names, again.templates, again.layout) == (NAMES, ("a photo of a {}.",), LAYOUT)
    assert isinstance(again, Dpl) and again.prompt_scale == scale
    assert (tmp_path / "run" / "prompts.safetensors").stat().st_size < 2000


def test_the_prompt_scale_of_an_earlier_run_is_read_under_its_former_name(model: Dpl, tmp_path: Path):
    save_run(tmp_path / "run", model)
    file = tmp_path / "run" / "prompts.safetensors"
    with safe_open(file, framework="pt") as opened:
        header = json.loads(opened.metadata()["dpl"])
    save_file(load_file(file), file, metadata={"dpl": json.dumps(header | {"scalars": {"gate": 0.25}})})
    again = load_run(tmp_path / "run")
    assert isinstance(again, Dpl) and again.prompt_scale == 0.25


def test_class_features_are_read_back_and_not_computed(model: Dpl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    expected = model.text_features()
    save_run(tmp_path / "run", model)
    again = load_run(tmp_path / "run")
    monkeypatch.setattr(Dpl, "text_features", None)
    assert torch.equal(class_features(tmp_path / "run", again), expected)


@pytest.mark.parametrize("change", ["other prompts", "other classes", "no file", "a broken file"])
def test_class_features_of_something_else_are_computed_anew(model: Dpl, tmp_path: Path, change: str):
    run = tmp_path / "run"
    save_run(run, model)
    stored = run / "class_features.safetensors"
    if change == "other prompts":
        with torch.no_grad():
            model.text.layers[1].prompts.add_(1)
        save_parameters(run, model)
    elif change == "other classes":
        model = Dpl(model.backbone, ["green", "blue"], model.templates, model.design)
    elif change == "no file":
        stored.unlink()
    else:
        stored.write_bytes(b"nothing")
    with torch.no_grad():
        assert torch.equal(class_features(run, model), model.text_features())


def test_nothing_is_saved_over(model: Dpl, tmp_path: Path):
    save_run(tmp_path / "run", model)
    with pytest.raises(DplError, match="holds a run already"):
        save_run(tmp_path / "run", model)


def test_another_backbone_is_refused(model: Dpl, tmp_path: Path):
    save_run(tmp_path / "run", model)
    other = save_checkpoint(tmp_path / "other", seed=5)
    with pytest.raises(DplError, match=f"{tmp_path}/run: was made with backbone .*, whose weights differ from .*other"):
        load_run(tmp_path / "run", backbone=str(other))


def test_a_backbone_that_moved_is_found_by_its_new_place(model: Dpl, tmp_path: Path):
    save_run(tmp_path / "run", model)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["backbone"]["name"] = "/gone/away"
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    with pytest.raises(DplError, match="backbone /gone/away"):
        load_run(tmp_path / "run")
    assert load_run(tmp_path / "run", backbone=model.backbone.name).layout == LAYOUT


@pytest.mark.parametrize("given", ["a folder", "a backbone"])
def test_a_run_keeps_its_preprocessing_whatever_the_checkpoint_says_later(model: Dpl, tmp_path: Path, given: str):
    own = replace(model.backbone.preprocessing, resize="longest", resample="lanczos", mean=(0.1, 0.2, 0.3))
    save_run(tmp_path / "run", Dpl(replace(model.backbone, preprocessing=own), NAMES, model.templates, model.design))
    again = load_run(tmp_path / "run", model.backbone if given == "a backbone" else None)
    assert again.backbone.preprocessing == own != model.backbone.preprocessing
    assert again.backbone.clip is model.backbone.clip or given == "a folder"


def test_a_run_of_the_checkpoints_preprocessing_has_the_very_backbone_that_is_given(model: Dpl, tmp_path: Path):
    save_run(tmp_path / "run", model)
    assert load_run(tmp_path / "run", model.backbone).backbone is model.backbone


def test_runs_from_before_there_was_a_choice_resize_the_shortest_side_by_bicubic(model: Dpl, tmp_path: Path):
    save_run(tmp_path / "run", model)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    del config["backbone"]["preprocessing"]
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    today = replace(model.backbone.preprocessing, resize="squash", edge=16, resample="bilinear")
    loaded = load_run(tmp_path / "run", replace(model.backbone, preprocessing=today)).backbone.preprocessing
    assert loaded == model.backbone.preprocessing and loaded.resize == "shortest" and loaded.resample == "bicubic"


@pytest.mark.parametrize(
    "change", [{"resize": "fold"}, {"size": "x"}, {"mean": [1]}, {"std": [1, 0, 1]}, {"rescale": math.nan}, {"edge": 10**9}]
)
def test_a_preprocessing_that_cannot_be_read_is_one_line(model: Dpl, tmp_path: Path, change: dict):
    save_run(tmp_path / "run", model)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["backbone"]["preprocessing"] |= change
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    with pytest.raises(DplError, match=r"config\.json: preprocessing: \w+") as refused:
        load_run(tmp_path / "run")
    assert "\n" not in str(refused.value)


def test_what_is_no_run_is_refused(model: Dpl, tmp_path: Path):
    with pytest.raises(DplError, match="no such run folder"):
        load_run(tmp_path / "none")
    with pytest.raises(DplError, match="is not a run folder"):
        load_run(tmp_path)
    save_run(tmp_path / "run", model)
    with pytest.raises(DplError, match="was not made by dpl fit"):
        resume(tmp_path / "run")


@pytest.mark.parametrize("broken", ["layout.json", "prompts.safetensors", "config.json"])
def test_broken_files_are_named(model: Dpl, tmp_path: Path, broken: str):
    save_run(tmp_path / "run", model)
    path = tmp_path / "run" / broken
    path.write_bytes(b'{"dpl' + path.read_bytes()[5:40])
    with pytest.raises(DplError, match=broken):
        load_run(tmp_path / "run")


def test_prompts_of_another_layout_are_refused(model: Dpl, tmp_path: Path):
    save_run(tmp_path / "run", model)
    (tmp_path / "run" / "layout.json").write_text('{"image": [1, 0], "text": [0, 3]}')
    with pytest.raises(DplError, match="prompts.safetensors: does not fit the run"):
        load_run(tmp_path / "run")


def test_an_untrained_run_says_how_to_finish_it(model: Dpl, tmp_path: Path):
    save_run(tmp_path / "run", model)
    (tmp_path / "run" / "prompts.safetensors").unlink()
    with pytest.raises(DplError, match="has no trained prompts; finish it with dpl fit --resume"):
        load_run(tmp_path / "run")


def test_a_merged_adapter_is_another_backbone(model: Dpl, tmp_path: Path, checkpoint: Path):
    save_run(tmp_path / "run", model)
    other = Path(shutil.copytree(checkpoint, tmp_path / "merged"))
    weights = load_file(other / "model.safetensors")
    weights["vision_model.encoder.layers.0.self_attn.q_proj.weight"][0] += 0.01
    save_file(weights, other / "model.safetensors")
    with pytest.raises(DplError, match="whose weights differ from those of .*merged"):
        load_run(tmp_path / "run", backbone=str(other))


def test_a_half_precision_copy_is_the_same_model_and_it_is_said(model: Dpl, tmp_path: Path, checkpoint: Path):
    save_run(tmp_path / "run", model)
    half = Path(shutil.copytree(checkpoint, tmp_path / "half"))
    weights = {name: weight.half() for name, weight in load_file(half / "model.safetensors").items()}
    save_file(weights, half / "model.safetensors")
    said: list[str] = []
    load_run(tmp_path / "run", backbone=str(half), say=said.append)
    assert len(said) == 1 and "are the same in another rounding" in said[0]


@pytest.mark.parametrize("same", [True, False])
def test_a_run_of_an_earlier_version_is_read_as_far_as_its_fingerprint_goes(model: Dpl, tmp_path: Path, same: bool):
    save_run(tmp_path / "run", model)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    del config["backbone"]["identity"], config["backbone"]["commit"]
    config["backbone"]["fingerprint"] = first_fingerprint(model.backbone.clip) if same else "0"
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    if not same:
        with pytest.raises(DplError, match="whose weights differ"):
            load_run(tmp_path / "run")
        return
    said: list[str] = []
    assert load_run(tmp_path / "run", say=said.append).layout == LAYOUT
    assert len(said) == 1 and "was written by an earlier dpl, whose fingerprint covers a part" in said[0]


@pytest.mark.parametrize("change", ["swapped rows", "one row changed", "other dtype", "a row less", "no header"])
def test_damaged_class_features_are_computed_anew(model: Dpl, tmp_path: Path, change: str):
    save_run(run := tmp_path / "run", model)
    with safe_open(run / "class_features.safetensors", framework="pt") as file:
        header, stored = file.metadata(), file.get_tensor("class_features")
    damaged = {
        "swapped rows": stored.flip(0),
        "one row changed": stored * torch.tensor([[1.0], [-1.0]]),
        "other dtype": stored.double(),
        "a row less": stored[:1],
        "no header": stored.flip(0),
    }[change]
    metadata = None if change == "no header" else header
    save_file({"class_features": damaged.contiguous()}, run / "class_features.safetensors", metadata=metadata)
    with torch.no_grad():
        assert torch.equal(class_features(run, load_run(run)), model.text_features())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_parameters_that_are_not_finite_are_refused(model: Dpl, tmp_path: Path, value: float):
    with torch.no_grad():
        model.text.layers[1].prompts[0, 0] = value
    save_run(tmp_path / "run", model)
    with pytest.raises(DplError, match=r"prompts\.safetensors: does not fit the run \(.*not finite"):
        load_run(tmp_path / "run")


@pytest.mark.parametrize("gate", ["NaN", "Infinity", '"1"', "null", "[1]"])
def test_scalars_that_are_not_finite_numbers_are_refused(model: Dpl, tmp_path: Path, gate: str):
    save_run(run := tmp_path / "run", model)
    tensors = load_file(run / "prompts.safetensors")
    with safe_open(run / "prompts.safetensors", framework="pt") as file:
        header = json.loads(file.metadata()["dpl"])
    text = json.dumps(header | {"scalars": dict.fromkeys(header["scalars"], 0.125)}).replace("0.125", gate)
    save_file(tensors, run / "prompts.safetensors", metadata={"dpl": text})
    with pytest.raises(DplError, match=r"prompts\.safetensors: does not fit the run \(.*finite number"):
        load_run(run)


@pytest.mark.parametrize("template", ["{0.__class__}", "a {!r:>1000000}", "{} {}", "no hole"])
def test_a_template_of_a_stranger_is_text_with_one_hole(model: Dpl, tmp_path: Path, template: str):
    save_run(run := tmp_path / "run", model)
    config = json.loads((run / "config.json").read_text())
    config["task"]["templates"] = [template]
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(DplError, match=r"config\.json: template .* must have one \{\} for the class name"):
        load_run(run)


@pytest.mark.slow
def test_a_run_is_read_as_utf8_whatever_the_locale(model: Dpl, tmp_path: Path):
    names = ("café", "猫")
    save_run(tmp_path / "run", Dpl(model.backbone, names, ["ein Bild: {} ø"], model.design, seed=1))
    ask = "import dpl, json, sys; m = dpl.load_run(sys.argv[1]); print(json.dumps([m.class_names, m.templates]))"
    posix = os.environ | {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    read = subprocess.run([sys.executable, "-c", ask, str(tmp_path / "run")], env=posix, capture_output=True, check=True)
    assert json.loads(read.stdout) == [list(names), ["ein Bild: {} ø"]]
