"""The two files of an explanation: what is written is read again, and what is broken is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from dpl.schemas.explanation import (
    ARRAYS,
    KINDS,
    NAMES,
    ConfusedPair,
    Example,
    Explanation,
    LayerNorms,
    LayerWords,
    Prediction,
    PromptWords,
    Word,
    read_explanation,
    write_explanation,
)
from dpl.schemas.run import Branches
from dpl.utils.errors import DplError

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cn", "Cs"]), max_size=8)
LABELS, SHARES = st.integers(0, 2), st.floats(0, 1)
PREDICTIONS = st.lists(st.builds(Prediction, label=LABELS, probability=SHARES), min_size=2, max_size=2)
EXAMPLES = st.lists(st.builds(Example, name=TEXT, label=LABELS, kind=st.sampled_from(KINDS), predictions=PREDICTIONS), max_size=4)
HEADS = st.lists(st.lists(SHARES, min_size=1, max_size=2), min_size=1, max_size=2)
NORMS = st.lists(st.floats(0, 1e3), max_size=2)
WORDS = st.lists(st.lists(st.builds(Word, word=TEXT, cosine=st.floats(-1, 1)), max_size=2), max_size=2)
PROMPTS = st.builds(
    PromptWords,
    image=st.lists(st.builds(LayerNorms, layer=st.integers(1, 9), norms=NORMS), max_size=2),
    text=st.lists(st.builds(LayerWords, layer=st.integers(1, 9), norms=NORMS, words=WORDS), max_size=2),
    token_norm=st.floats(0, 1e3),
    chance=st.floats(-1, 1),
)


@st.composite
def explanations(draw: st.DrawFn) -> Explanation:
    examples, names = draw(EXAMPLES), draw(st.lists(TEXT, max_size=3))
    pair = ConfusedPair(true=0, predicted=1, count=7, pictures=list(range(len(names))), names=names)
    random = np.random.default_rng(0)
    return Explanation(
        models=["zero-shot", "tuned"],
        examples=examples,
        confusions=[pair],
        attention=draw(st.none() | st.builds(Branches, image=HEADS, text=HEADS)),
        prompts=draw(st.none() | PROMPTS),
        pictures=random.integers(0, 256, (len(examples), 3, 4, 4), dtype=np.uint8),
        maps=random.random((len(examples), 2, 2, 2), dtype=np.float32),
        confused=random.integers(0, 256, (len(names), 3, 4, 4), dtype=np.uint8),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    (run / "config.json").write_text(json.dumps({"task": {"class_names": ["a", "b", "c"]}}))
    return run


@given(explanations())
def test_what_is_written_is_read_again(folder: Path, explanation: Explanation):
    write_explanation(folder, explanation)
    again = read_explanation(folder)
    assert again is not None
    for name in ("models", "examples", "confusions", "attention", "prompts"):
        assert getattr(again, name) == getattr(explanation, name)
    for name in ("pictures", "maps", "confused"):
        assert np.array_equal(getattr(again, name), getattr(explanation, name))
    before = [(folder / name).read_bytes() for name in (NAMES, ARRAYS)]
    write_explanation(folder, explanation)
    assert [(folder / name).read_bytes() for name in (NAMES, ARRAYS)] == before


def test_a_run_without_the_files_has_no_explanation(tmp_path: Path):
    assert read_explanation(tmp_path) is None


def test_characters_that_no_page_can_hold_are_replaced(trained: Path, tmp_path: Path):
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    edit(run, lambda data: data["examples"][0].update(name="a\x00<script>\ud800\nb"))
    again = read_explanation(run)
    assert again is not None and again.examples[0].name == "a\ufffd<script>\ufffd\nb"


def edit(run: Path, change: Callable[[dict], object]) -> None:
    data = json.loads((run / NAMES).read_text())
    change(data)
    (run / NAMES).write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda data: data.pop("models"), "explanation.json: models: Field required"),
        (lambda data: data["examples"][0].update(kind="odd"), r"explanation.json: examples.0.kind: Input should be 'repaired'"),
        (lambda data: data["examples"][0]["predictions"][1].update(probability=2), "predictions.1.probability: .* less than"),
        (lambda data: data["examples"][0]["predictions"].pop(), "1 predictions of 2 models"),
        (lambda data: data["examples"][0].update(label=3), "class 3 is not among the 3 of config.json"),
        (lambda data: data["examples"].pop(), "explanation.safetensors: pictures must be uint8 .* as explanation.json has it"),
        (lambda data: data["models"].append("more"), "maps must be float32"),
        (lambda data: data["confusions"][0]["pictures"].append(0), "confused must be uint8"),
        (lambda data: data["confusions"][0].update(pictures=[99]), "explanation.safetensors: "),
        (lambda data: data["attention"]["image"][0].append(1.5), "explanation.json: attention.image.0.2: .* less than"),
    ],
)
def test_what_does_not_fit_is_named(trained: Path, tmp_path: Path, change: Callable[[dict], object], named: str):
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    edit(run, change)
    with pytest.raises(DplError, match=named) as caught:
        read_explanation(run)
    assert "\n" not in str(caught.value)


def test_a_config_without_classes_is_named(trained: Path, tmp_path: Path):
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    (run / "config.json").write_text('{"task": {}}')
    with pytest.raises(DplError, match="config.json: task.class_names must list"):
        read_explanation(run)


@pytest.mark.parametrize("name", [NAMES, ARRAYS])
def test_broken_and_missing_files_are_named(trained: Path, tmp_path: Path, name: str):
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    whole = (run / name).read_bytes()
    (run / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DplError, match=f"{name}: is "):
        read_explanation(run)
    (run / ARRAYS).unlink()
    (run / NAMES).write_bytes((trained / NAMES).read_bytes())
    with pytest.raises(DplError, match=f"{ARRAYS}: cannot be read"):
        read_explanation(run)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("pictures", lambda array: array[:, :, 1:]),
        ("maps", lambda array: array.astype(float)),
        ("confused", lambda array: array[0]),
    ],
)
def test_arrays_of_another_kind_are_named(trained: Path, tmp_path: Path, name: str, change: Callable[[np.ndarray], np.ndarray]):
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    arrays = load_file(run / ARRAYS)
    arrays[name] = change(arrays[name])
    save_file({key: np.ascontiguousarray(array) for key, array in arrays.items()}, run / ARRAYS)
    with pytest.raises(DplError, match=f"{ARRAYS}: {name} must be "):
        read_explanation(run)
