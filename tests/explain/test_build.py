"""A trained run is explained: the two files say what the run itself would say again."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dpl import DplError, fit, load_run, load_task, save_run
from dpl.classifier import ZeroShot
from dpl.config import FitRun, SearchConfig, SearchRun, TrainConfig
from dpl.data.pixels.transforms import decode
from dpl.evaluate import evaluate_side_by_side
from dpl.explain import explain_run
from dpl.explain.calibration import calibration
from dpl.explain.cost import cost
from dpl.explain.examples import shuffled
from dpl.explain.gradcam import class_maps
from dpl.explain.prompt_attention import prompt_attention
from dpl.methods.method import Method
from dpl.methods.zero_shot import ZeroShotMethodRun
from dpl.runs import settings_of
from dpl.schemas.explanation import ARRAYS, NAMES, Explanation, read_explanation

FILES = (NAMES, ARRAYS)


@pytest.fixture(scope="module")
def explanation(trained: Path) -> Explanation:
    found = read_explanation(trained)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def model(trained: Path) -> Method:
    return load_run(trained)


@pytest.fixture(scope="module")
def frozen(model: Method) -> ZeroShot:
    return ZeroShot(model.backbone, model.class_names, model.templates[:1])


def test_the_pictures_are_what_the_models_saw_and_predicted(explanation: Explanation, model: Method, frozen, images: Path):
    items = {item.name: item for item in load_task(str(images)).test}
    shown = [items[example.name] for example in explanation.examples]
    pixels = decode(shown, model.backbone.preprocessing)
    assert np.array_equal(explanation.pictures, pixels.numpy())
    assert [example.label for example in explanation.examples] == [item.label for item in shown]
    assert explanation.models == ["zero-shot", "tuned"]
    for index, own in enumerate((frozen, model)):
        with torch.no_grad():
            best = own(pixels).softmax(dim=1).max(dim=1)
        found = [example.predictions[index] for example in explanation.examples]
        assert [prediction.label for prediction in found] == best.indices.tolist()
        assert [prediction.probability for prediction in found] == pytest.approx(best.values.tolist(), rel=1e-4)
        torch.testing.assert_close(torch.tensor(explanation.maps[:, index]), class_maps(own, pixels, best.indices))
    for example in explanation.examples:
        was_right, right = (prediction.label == example.label for prediction in example.predictions)
        assert example.kind == {(0, 1): "repaired", (1, 1): "right", (0, 0): "wrong", (1, 0): "spoiled"}[was_right, right]


def test_the_confusions_are_those_of_the_metrics_with_their_pictures(explanation: Explanation, trained, model, images: Path):
    metrics, items = json.loads((trained / "metrics.json").read_text()), {item.name: item for item in load_task(str(images)).test}
    names = model.class_names
    pairs = [{"true": names[own.true], "predicted": names[own.predicted], "count": own.count} for own in explanation.confusions]
    assert pairs == metrics["confusions"] and pairs
    for pair in explanation.confusions:
        assert len(pair.pictures) == len(pair.names) == min(3, pair.count)
        pixels = decode([items[name] for name in pair.names], model.backbone.preprocessing)
        assert np.array_equal(explanation.confused[pair.pictures], pixels.numpy())
        with torch.no_grad():
            assert set(model(pixels).argmax(dim=1).tolist()) == {pair.predicted}
        assert {items[name].label for name in pair.names} == {pair.true}


def test_what_prompts_say_and_how_much_they_are_used(explanation: Explanation, model: Method, images: Path):
    attention, prompts = explanation.attention, explanation.prompts
    assert attention is not None and prompts is not None
    test = load_task(str(images)).test
    pixels = decode([test[image] for image in shuffled(len(test))[:32]], model.backbone.preprocessing)
    assert attention.model_dump() == prompt_attention(model, pixels)
    assert [(layer.layer, len(layer.norms)) for layer in prompts.image] == [(1, 2)]
    assert [(layer.layer, len(layer.norms)) for layer in prompts.text] == [(1, 1), (2, 3)]


def test_the_metrics_hold_calibration_and_cost(trained: Path, model: Method, frozen: ZeroShot, images: Path):
    metrics = json.loads((trained / "metrics.json").read_text())
    tuned, plain = evaluate_side_by_side([model, frozen], load_task(str(images)).test)
    assert metrics["calibration"] == {"tuned": calibration(tuned), "zero_shot": calibration(plain)}
    assert metrics["cost"] == cost(model) is not None


def test_explaining_again_gives_the_same_files(trained: Path, model: Method, frozen: ZeroShot, images: Path):
    before = [(trained / name).read_bytes() for name in FILES]
    task = load_task(str(images))
    tuned, plain = evaluate_side_by_side([model, frozen], task.test)
    explain_run(trained, model, frozen, task, tuned, plain)
    assert [(trained / name).read_bytes() for name in FILES] == before


def test_nothing_is_left_behind_in_the_model(trained: Path, model: Method, frozen: ZeroShot, images: Path):
    task, pixels = load_task(str(images)), torch.randint(0, 255, (2, 3, 16, 16), dtype=torch.uint8)
    before = model(pixels)
    tuned, plain = evaluate_side_by_side([model, frozen], task.test)
    explain_run(trained, model, frozen, task, tuned, plain)
    assert torch.equal(model(pixels), before)
    assert all(parameter.grad is None for parameter in (*model.parameters(), *model.backbone.clip.parameters()))
    assert all(parameter.requires_grad for parameter in model.parameters()) and torch.is_grad_enabled()


def test_a_method_without_prompts_has_no_attention_words_or_cost(images: Path, checkpoint: Path, tmp_path: Path):
    run = fit(ZeroShotMethodRun(str(images), backbone=str(checkpoint), shots=2, out=tmp_path / "run"))
    explanation, metrics = read_explanation(run), json.loads((run / "metrics.json").read_text())
    assert explanation is not None and explanation.attention is None and explanation.prompts is None
    assert "cost" not in metrics and metrics["calibration"]["tuned"]["ece"] >= 0


def test_a_search_and_a_saved_model_are_not_explained(images: Path, checkpoint: Path, model: Method, tmp_path: Path):
    search = SearchConfig(epochs=1, batch_size=6, options=(0, 1))
    run = fit(SearchRun(str(images), backbone=str(checkpoint), shots=2, out=tmp_path / "search", search=search))
    save_run(tmp_path / "saved", model)
    for folder in (run, tmp_path / "saved"):
        assert not any((folder / name).exists() for name in FILES) and read_explanation(folder) is None


def test_a_run_in_the_same_folder_takes_the_old_files_away(trained: Path, images: Path, checkpoint: Path, tmp_path: Path):
    first = fit(replace(settings_of(trained), out=tmp_path / "run", train=TrainConfig(epochs=1)))
    assert all((first / name).exists() for name in FILES)
    search = SearchConfig(epochs=1, batch_size=6, options=(0, 1))
    fit(SearchRun(str(images), backbone=str(checkpoint), shots=2, out=first, overwrite=True, search=search))
    assert not any((first / name).exists() for name in FILES)


def test_a_model_that_has_left_all_bounds_is_refused_in_one_line(images: Path, checkpoint: Path, tmp_path: Path):
    train = TrainConfig(epochs=1, batch_size=64, lr=1e30, warmup_epochs=0)
    with pytest.raises(DplError, match=r"logits are not numbers: .* lower --train\.lr"):
        fit(FitRun(str(images), backbone=str(checkpoint), shots=2, out=tmp_path / "run", layout="1", train=train))
    assert not (tmp_path / "run" / "metrics.json").exists()
