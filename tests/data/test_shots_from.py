"""Shots that another run has drawn: the same images in the same order, or one line that says what is missing."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpl.data.fewshot import sample
from dpl.data.shots_from import read_shots, shots_asked
from dpl.data.task import Augmentation, Item, Task
from dpl.utils.errors import DplError


def task(per_class: int = 9, name: str = "t") -> Task:
    train, val, test = (
        tuple(Item(Path(part), label, f"{part}/{label}/{index}.png") for label in range(3) for index in range(per_class))
        for part in ("train", "val", "test")
    )
    return Task(name, ("a", "b", "c"), ("{}",), train, val, test, Augmentation((1.0, 1.0), False))


def write(path: Path, train: object, val: object) -> Path:
    path.write_text(json.dumps({"train": train, "val": val}), encoding="utf-8")
    return path


@pytest.mark.parametrize("shots", [1, 4, 9])
def test_the_images_come_back_in_their_order(shots: int, tmp_path: Path):
    drawn = sample(task(), shots, 7)
    file = write(tmp_path / "shots.json", *([item.name for item in items] for items in (drawn.train, drawn.val)))
    found = read_shots(task(), file, shots)
    assert (found.train, found.val) == (drawn.train, drawn.val)
    (note,) = found.notes
    assert "shots.json" in note and f"{3 * shots} for train" in note and f"{3 * min(shots, 4)} for val" in note


def test_a_run_folder_says_with_how_many_shots_it_was_made_a_file_does_not(tmp_path: Path):
    names = {"train": ["train/0/1.png", "train/1/1.png", "train/2/1.png"], "val": []}
    (tmp_path / "config.json").write_text(json.dumps({"shots": names, "settings": {"shots": 16}}))
    assert shots_asked(tmp_path) == 16 and shots_asked(write(tmp_path / "file.json", **names)) is None
    assert len(read_shots(task(), tmp_path, 16).train) == 3  # its classes had one image each


@pytest.mark.parametrize("shots", [1, 3, 16])
def test_another_number_of_shots_than_there_is_is_refused(shots: int, tmp_path: Path):
    file = write(tmp_path / "shots.json", ["train/0/1.png", "train/0/2.png", "train/1/1.png"], [])
    with pytest.raises(DplError, match=f"has 2 shots per class, not {shots}; add --shots 2"):
        read_shots(task(), file, shots)


def test_an_image_of_both_train_and_val_is_refused_where_they_are_one_pool(tmp_path: Path):
    one = task()
    one = replace(one, val=one.train)
    assert len(read_shots(one, write(tmp_path / "shots.json", ["train/0/1.png"], ["train/0/2.png"]), 1).val) == 1
    with pytest.raises(DplError, match='names train/0/1.png for "train" and for "val"'):
        read_shots(one, write(tmp_path / "shots.json", ["train/0/1.png"], ["train/0/1.png"]), 1)


def test_classes_without_an_image_are_noted(tmp_path: Path):
    notes = read_shots(task(), write(tmp_path / "shots.json", ["train/0/1.png", "train/1/1.png"], []), 1).notes
    assert "no training image for 1 of 3 classes: c" in notes


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        (
            ["train/0/1.png", "train/0/77.png", "no"],
            [],
            "2 of the 3 images are not in the train images of t, train/0/77.png first",
        ),
        (["train/0/1.png"], ["train/0/1.png"], "1 of the 1 images are not in the val images of t, train/0/1.png first"),
        (["train/0/1.png", "train/0/1.png"], [], '"train" names train/0/1.png twice'),
        (["test/0/1.png"], [], "not in the train images"),
        (["../../etc/passwd"], [], "not in the train images of t, ../../etc/passwd first"),
        ([], ["val/0/1.png"], 'names no image for "train"'),
    ],
)
def test_what_does_not_fit_the_task_is_one_line(train, val, message: str, tmp_path: Path):
    with pytest.raises(DplError) as error:
        read_shots(task(), write(tmp_path / "shots.json", train, val), 1)
    assert message in str(error.value) and "shots.json" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 100_000,
        "[]",
        "{}",
        "3",
        '{"train": ["a"]}',
        '{"train": "a", "val": []}',
        '{"train": [1], "val": []}',
        "{",
        "\ufeff{}",
    ],
)
def test_other_files_are_refused_by_name(text: str, tmp_path: Path):
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(DplError, match="other.json"):
        read_shots(task(), tmp_path / "other.json", 1)


def test_what_is_not_there_is_refused_by_name(tmp_path: Path):
    with pytest.raises(DplError, match="none.json: cannot be read"):
        read_shots(task(), tmp_path / "none.json", 1)
    with pytest.raises(DplError, match="config.json: cannot be read"):
        read_shots(task(), tmp_path, 1)
    with pytest.raises(DplError, match="cannot be read"):
        read_shots(task(), tmp_path / ("x" * 300), 1)


@given(content=st.one_of(st.binary(max_size=60), st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["train", "val", "shots", "settings"]), inner),
    max_leaves=8,
)))  # fmt: skip
@pytest.mark.parametrize("place", ["shots.json", "config.json"])
def test_no_content_brings_anything_but_shots_or_one_line(place: str, content, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("any")
    (folder / place).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    path = folder if place == "config.json" else folder / place
    try:
        found = read_shots(task(), path, 1)
    except DplError as error:
        assert str(folder) in str(error) and "\n" not in str(error)
    else:
        assert set(found.train) <= set(task().train) and set(found.val) <= set(task().val)
