"""A finished run on its own classes, on the other half of them, and on other data."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dpl.backbones.loading import load_backbone
from dpl.classifier import ZeroShot
from dpl.cli.main import main
from dpl.data.load import load_task
from dpl.data.pixels.transforms import eval_pixels, load_image
from dpl.evaluate import evaluate_classifier
from dpl.inference import base_to_new, evaluate_run, harmonic_mean
from dpl.methods import method_spec
from dpl.runs import load_run
from dpl.utils.errors import DplError
from tests.cases import quick_and_slow
from tests.checkpoints import save_images

SPECIFIC = ("linear-probe", "tip-adapter", "tip-adapter-f", "coop")


def evaluated(run: Path, *on: str, **options) -> dict[str, Any]:
    (result,) = evaluate_run(run, on, **options)
    return result


def named(folder: Path, images: Path, **names: str) -> Path:
    """A task of these classes, each with the images of a colour."""
    folder.mkdir(parents=True)
    for name, colour in names.items():
        (folder / name).symlink_to(images / colour, target_is_directory=True)
    return folder


@pytest.fixture(scope="module")
def data(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five classes; base are blue, green and lime."""
    folder = named(tmp_path_factory.mktemp("data") / "five", images, blue="dark_blue", green="green", red="red")
    for old, new in (("green", "lime"), ("red", "rose")):
        (save_images(folder.parent / new, 10) / old).rename(folder / new)
    return folder


