"""`FewShotClassifier`: the same bits as `dpl fit`, scikit-learn's contract, images and labels of any kind, and its folder."""

import gc
import json
import pickle
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import base
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils import estimator_checks

import dpl
from dpl.backbones import shared
from dpl.backbones.loading import load_backbone
from dpl.cli.main import main
from dpl.config import FitRun, SearchConfig, TrainConfig
from dpl.estimator import FewShotClassifier
from dpl.inference import predict_files
from dpl.methods import METHODS
from dpl.methods.coop import CoOpConfig, CoOpRun
from dpl.options import option_values
from dpl.pipeline import fit
from dpl.runs import load_run
from dpl.utils.errors import DplError
from tests.checkpoints import save_images

clone: Callable[[Any], Any] = base.clone
FAST: dict[str, Any] = {"search__epochs": 1, "search__options": (0, 1, 2), "train__epochs": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train/ and test/ of three classes, 12 and 3 images each; their labels are not in the order of the files."""
    root = tmp_path_factory.mktemp("data") / "colours"
    save_images(root / "train", per_class=12)
    save_images(root / "test", per_class=3)
    return root


def files_of(part: Path) -> tuple[list[Path], list[str]]:
    """The images of a part and their labels, in no order."""
    paths = sorted(part.glob("*/*.png"), key=lambda path: hash((path.name, path.parent.name)) % 101)
    return paths, [path.parent.name for path in paths]


def arrays(paths: list[Path]) -> list[np.ndarray]:
    return [np.array(Image.open(path)) for path in paths]


@pytest.fixture(scope="module")
def few(data: Path) -> tuple[list[np.ndarray], list[str]]:
    """Four images of each class as arrays, class by class."""
    paths = [path for folder in sorted((data / "train").iterdir()) for path in sorted(folder.iterdir())[:4]]
    return arrays(paths), [path.parent.name for path in paths]


@pytest.fixture
def quick(checkpoint: Path) -> Callable[..., FewShotClassifier]:
    """`quick(**arguments)`: a classifier that is fitted in a moment."""
    usual = {"method": "zero-shot", "shots": 2}
    return lambda **arguments: FewShotClassifier(str(checkpoint), **{**usual, **arguments})


RUNS = {
    "dpl": (FAST, lambda **common: FitRun(
        search=SearchConfig(epochs=1, options=(0, 1, 2)), train=TrainConfig(epochs=1), **common)),
    "coop": ({"context": 2, "train__epochs": 1}, lambda **common: CoOpRun(
        design=CoOpConfig(context=2), train=TrainConfig(epochs=1), **common)),
}  # fmt: skip


@pytest.mark.parametrize("layout", ["train and test", "train, val and test"])
@pytest.mark.parametrize("method", RUNS)
def test_it_gives_the_bits_of_the_command(method: str, layout: str, data: Path, checkpoint: Path, tmp_path: Path):
    options, make = RUNS[method]
    root = data
    if "val" in layout:
        root = tmp_path / "three"
        for part in ("train", "val", "test"):
            save_images(root / part, per_class=5)
    run = fit(make(data=str(root), backbone=str(checkpoint), shots=3, seed=2, out=tmp_path / "run"))
    classifier = FewShotClassifier(str(checkpoint), method=method, shots=3, seed=2, **options)
    classifier.fit(*files_of(root / "train"), *(files_of(root / "val") if "val" in layout else ()))
    classifier.save_pretrained(tmp_path / "saved")
    for name in ("prompts.safetensors", "class_features.safetensors", "layout.json"):
        assert (tmp_path / "saved" / name).read_bytes() == (run / name).read_bytes(), name
    ours, theirs = (json.loads((folder / "config.json").read_text()) for folder in (tmp_path / "saved", run))
    assert ours["shots"] == theirs["shots"]
    test = sorted(root.glob("test/*/*.png"))
    predicted = predict_files(run, [str(path) for path in test], top=3)
    names = [label.replace("_", " ") for label in classifier.classes_]
    for row, probabilities in zip(predicted, classifier.predict_proba(test), strict=True):
        assert {cell["name"]: cell["probability"] for cell in row["classes"]} == dict(
            zip(names, probabilities.tolist(), strict=True)
        )


def test_numbers_as_labels_give_the_bits_of_folders_of_that_name_and_columns_in_their_own_order(checkpoint, tmp_path):
    root = tmp_path / "numbers"
    for part in ("train", "test"):
        save_images(root / part, per_class=5)
        for name, number in (("green", "2"), ("red", "10"), ("dark_blue", "1")):
            (root / part / name).rename(root / part / number)
    common = {"backbone": str(checkpoint), "shots": 2}
    run = fit(CoOpRun(data=str(root), design=CoOpConfig(context=2), train=TrainConfig(epochs=1), out=tmp_path / "run", **common))
    paths, labels = files_of(root / "train")
    classifier = FewShotClassifier(method="coop", context=2, train__epochs=1, **common).fit(paths, [int(x) for x in labels])
    assert classifier.classes_.tolist() == [1, 2, 10] and classifier.model_.class_names == ("1", "10", "2")
    classifier.save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved/prompts.safetensors").read_bytes() == (run / "prompts.safetensors").read_bytes()
    (row,) = predict_files(run, [str(paths[0])], top=3)
    by_name = {cell["name"]: cell["probability"] for cell in row["classes"]}
    assert classifier.predict_proba(paths[:1])[0].tolist() == [by_name["1"], by_name["2"], by_name["10"]]
    assert str(classifier.predict(paths[:1])[0]) == row["classes"][0]["name"]


def test_without_shots_every_image_is_used_in_its_order(quick, few, tmp_path):
    images, labels = few
    order = [5, 4, 8, 9, 0, 1]
    classifier = quick(shots=None).fit(
        [images[i] for i in order], [labels[i] for i in order], [images[i] for i in (2, 6, 10)], [labels[i] for i in (2, 6, 10)]
    )
    classifier.save_pretrained(tmp_path / "run")
    shots = json.loads((tmp_path / "run/config.json").read_text())["shots"]
    assert shots == {"train": ["X[4]", "X[5]", "X[0]", "X[1]", "X[2]", "X[3]"], "val": ["X_val[0]", "X_val[1]", "X_val[2]"]}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_fitted_saved_and_loaded_by_the_same_door(method: str, checkpoint: Path, few, tmp_path: Path):
    pytest.importorskip("peft") if method == "clip-lora" else None
    settings = {name: value for name, value in FAST.items() if name in option_values(METHODS[method].run()(data=""))}
    classifier = FewShotClassifier(str(checkpoint), method=method, shots=2, **settings).fit(*few)
    probabilities = classifier.predict_proba(few[0])
    assert probabilities.shape == (12, 3) and np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    classifier.save_pretrained(tmp_path / "run")
    loaded = FewShotClassifier.from_pretrained(tmp_path / "run")
    assert np.array_equal(loaded.predict_proba(few[0]), probabilities)
    assert loaded.get_params() == classifier.get_params()
    assert main(["report", str(tmp_path / "run")]) == 0 and (tmp_path / "run/report.html").exists()


def test_images_of_every_kind_are_the_same_image(quick, few, data):
    paths = [path for folder in sorted((data / "train").iterdir()) for path in sorted(folder.iterdir())[:4]]
    images, labels = few
    classifier = quick().fit(images, labels)
    expected = classifier.predict_proba(images)
    kinds = [paths, [str(path) for path in paths], [Image.fromarray(image) for image in images], np.stack(images)]
    kinds.append([kind[i] for i, kind in zip(range(12), kinds * 3, strict=True)])
    kinds.append(np.array([str(path) for path in paths]))
    for kind in kinds:
        assert np.array_equal(classifier.predict_proba(kind), expected)
    assert np.array_equal(quick().fit(kinds[2], labels).predict_proba(images), expected)


def test_a_pil_image_is_turned_upright_and_blended_like_its_file(quick, few, tmp_path):
    classifier = quick().fit(*few)
    turned, clear = Image.fromarray(few[0][0]), Image.fromarray(few[0][1]).convert("RGBA")
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    clear.putalpha(100)
    clear.save(tmp_path / "clear.png")
    for name in ("turned.png", "clear.png"):
        with Image.open(tmp_path / name) as image:
            from_file, opened = classifier.transform([tmp_path / name]), classifier.transform([image])
        assert np.array_equal(from_file, opened)
        assert not np.array_equal(from_file, classifier.transform([few[0][0 if "turned" in name else 1]]))


@pytest.mark.parametrize(
    "labels, classes",
    [
        (("red", "green", "blue"), ["blue", "green", "red"]),
        ((10, 9, 2), [2, 9, 10]),
        ((1.5, 0.5, 2), [0.5, 1.5, 2]),
        ((("a", 2), ("a", 1), ("b", 0)), [("a", 1), ("a", 2), ("b", 0)]),
        ((None, "None yet", 3), [3, None, "None yet"]),
    ],
)
def test_labels_of_any_kind_come_back(labels, classes, quick, few):
    y = [labels[index // 4] for index in range(12)]
    classifier = quick().fit(few[0], y)
    assert list(classifier.classes_) == classes
    predicted = classifier.predict(few[0])
    assert len(predicted) == 12 and set(predicted.tolist() if predicted.dtype != object else list(predicted)) <= set(labels)
    assert classifier.score(few[0], y) == np.mean([a == b for a, b in zip(predicted, y, strict=True)])


def test_labels_of_numpy_and_torch_are_numbers(quick, few):
    y = np.repeat([3, 1, 2], 4)
    for kind in (y, torch.from_numpy(y), list(y)):
        assert quick().fit(few[0], kind).classes_.tolist() == [1, 2, 3]


def test_texts_name_a_class_by_its_label_or_as_given(quick, few):
    images, labels = few
    assert quick().fit(images, labels).model_.class_names == ("dark blue", "green", "red")
    named = quick(class_names={"red": "scarlet"}).fit(images, labels)
    assert named.model_.class_names == ("dark blue", "green", "scarlet") and named.classes_.tolist()[-1] == "red"


def test_params_are_those_of_the_constructor_and_the_settings():
    classifier = FewShotClassifier("tiny", method="coop", train__epochs=3, context=4)
    params = classifier.get_params()
    assert params["backbone"] == "tiny" and params["train__epochs"] == 3 and params["context"] == 4 and params["shots"] == 16
    copy = clone(classifier)
    assert copy is not classifier and copy.get_params() == params
    copy.set_params(context=8, seed=5)
    assert (copy.settings["context"], copy.seed, classifier.settings["context"]) == (8, 5, 4)
    assert repr(classifier) == "FewShotClassifier(context=4, method='coop', train__epochs=3)"
    assert base.is_classifier(classifier)


def test_a_setting_that_the_method_lacks_is_named_with_those_that_it_has(quick, few):
    line = r"^epochs: no setting of the method coop \(did you mean train__epochs\?\); there are augmentation, head, context"
    with pytest.raises(DplError, match=line):
        quick(method="coop", epochs=3).fit(*few)
    with pytest.raises(ValueError, match=line):
        quick(method="coop").set_params(epochs=3)
    with pytest.raises(DplError, match="^epochs: the method linear-probe has no settings$"):
        quick(method="linear-probe", epochs=3).fit(*few)


@pytest.mark.parametrize(
    "arguments, command",
    [
        ({"method": "coup"}, ["--method", "coup"]),
        ({"preset": "papers"}, ["--preset", "papers"]),
        ({"template": "no hole"}, ["--template", "no hole"]),
        ({"method": "coop", "train__epochs": 0}, ["--method", "coop", "--train.epochs", "0"]),
        ({"backbone": "nowhere at all"}, ["--backbone", "nowhere at all"]),
        ({"device": "abacus"}, ["--device", "abacus"]),
        ({"shots": 0}, ["--shots", "0"]),
        ({"method": "dpl", "layout": "1000x"}, ["--layout", "1000x"]),
    ],
)
def test_a_wrong_argument_is_the_line_of_the_command(arguments, command, few, data, tmp_path, capsys):
    with pytest.raises(ValueError) as raised:
        FewShotClassifier(**{"method": "linear-probe", **arguments}).fit(*few)
    method = [] if "method" in arguments else ["--method", "linear-probe"]
    try:
        status = main(["fit", str(data), "--out", str(tmp_path / "run"), *method, *command])
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    error = capsys.readouterr().err
    assert f"dpl: {raised.value}\n" == error or "shots" in arguments or "train__epochs" in arguments
    assert isinstance(raised.value, DplError) and "\n" not in str(raised.value)


IMAGE = np.zeros((4, 4, 3), np.uint8)


@pytest.mark.parametrize(
    "X, y, line",
    [
        ([], [], "X: there are no images"),
        (IMAGE, ["a"], r"X: an array of images must be \(images, height, width, 3\), not \(4, 4, 3\)"),
        ("cat.png", ["a"], "X: give a list of images, not one str"),
        ([IMAGE, IMAGE / 255], ["a", "b"], r"X\[1\]: give PIL images, arrays of uint8 .*; this array is float64 \(4, 4, 3\)"),
        ([IMAGE, IMAGE[..., 0]], ["a", "b"], r"X\[1\]: .* this array is uint8 \(4, 4\)"),
        ([IMAGE, 3], ["a", "b"], r"X\[1\]: .* this is a int"),
        ([IMAGE, IMAGE], ["a"], "X has 2 images, but y has 1 labels"),
        ([IMAGE, IMAGE], None, "y: give a label for every image"),
        ([IMAGE, IMAGE], "ab", "y: give a sequence of labels, not a str"),
        ([IMAGE, IMAGE], ["a", ["b"]], r"y\[1\]: a label must be hashable, such as text or a number, not a list"),
        ([IMAGE, IMAGE], ["a", float("nan")], r"y\[1\]: a label must not be NaN"),
        ([IMAGE, IMAGE], ["a", "a"], "y has one class only, 'a'; a classifier needs two classes or more"),
        ([IMAGE, IMAGE], ["a b", "a_b"], "labels 'a b' and 'a_b' are both called 'a b'; give two names in class_names"),
        ([IMAGE, IMAGE], ["a", "_"], "label '_' has no name for texts; give one in class_names"),
        ([IMAGE, IMAGE], ["a", "b"], r"too few images .* a \(1\), b \(1\); .*, or give validation images \(X_val, y_val\)"),
        (["no.png"] * 4, ["a", "a", "b", "b"], "cannot read no.png as an image: no such file"),
    ],
)
def test_bad_images_and_labels_are_one_clear_line(X, y, line, quick):
    with pytest.raises(DplError, match=line) as raised:
        quick(method="tip-adapter").fit(X, y)
    assert "\n" not in str(raised.value)


def test_bad_validation_images_and_names_are_one_clear_line(quick, few):
    with pytest.raises(DplError, match="^y_val: 'pink' is no label in y$"):
        quick().fit(*few, few[0][:1], ["pink"])
    with pytest.raises(DplError, match="^y_val: give a label for every image$"):
        quick().fit(*few, few[0][:1])
    with pytest.raises(DplError, match="^class_names: 'pink' is no label in y$"):
        quick(class_names={"pink": "rose"}).fit(*few)


@pytest.mark.parametrize("use", ["predict", "predict_proba", "transform", "score", "save_pretrained"])
def test_before_fit_there_is_scikit_learns_own_error(use: str, quick, tmp_path):
    arguments = {"score": ([IMAGE], ["a"]), "save_pretrained": (tmp_path / "run",)}.get(use, ([IMAGE],))
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(quick(), use)(*arguments)


def test_labels_of_json_come_back_from_a_folder_and_others_are_refused(quick, few, tmp_path):
    labels = (True, None, 2.5, "red", 7)
    images = few[0] + few[0][:8]
    classifier = quick().fit(images, [labels[index // 4] for index in range(20)])
    classifier.save_pretrained(tmp_path / "run")
    loaded = FewShotClassifier.from_pretrained(tmp_path / "run")
    assert list(map(repr, loaded.classes_)) == list(map(repr, classifier.classes_))
    tuples = quick().fit(few[0], [("a", index // 4) for index in range(12)])
    with pytest.raises(DplError, match=r"^label \('a', 0\): only text, numbers, truth values and None can be saved"):
        tuples.save_pretrained(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_saved_classifier_is_a_run_folder(quick, few, tmp_path, data, capsys):
    images, labels = few
    classifier = quick(method="dpl", class_names={"red": "scarlet"}, template="a picture of {}.", **FAST).fit(images, labels)
    classifier.save_pretrained(str(tmp_path / "run"))
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names >= {"config.json", "layout.json", "prompts.safetensors", "history.jsonl", "report.html"}
    assert load_run(tmp_path / "run").class_names == ("dark blue", "green", "scarlet")
    path = sorted(data.glob("test/red/*.png"))[0]
    assert main(["predict", str(tmp_path / "run"), str(path), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert max(classifier.predict_proba([path])[0].tolist()) == row["classes"][0]["probability"]
    with pytest.raises(DplError, match="holds a run already"):
        classifier.save_pretrained(tmp_path / "run")
    classifier.save_pretrained(tmp_path / "run", overwrite=True)
    assert main(["fit", "--resume", str(tmp_path / "run")]) == 2 and "nothing to go on with" in capsys.readouterr().err
    loaded = FewShotClassifier.from_pretrained(tmp_path / "run")
    assert loaded.get_params() == classifier.get_params() and loaded.history_ == classifier.history_
    again = clone(loaded).fit(images, labels)
    assert np.array_equal(again.predict_proba(images), classifier.predict_proba(images))


@pytest.mark.parametrize("kind", ["fit", "train"])
def test_a_run_of_the_command_is_loaded_with_its_settings(kind: str, data, checkpoint, tmp_path):
    words = [
        "--backbone",
        str(checkpoint),
        "--shots",
        "2",
        "--layout",
        "1",
        "--train.epochs",
        "1",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main([kind, str(data), *words]) == 0
    classifier = FewShotClassifier.from_pretrained(tmp_path / "run")
    assert classifier.classes_.tolist() == ["dark blue", "green", "red"]
    params = classifier.get_params()
    assert (params["shots"], params["layout"], params["train__epochs"], params["method"]) == (2, "1", 1, "dpl")
    images = sorted(data.glob("test/*/*.png"))
    predicted = [row["classes"][0]["name"] for row in predict_files(tmp_path / "run", [str(path) for path in images])]
    assert classifier.predict(images).tolist() == predicted
    refitted = clone(classifier).fit(*files_of(data / "train"))
    assert np.array_equal(refitted.predict_proba(images), classifier.predict_proba(images))


@pytest.mark.parametrize("labels, line", [(["a"], "has 1 labels for 3 classes"), ([["a"], "b", "c"], "labels")])
def test_damaged_labels_in_a_folder_are_one_clear_line(labels, line, quick, few, tmp_path):
    quick().fit(*few).save_pretrained(tmp_path / "run")
    config = json.loads((tmp_path / "run/config.json").read_text())
    config["classifier"]["labels"] = labels
    (tmp_path / "run/config.json").write_text(json.dumps(config))
    with pytest.raises(DplError, match=line) as raised:
        FewShotClassifier.from_pretrained(tmp_path / "run")
    assert "\n" not in str(raised.value)


def test_a_folder_that_is_no_run_is_one_clear_line(tmp_path):
    with pytest.raises(DplError, match="no such run folder"):
        FewShotClassifier.from_pretrained(tmp_path / "none")


def test_cross_validation_and_grids_load_the_backbone_once_and_it_is_released(monkeypatch, few):
    gc.collect()  # so that no backbone of a test before is left
    loads: list[weakref.ref] = []

    def counted(*arguments: Any, **options: Any):
        backbone = load_backbone(*arguments, **options)
        loads.append(weakref.ref(backbone.clip))
        return backbone

    monkeypatch.setattr(shared, "load_backbone", counted)
    digits = dpl.load_task("digits")
    items = [item for digit in (0, 1, 7) for item in digits.train if item.label == digit][::9]
    images, labels = [item.image for item in items], [item.label for item in items]
    classifier = FewShotClassifier("tiny", method="linear-probe", shots=3)
    assert cross_val_score(classifier, images, labels, cv=2).min() > 0.5
    grid = {"train__epochs": [1, 2], "context": np.array([2])}
    search = GridSearchCV(FewShotClassifier("tiny", method="coop", shots=2), grid, cv=2).fit(images, labels)
    assert search.best_params_["context"] == 2 and search.predict(images[:1]).tolist() == [0]
    assert len(loads) == 1
    del classifier, search
    gc.collect()
    assert loads[0]() is None


def test_a_backbone_that_is_given_is_used_as_it_is(checkpoint, few):
    backbone = load_backbone(str(checkpoint))
    classifier = FewShotClassifier(backbone, method="zero-shot", shots=2)
    assert clone(classifier).backbone is backbone
    assert classifier.fit(*few).model_.backbone is backbone


def test_a_fitted_classifier_can_be_copied_to_another_process(quick, few):
    classifier = quick(method="coop", context=2, train__epochs=1).fit(*few)
    copy = pickle.loads(pickle.dumps(classifier))
    assert np.array_equal(copy.predict_proba(few[0]), classifier.predict_proba(few[0]))


CHECKS = (
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_do_not_raise_errors_in_init_or_set_param",
    "check_get_params_invariance",
    "check_set_params",
    "check_parameters_default_constructible",
    "check_estimators_unfitted",
    "check_valid_tag_types",
    "check_mixin_order",
    "check_estimator_get_tags_default_keys",
)
"""Those of `check_estimator` that give no table of numbers to `fit`."""


@pytest.mark.parametrize("check", CHECKS)
def test_scikit_learns_own_checks(check: str):
    if not hasattr(estimator_checks, check):
        pytest.skip(f"this scikit-learn has no {check}")
    getattr(estimator_checks, check)("FewShotClassifier", FewShotClassifier())
