"""Tiny data sets, written by the library `datasets` itself or by pyarrow; the network is cut off."""

import io
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from datasets import Image as ImageFeature
from PIL import Image
from pyarrow import parquet

from dpl import load_task
from dpl.backbones.preprocessing import Preprocessing
from dpl.cli.main import main
from dpl.data.pixels.store import ImageStore
from dpl.data.pixels.transforms import load_image
from dpl.data.sources import hub
from dpl.utils.errors import DplError


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    """No socket can be opened, and what the library caches goes with the test."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("datasets.config.HF_MODULES_CACHE", str(tmp_path / "modules"))


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (6, 7, 3), dtype=np.uint8)


def png(seed: int) -> bytes:
    data = io.BytesIO()
    Image.fromarray(picture(seed)).save(data, "PNG")
    return data.getvalue()


def columns(count: int, first: int = 0, classes: int = 2) -> dict[str, list]:
    seeds = range(first, first + count)
    return {"image": [{"bytes": png(seed), "path": None} for seed in seeds], "label": [seed % classes for seed in seeds]}


NAMES = ["red_fox", "wolf"]
FEATURES = Features({"image": ImageFeature(), "label": ClassLabel(names=NAMES)})


def rows(count: int, first: int = 0) -> Dataset:
    return Dataset.from_dict(columns(count, first), features=FEATURES)


SPLITS = {"train": rows(8), "validation": rows(4, 100), "test": rows(6, 200)}


def saved(folder: Path, splits: dict[str, Dataset] | Dataset) -> str:
    data = DatasetDict(**splits) if isinstance(splits, dict) else splits
    data.save_to_disk(str(folder))
    return str(folder)


def as_parquet(folder: Path, splits: dict[str, Dataset], name: str = "data/{}-00000-of-00001.parquet") -> str:
    for split, data in splits.items():
        path = folder / name.format(split)
        path.parent.mkdir(parents=True, exist_ok=True)
        data.to_parquet(str(path))
    return str(folder)


@pytest.mark.parametrize("write", [saved, as_parquet])
def test_a_local_folder_gives_the_pictures_and_splits_that_went_in(tmp_path, write):
    task = load_task(write(tmp_path / "animals", SPLITS))
    assert (task.name, task.class_names, task.root, task.notes) == ("animals", ("red fox", "wolf"), None, ())
    for pool, split, first in ((task.train, "train", 0), (task.val, "val", 100), (task.test, "test", 200)):
        names = [f"{'validation' if split == 'val' and write is saved else split}/{index}" for index in range(len(pool))]
        assert [item.name for item in pool] == names
        assert [item.label for item in pool] == [(first + index) % 2 for index in range(len(pool))]
        assert all(np.array_equal(np.asarray(load_image(item)), picture(first + index)) for index, item in enumerate(pool))
    assert [len(task.train), len(task.val), len(task.test)] == [8, 4, 6]


@pytest.mark.parametrize("name", ["{}.parquet", "{}/0000.parquet", "default/{}/0000.parquet", "data/Animals_{}_1.parquet"])
def test_parquet_files_say_their_split_by_their_names(tmp_path, name):
    task = load_task(as_parquet(tmp_path / "animals", SPLITS, name))
    assert [len(task.train), len(task.val), len(task.test)] == [8, 4, 6]


def test_several_files_of_a_split_are_one(tmp_path):
    for index in range(3):
        as_parquet(tmp_path / "a", {"train": rows(4, 10 * index), "test": rows(2, 90)}, f"{{}}-0000{index}-of-00003.parquet")
    task = load_task(str(tmp_path / "a"))
    assert len(task.train) + len(task.val) == 12 and len(task.test) == 6


def test_a_file_that_was_written_anew_is_read_anew(tmp_path):
    assert len(load_task(as_parquet(tmp_path / "a", SPLITS)).train) == 8
    assert len(load_task(as_parquet(tmp_path / "a", SPLITS | {"train": rows(10, 30)})).train) == 10


@pytest.mark.parametrize("alone", ["data set", "train", "one file"])
def test_rows_without_splits_are_split(tmp_path, alone):
    if alone == "one file":
        as_parquet(tmp_path, {"x": rows(20)}, "{}.parquet")
        data = str(tmp_path / "x.parquet")
    else:
        data = saved(tmp_path / "x", rows(20) if alone == "data set" else {"train": rows(20)})
    task = load_task(data)
    assert [len(task.train), len(task.val), len(task.test)] == [10, 4, 6] and "50/20/30" in task.notes[0]
    assert task.name == "x"


def test_a_parquet_file_of_pictures_may_have_a_column_of_splits(tmp_path):
    table = pa.table({**columns(8), "split": ["train", "Train", "test", "test", "train", "train", "validation", "val"]})
    parquet.write_table(table, tmp_path / "x.parquet")
    task = load_task(str(tmp_path / "x.parquet"))
    assert [[item.name for item in pool] for pool in (task.train, task.val, task.test)] == [
        ["rows/0", "rows/1", "rows/4", "rows/5"], ["rows/6", "rows/7"], ["rows/2", "rows/3"],
    ]  # fmt: skip
    parquet.write_table(table.set_column(2, "split", [["train", "dev"] * 4]), tmp_path / "x.parquet")
    with pytest.raises(DplError, match="row rows/1: no split 'dev'"):
        load_task(str(tmp_path / "x.parquet"))


@pytest.mark.parametrize("storage", ["struct", "bytes"])
@pytest.mark.parametrize("labels", [["b", "a", " b_c"] * 4, [3, 1, 20] * 4])
def test_parquet_that_others_have_written(tmp_path, storage, labels):
    images = columns(12)["image"] if storage == "struct" else [png(seed) for seed in range(12)]
    parquet.write_table(pa.table({"n": range(12), "image": images, "label": labels}), tmp_path / "x.parquet")
    task = load_task(str(tmp_path / "x.parquet"))
    assert task.class_names == (("a", "b", "b c") if labels[0] == "b" else ("1", "20", "3"))
    assert {item.name: task.class_names[item.label] for item in (*task.train, *task.val, *task.test)} == {
        f"rows/{index}": str(label).strip().replace("_", " ") for index, label in enumerate(labels)
    }


def test_of_several_label_columns_the_one_called_label_or_the_finest_is_taken(tmp_path):
    cells = columns(12) | {"coarse": [0, 1] * 6, "fine": [0, 1, 2] * 4}
    features = Features({"image": ImageFeature(), "label": Value("int64"), "coarse": ClassLabel(names=["x", "y"]),
                         "fine": ClassLabel(names=["a", "b", "c"])})  # fmt: skip
    data = Dataset.from_dict(cells, features=features)
    task = load_task(saved(tmp_path / "one", data))
    assert task.class_names == ("a", "b", "c") and task.notes[0] == "labels are those of the column fine, not of coarse"
    task = load_task(saved(tmp_path / "two", data.remove_columns("label").rename_column("coarse", "label")))
    assert task.class_names == ("x", "y") and task.notes[0] == "labels are those of the column label, not of fine"


def test_classes_keep_their_numbers_and_those_without_images_are_left_out(tmp_path):
    data = Dataset.from_dict(columns(9, classes=3), features=Features({"image": ImageFeature(), "label": ClassLabel(4)}))
    data = data.cast_column("label", ClassLabel(names=["z", "y", "x", "w"]))
    task = load_task(saved(tmp_path / "a", data))
    assert task.class_names == ("z", "y", "x") and "left out 1 of the classes, which have no images: w" in task.notes


@pytest.mark.parametrize(("hidden", "kept"), [("test", "validation"), ("none", "validation")])
def test_where_there_is_no_test_with_labels_validation_is_the_test_set(tmp_path, hidden, kept):
    blank = Dataset.from_dict(columns(3) | {"label": [-1] * 3}, features=FEATURES)
    splits = {"train": rows(10), "validation": rows(4, 100), **({"test": blank} if hidden == "test" else {})}
    task = load_task(saved(tmp_path / "a", splits))
    assert [item.name for item in task.test] == [f"{kept}/{index}" for index in range(4)]
    assert (len(task.train), len(task.val)) == (8, 2)
    assert "no test given: validation is the test set" in task.notes and "20 %" in task.notes[-1]
    assert ("ignored splits without labels: test" in task.notes) == (hidden == "test")


def test_other_splits_are_ignored_with_a_note(tmp_path):
    assert load_task(saved(tmp_path / "a", SPLITS | {"extra": rows(2)})).notes == ("ignored splits: extra",)


def unreadable(items) -> dict[str, str]:
    errors = ImageStore().evaluation(Preprocessing(8, 8)).unreadable(items)
    return {item.name: error.reason for item, error in errors.items()}


def test_rows_without_label_or_picture_are_left_out_or_refused(tmp_path):
    cells = columns(12)
    cells["label"][3] = None
    for row, image in ((4, None), (5, {"bytes": b"", "path": None}), (6, {"bytes": png(0)[:50], "path": None})):
        cells["image"][row] = image
    data = saved(tmp_path / "a", Dataset.from_dict(cells, features=FEATURES))
    task = load_task(data)
    everything = (*task.train, *task.val, *task.test)
    assert len(everything) == 11
    assert "skipped 1 row without a label" in task.notes
    bad = unreadable(everything)
    assert bad.keys() == {"rows/4", "rows/5", "rows/6"} and bad["rows/4"] == "the row has no image"
    with pytest.raises(DplError, match="1 rows have no label"):
        load_task(data, strict=True)
    data = saved(tmp_path / "b", Dataset.from_dict(cells | {"label": [0, 1] * 6}, features=FEATURES))
    with pytest.raises(DplError, match=r"cannot read .*b rows/4: the row has no image \(2 more"):
        load_task(data, strict=True)


def test_a_path_in_a_file_that_somebody_gave_is_not_opened(tmp_path):
    outside = tmp_path / "secret.png"
    outside.write_bytes(png(1))
    cells = columns(12)
    cells["image"][0] = {"bytes": None, "path": str(outside)}
    parquet.write_table(pa.table(cells), tmp_path / "x.parquet")
    task = load_task(str(tmp_path / "x.parquet"))
    assert unreadable((*task.train, *task.val, *task.test)) == {"rows/0": "the row has only an image's path"}


def text_column(values: list) -> Dataset:
    return Dataset.from_dict(columns(len(values)) | {"label": values})


@pytest.mark.parametrize(
    ("splits", "wording"),
    [
        ({"test": rows(6)}, "has no split train with labels, but test"),
        ({"validation": rows(6), "test": rows(6)}, "has no split train with labels, but validation, test"),
        ({"train": rows(6), "val": rows(4), "validation": rows(4), "test": rows(4)}, "two splits for val: val and validation"),
        ({"train": rows(6), "test": rows(4).remove_columns("label")}, "different columns"),
        ({"train": rows(6).remove_columns("image")}, "no column of images .columns: label"),
        ({"train": rows(6).rename_column("label", "x").cast_column("x", Value("int64"))}, "no column of labels .columns: im"),
        ({"train": rows(6).add_column("x", [b"a"] * 6).cast_column("x", ImageFeature()).rename_column("image", "y")},
         "2 columns of images, y, x|2 columns of images, x, y"),
        ({"train": rows(6), "test": rows(1)}, "test has no images of 1 of the classes: wolf"),
        ({"train": Dataset.from_dict(columns(6, classes=1), features=FEATURES)}, "one class only, red fox"),
        ({"train": text_column(["cat", "Cat"] * 3)}, "two classes have one name, 'Cat' and 'cat'"),
        ({"train": text_column(["cat", "_"] * 3)}, "a class has no name but '_'"),
        ({"train": rows(4)}, "too few images to split"),
    ],
)  # fmt: skip
def test_a_data_set_that_is_no_task_is_one_line(tmp_path, splits, wording):
    data = str(tmp_path / "a")
    for split, part in splits.items():  # as the library itself does not put together what differs
        saved(tmp_path / "a" / split, part)
    (tmp_path / "a" / "dataset_dict.json").write_text('{"splits": ["' + '", "'.join(splits) + '"]}')
    with pytest.raises(DplError, match=wording) as error:
        load_task(data)
    assert str(error.value).startswith(data) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("names", "wording"),
    [
        (["train-0.parquet", "more.parquet"], "some files are of a split by their names, but not more.parquet"),
        (["train-0.parquet", "train_test.parquet"], r"train_test\.parquet: is it of test or train\? Rename it"),
    ],
)
def test_parquet_files_of_no_clear_split_are_refused(tmp_path, names, wording):
    for name in names:
        rows(4).to_parquet(str(tmp_path / name))
    with pytest.raises(DplError, match=wording):
        load_task(str(tmp_path))


@pytest.mark.parametrize("spoil", ["state.json", "dataset_info.json", "data-00000-of-00001.arrow"])
@pytest.mark.parametrize("data", [b"", b"[]", b"\xff\xff\xff\xff"])
def test_a_broken_folder_is_one_line(tmp_path, spoil, data):
    folder = Path(saved(tmp_path / "a", rows(12)))
    (folder / spoil).write_bytes(data)
    with pytest.raises(DplError, match="cannot be opened as a data set of Hugging Face") as error:
        load_task(str(folder))
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_offsets_that_point_nowhere_are_found_before_they_are_followed(tmp_path):
    data = text_column(["cat", "dog"] * 6)
    folder = saved(tmp_path / "a", data)
    offsets = np.array([0, 2**30, 5] + [6] * 10, np.int32)
    labels = pa.Array.from_buffers(pa.string(), 12, [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(b"catdog")])
    table = data.data.table.set_column(data.column_names.index("label"), "label", labels)
    with pa.ipc.new_stream(next(Path(folder).glob("*.arrow")), table.schema) as stream:
        stream.write_table(table)
    with pytest.raises(DplError, match="a: the file of rows is broken .*; fetch or write it anew"):
        load_task(folder)


def test_a_broken_parquet_file_is_one_line(tmp_path):
    as_parquet(tmp_path, SPLITS)
    path = next(tmp_path.rglob("test-*"))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DplError, match="cannot be opened as a data set of Hugging Face") as error:
        load_task(str(tmp_path))
    assert "\n" not in str(error.value)


def test_a_folder_of_images_with_parquet_beside_stays_a_folder_of_images(tree, tmp_path):
    root = tree({"a": 3, "b": 3, "empty": 0})
    (root / "empty").rmdir()
    rows(4).to_parquet(str(root / "labels.parquet"))
    assert load_task(str(root)).class_names == ("a", "b") and not hub.is_hub(str(root))


@pytest.mark.parametrize(
    ("data", "expected"), [("hf:beans", True), ("hf:", True), ("", False), ("digits", False), ("no/such", False), ("a\0b", False)]
)
def test_what_is_taken_for_a_data_set_of_hugging_face(data, expected):
    assert hub.is_hub(data) == expected


@pytest.mark.parametrize("name", ["", "/etc", "../x", "a/b/c", "a b", "https://x.y", "a/b:", ":x", "~/x", "a\\b", "a\nb"])
def test_what_is_no_name_is_refused_before_anything_is_asked(name, monkeypatch):
    monkeypatch.setattr(hub, "_opened", lambda *_: pytest.fail("asked"))
    with pytest.raises(DplError, match="give hf:OWNER/NAME or hf:OWNER/NAME:CONFIG") as error:
        load_task(f"hf:{name}")
    assert "\n" not in str(error.value)


def test_a_folder_here_is_not_taken_for_one_of_the_hub(tmp_path, monkeypatch):
    saved(tmp_path / "owner" / "name", SPLITS)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DplError, match=r"there is a owner/name here, which could be meant; give \./owner/name"):
        load_task("hf:owner/name")
    assert load_task("./owner/name").name == "name"


def test_without_the_network_a_name_is_one_line(monkeypatch):
    monkeypatch.setattr(
        "huggingface_hub.constants.HF_HUB_OFFLINE", True
    )  # as the variable does; without it, all is tried 5 times
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(DplError, match="^hf:nobody/nothing: cannot be opened as a data set of Hugging Face") as error:
        load_task("hf:nobody/nothing")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("data", "asked"), [("hf:owner/an.im-als", ("owner/an.im-als", None)), ("hf:beans:v2", ("beans", "v2"))])
def test_a_name_is_asked_of_the_library_without_leave_to_run_code(monkeypatch, tmp_path, data, asked):
    calls: list[tuple] = []
    file = tmp_path / "in the cache.png"
    file.write_bytes(png(3))

    def load_dataset(*words: Any, **options: Any) -> DatasetDict:
        calls.append(words)
        assert not options
        cells = columns(8)
        cells["image"][0] = {"bytes": None, "path": str(file)}
        return DatasetDict({**SPLITS, "train": Dataset.from_dict(cells, features=FEATURES)})

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    task = load_task(data)
    assert calls == [asked] and task.name == asked[0].rpartition("/")[2] and task.notes == ()
    assert np.array_equal(np.asarray(load_image(task.train[0])), picture(3))


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DplError, match=r"needs the package datasets; .*pip install 'differentiable-prompt-learning\[hub\]'"):
        load_task("hf:beans")


def test_pictures_are_fetched_when_they_are_looked_at(tmp_path, monkeypatch):
    task = load_task(saved(tmp_path / "a", SPLITS))
    fetched: list[int] = []
    whole: Callable = hub.to_task.__globals__["_bytes"]
    monkeypatch.setitem(
        hub.to_task.__globals__, "_bytes", lambda table, row, files: fetched.append(row) or whole(table, row, files)
    )
    task = load_task(saved(tmp_path / "b", SPLITS))
    looked_at = len(fetched)
    load_image(task.test[5])
    assert fetched[looked_at:] == [5] and len({task.test[5], load_task(str(tmp_path / "b")).test[5]}) == 1


def test_a_whole_run_on_a_data_set(tmp_path, checkpoint, capsys):
    data = as_parquet(tmp_path / "animals", SPLITS)
    words = ["--method", "coop", "--train.epochs", "1", "--shots", "2", "--backbone", str(checkpoint)]
    assert main(["fit", data, *words, "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run"), "--json"]) == 0
    assert '"test_images": 6' in capsys.readouterr().out
