import json
from pathlib import Path

import pytest
import torch

from dpl import DplError, PromptLayout, load_backbone, load_run, save_run
from dpl.methods.dpl import Dpl, DplDesign
from dpl.pipeline import resume
from dpl.runs import class_features, save_parameters
from tests.checkpoints import save_checkpoint

NAMES, LAYOUT = ("red", "blue"), PromptLayout((2, 0), (0, 3))


@pytest.fixture
def model(checkpoint: Path) -> Dpl:
    return Dpl(load_backbone(str(checkpoint)), NAMES, ["a photo of a {}."], DplDesign(LAYOUT, 0.5), seed=1)


@pytest.mark.parametrize("gate", [1.0, 0.25, 0.0])
def test_a_saved_classifier_comes_back_the_same(model: Dpl, tmp_path: Path, gate: float):
    model.gate = gate
    save_run(tmp_path / "run", model)
    again = load_run(tmp_path / "run")
    pixels = torch.randint(0, 255, (2, 3, 16, 16), dtype=torch.uint8)
    assert torch.equal(again(pixels), model(pixels))
    assert (again.class_names, again.templates, again.layout) == (NAMES, ("a photo of a {}.",), LAYOUT)
    assert isinstance(again, Dpl) and again.gate == gate
    assert (tmp_path / "run" / "prompts.safetensors").stat().st_size < 2000


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