@pytest.fixture(scope="module")
def others(images: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("others")
    first = named(folder / "first", images, sky="dark_blue", grass="green")
    second = named(folder / "second", images, rose="red", moss="green", sea="dark_blue")
    return [str(first), str(second)]


@pytest.fixture(scope="module")
def base(data: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "base"
    words = ["fit", str(data), "--classes", "base", "--backbone", str(checkpoint), "--out", str(out), "--shots", "2"]
    assert main([*words, "--layout", "2", "--train.epochs", "3", "--template", "the {} thing"]) == 0
    return out


@pytest.fixture(scope="module")
def specific(data: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run on all five classes of every method whose parameters belong to classes, fitted when first asked for."""

    class Fitted(dict[str, Path]):
        def __missing__(self, method: str) -> Path:
            out, more = tmp_path_factory.mktemp("runs") / method, ["--class-specific"] if method == "coop" else []
            epochs = [] if method in ("linear-probe", "tip-adapter") else ["--train.epochs", "2"]
            words = ["fit", str(data), "--method", method, "--shots", "2", "--backbone", str(checkpoint), "--out", str(out)]
            assert main([*words, *more, *epochs]) == 0
            return self.setdefault(method, out)

    return Fitted()


def test_the_harmonic_mean_by_hand():
    assert harmonic_mean(0.6, 0.3) == pytest.approx(0.4) and harmonic_mean(0.5, 0.5) == 0.5
    assert harmonic_mean(0.8, 0) == harmonic_mean(0, 0) == 0
    base, new = {"accuracy": 0.6, "zero_shot_accuracy": 0.2}, {"accuracy": 0.3, "zero_shot_accuracy": 0.6}
    assert base_to_new(base, new)["accuracy"] == {"base": 0.6, "new": 0.3, "harmonic_mean": pytest.approx(0.4)}
    assert base_to_new(base, new)["zero_shot_accuracy"]["harmonic_mean"] == pytest.approx(0.3)


def test_the_new_classes_of_a_base_run(base: Path, data: Path):
    result, metrics = evaluated(base, classes="new"), json.loads((base / "metrics.json").read_text())
    task = load_task(str(data))
    assert task.class_names == ("blue", "green", "lime", "red", "rose")
    images = [item for item in task.test if item.label in (3, 4)]
    renumbered = [type(item)(item.image, item.label - 3, item.name) for item in images]
    model = load_run(base)
    plain = ZeroShot(model.backbone, ("red", "rose"), ["the {} thing"])
    tuned = evaluate_classifier(model.for_classes(("red", "rose")), renumbered)
    assert (result["accuracy"], result["test_images"], result["classes"]) == (tuned.accuracy, len(images), 2)
    assert result["zero_shot_accuracy"] == evaluate_classifier(plain, renumbered).accuracy
    b, n = metrics["accuracy"], result["accuracy"]
    expected = {"base": b, "new": n, "harmonic_mean": pytest.approx(2 / (1 / b + 1 / n) if b and n else 0)}
    assert result["base_to_new"]["accuracy"] == expected


def test_a_run_is_evaluated_on_its_own_classes_unless_others_are_asked_for(base: Path):
    metrics, own = json.loads((base / "metrics.json").read_text()), evaluated(base)
    assert own["accuracy"] == metrics["accuracy"] and own["classes"] == 3 and "base_to_new" not in own
    assert evaluated(base, classes="base") == own
    assert evaluated(base, classes="all")["classes"] == 5


def test_evaluate_prints_base_new_and_their_mean(base: Path, capsys):
    assert main(["evaluate", str(base), "--classes", "new"]) == 0
    output, result = capsys.readouterr().out, evaluated(base, classes="new")["base_to_new"]
    for both in result.values():
        assert f"{both['harmonic_mean']:.1%}  (base {both['base']:.1%}, new {both['new']:.1%})" in output
    assert "harmonic mean" in output and "of zero-shot" in output


def test_other_data_have_their_own_template_in_zero_shot_and_the_runs_in_the_tuned_model(base: Path, others: list[str]):
    model, task = load_run(base), load_task(others[0])
    result = evaluated(base, others[0])
    plain = ZeroShot(model.backbone, task.class_names, ["a photo of a {}."])
    assert task.templates[0] == "a photo of a {}." and model.templates[0] == "the {} thing"
    assert result["zero_shot_accuracy"] == evaluate_classifier(plain, task.test).accuracy
    assert result["accuracy"] == evaluate_classifier(model.for_classes(task.class_names), task.test).accuracy


def test_several_data_sets_are_a_list_as_json_and_a_table_with_the_mean_of_those_not_learned_from(
    base: Path, others: list[str], data: Path, capsys
):
    assert main(["evaluate", str(base), "--on", *others, str(data), "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert [result["data"] for result in results] == [*others, str(data)]
    assert [result["classes"] for result in results] == [2, 3, 5]
    assert results == json.loads(json.dumps([evaluated(base, on) for on in (*others, str(data))]))
    assert main(["evaluate", str(base), "--on", *others, str(data)]) == 0
    lines = capsys.readouterr().out.splitlines()
    mean = [sum(result[key] for result in results[:2]) / 2 for key in ("accuracy", "zero_shot_accuracy")]
    assert lines[-1].split() == ["mean", "of", "2", *(f"{value:.1%}" for value in mean)]
    low, high = results[0]["accuracy_interval"]
    assert f"{results[0]['accuracy']:.1%}" in lines[1] and f"{low:.1%} to {high:.1%}" in lines[1] and "(learned from)" in lines[3]


def test_nothing_is_evaluated_where_one_of_the_data_sets_is_missing(base: Path, others: list[str], monkeypatch):
    monkeypatch.setattr("dpl.inference.evaluate_on_task", None)
    with pytest.raises(DplError, match="nowhere"):
        evaluate_run(base, [*others, "nowhere"])


def test_half_of_other_data(base: Path, data: Path):
    assert evaluated(base, str(data), classes="new")["classes"] == 2


@pytest.mark.parametrize("method", quick_and_slow(SPECIFIC[:2], SPECIFIC[2:]))
def test_what_belongs_to_classes_is_taken_to_those_of_the_same_name(method: str, specific, images: Path, tmp_path: Path):
    model = load_run(specific[method])
    assert model.class_specific
    some = named(tmp_path / "some", images, red="red", blue="dark_blue")
    result, task = evaluated(specific[method], str(some)), load_task(str(some))
    # The whole model, its answers limited to the two classes: blue is its first, red its fourth.
    texts = model.text_features()
    right = 0
    for item in task.test:
        pixels = eval_pixels(load_image(item), model.backbone.preprocessing)
        with torch.no_grad():
            logits = model.logits(model.image_features(pixels[None]), texts)[0, [0, 3]]
        right += int(logits.argmax()) == item.label
    assert result["accuracy"] == right / len(task.test) and result["classes"] == 2


@pytest.mark.parametrize("method", quick_and_slow(SPECIFIC[:2], SPECIFIC[2:]))
def test_the_order_of_classes_is_the_data_sets(method: str, specific):
    model = load_run(specific[method])
    names = ("rose", "blue", "lime")
    chosen, again = model.for_classes(names), model.for_classes(names).for_classes(("lime", "rose"))
    pixels = torch.randint(0, 255, (3, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(chosen(pixels), model(pixels)[:, [4, 0, 2]], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(again(pixels), model(pixels)[:, [2, 4]], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", quick_and_slow(SPECIFIC[:2], SPECIFIC[2:]))
def test_a_class_that_is_none_of_its_own_is_one_line(method: str, specific, others: list[str], capsys):
    assert main(["evaluate", str(specific[method]), "--on", others[1]]) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert "belong to its own 5 classes; moss is none of them" in line


def test_classes_of_one_name_are_taken_in_their_order_and_only_all_of_them(checkpoint: Path):
    method, backbone = method_spec("linear-probe").load(), load_backbone(str(checkpoint))
    model = method(backbone, ["crane", "tench", "crane"], ["a {}"], method.Config())
    model.load_state_dict(
        {"weight": model.state_dict()["weight"] + 1, "bias": model.state_dict()["bias"].new_tensor([1.0, 2.0, 3.0])}
    )
    assert model.for_classes(["crane", "crane"]).state_dict()["bias"].tolist() == [1, 3]
    with pytest.raises(DplError, match="crane is not exactly one of them"):
        model.for_classes(["crane", "tench"])


def test_a_base_run_of_a_method_whose_parameters_belong_to_classes_has_no_new_ones(data, checkpoint, tmp_path, capsys):
    words = ["fit", str(data), "--method", "linear-probe", "--classes", "base", "--shots", "2", "--backbone", str(checkpoint)]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run"), "--classes", "new"]) == 2
    assert "belong to its own 3 classes; red is none of them" in capsys.readouterr().err
