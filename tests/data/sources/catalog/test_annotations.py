"""Annotations that are odd, broken or hostile: read as meant, or refused in one line that names the file and the row."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.io import savemat

from dpl.data.load import load_task
from dpl.data.sources.catalog import readers
from dpl.data.sources.catalog.pools import Row, from_rows
from dpl.utils.errors import DplError

from .replicas import NAMES, SPLITS

Copy = Callable[..., Path]
DTD = SPLITS["dtd"][0]


def refusal(name: str, root: Path) -> str:
    with pytest.raises(DplError) as error:
        load_task(name, root=root)
    assert "\n" not in str(error.value)
    return str(error.value)


def changed(copy: Copy, change: Callable[[dict[str, list]], Any]) -> Path:
    """The replica of DTD with another split file."""
    root = copy("dtd")
    rows = json.loads((root / DTD).read_text())
    change(rows)
    (root / DTD).write_text(json.dumps(rows))
    return root


def put(index: int, value: object) -> Callable[[dict[str, list]], None]:
    return lambda rows: rows["val"][1].__setitem__(index, value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put(0, "/etc/passwd"), ["val 2", "leads out"]),
        (put(0, "../../dtd/images/banded/banded_0001.jpg"), ["val 2", "leads out"]),
        (put(0, "banded\\..\\..\\x.jpg"), ["val 2", "leads out"]),
        (put(0, "C:\\x.jpg"), ["val 2", "leads out"]),
        (put(0, ""), ["val 2", "no path"]),
        (put(0, "banded/"), ["val 2", "no path"]),
        (put(0, "banded/a\0b.jpg"), ["val 2", "no path"]),
        (put(0, "banded/gone.jpg"), ["1 of 30 images", "banded/gone.jpg", "dpl datasets check dtd"]),
        (put(0, "banded/" + 300 * "x" + ".jpg"), ["missing", "dpl datasets check dtd"]),
        (put(0, 7), ["val 2", "is not [path, label, class name]"]),
        (put(1, "0"), ["val 2", "is not [path, label, class name]"]),
        (put(1, True), ["val 2", "is not [path, label, class name]"]),
        (put(1, 9), ["label 9", "no row has label 3"]),
        (put(1, -1), ["no row has label 3"]),
        (put(2, "checked"), ["val 2", "two names", "'checked'"]),
        (lambda rows: rows["val"][1].pop(), ["val 2", "is not [path, label, class name]"]),
        (lambda rows: rows.pop("val"), ["no split file"]),
        (lambda rows: rows["test"].clear(), ["no split file"]),
    ],
)
def test_a_wrong_split_file_is_refused_with_file_and_row(copy: Copy, change, words: list[str]):
    line = refusal("dtd", changed(copy, change))
    assert all(word in line for word in words), line
    assert "split_zhou_DescribableTextures.json" in line or "dtd/images" in line


@pytest.mark.parametrize(
    "text", [b"", b"[", b"[" * 100_000, b"[]", b"null", b'{"train": 3}', b"\xff\xfe{", b'{"train": [], "train": []}']
)
def test_what_is_no_split_file_is_refused(copy: Copy, text: bytes):
    root = copy("dtd")
    (root / DTD).write_bytes(text)
    assert "split_zhou_DescribableTextures.json" in refusal("dtd", root)


def test_a_byte_order_mark_and_windows_line_ends_change_nothing(root: Path, copy: Copy):
    names = ("dtd", "fgvc_aircraft", "imagenet", "oxford_pets", "sun397", "ucf101")
    other = copy(*names)
    for path in [*other.rglob("*.txt"), *other.rglob("*.json")]:
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    (other / SPLITS["sun397"][0]).unlink()
    for name in names:
        one, task = load_task(name, root=root), load_task(name, root=other)
        assert one.class_names == task.class_names and one.test == task.test or name == "sun397"
    assert load_task("sun397", root=other).class_names == NAMES["sun397"]


def test_an_image_that_is_listed_twice_is_kept_as_published_and_said(copy: Copy):
    root = changed(copy, lambda rows: rows["test"].append(rows["train"][0]))
    task = load_task("dtd", root=root)
    assert task.test[-1] == task.train[0] and any(task.train[0].name in note and "more than once" in note for note in task.notes)


@pytest.mark.parametrize(
    ("name", "file", "text", "words"),
    [
        ("oxford_pets", "oxford_pets/annotations/trainval.txt", "Abyssinian_1\n", ["trainval.txt, line 1", "label"]),
        ("oxford_pets", "oxford_pets/annotations/test.txt", "\n\nAbyssinian_1 one 1 1\n", ["test.txt, line 3", "'one'"]),
        ("oxford_pets", "oxford_pets/annotations/test.txt", "\n", ["test.txt", "empty"]),
        ("oxford_pets", "oxford_pets/annotations/test.txt", "../x_1 1 1 1\n", ["test.txt, line 1", "leads out"]),
        ("fgvc_aircraft", "fgvc_aircraft/images_variant_val.txt", "0000001 Concorde\n", ["val.txt, line 1", "Concorde"]),
        ("fgvc_aircraft", "fgvc_aircraft/images_variant_val.txt", "0000001\n", ["val.txt, line 1"]),
        ("sun397", "sun397/Training_01.txt", "/a/attic/sun_a.jpg\n", ["Training_01.txt, line 1", "a/attic"]),
        ("ucf101", "ucf101/ucfTrainTestlist/classInd.txt", "1\n", ["classInd.txt, line 1"]),
        ("ucf101", "ucf101/ucfTrainTestlist/testlist01.txt", "Archery/v_x.avi\n", ["testlist01.txt, line 1", "Archery"]),
        ("oxford_flowers", "oxford_flowers/cat_to_name.json", "{}", ["image 1", "cat_to_name.json"]),
        ("oxford_flowers", "oxford_flowers/cat_to_name.json", "[]", ["image 1", "cat_to_name.json"]),
        ("oxford_flowers", "oxford_flowers/imagelabels.mat", "MATLAB", ["imagelabels.mat", "no .mat file"]),
        ("stanford_cars", "stanford_cars/devkit/cars_meta.mat", "", ["cars_meta.mat", "no .mat file"]),
        ("imagenet", "imagenet/classnames.txt", "n01440764\n", ["classnames.txt, line 1", "tench"]),
        ("imagenet", "imagenet/classnames.txt", "n01443537 b\nn01440764 a\n", ["classnames.txt, line 2", "order"]),
        ("imagenet", "imagenet/classnames.txt", "n01440764 a\nn01440764 b\n", ["classnames.txt, line 2", "order"]),
        ("imagenet", "imagenet/classnames.txt", "n01440764 a\n", ["no classes", "n01443537"]),
    ],
)
def test_a_wrong_list_is_refused_with_file_and_line(copy: Copy, name: str, file: str, text: str, words: list[str]):
    root = copy(file.split("/")[0])
    if name in SPLITS:
        (root / SPLITS[name][0]).unlink()
    (root / file).write_text(text)
    line = refusal(name, root)
    assert all(word in line for word in words), line


@pytest.mark.parametrize("name", [*SPLITS, "fgvc_aircraft", "imagenet"])
def test_without_its_annotations_a_data_set_says_which_file_is_missing(copy: Copy, name: str):
    folder = SPLITS[name][0].split("/")[0] if name in SPLITS else name
    root = copy(folder)
    files = [path for kind in ("*.json", "*.txt", "*.mat") for path in (root / folder).rglob(kind)]
    for path in files:
        path.unlink()
    if len(files) > 1 or name == "imagenet":
        line = refusal(name, root)
        assert any(str(path) in line for path in files) and ("no such file" in line or "missing" in line)
    else:  # class folders say it all
        assert "published" in load_task(name, root=root).notes[0]


def test_the_test_labels_of_cars_may_lie_in_the_devkit(copy: Copy):
    root = copy("stanford_cars")
    (root / SPLITS["stanford_cars"][0]).unlink()
    before = load_task("stanford_cars", root=root)
    name = "cars_test_annos_withlabels.mat"
    (root / "stanford_cars" / name).rename(root / "stanford_cars" / "devkit" / name)
    assert load_task("stanford_cars", root=root) == before


@pytest.mark.parametrize("value", [{"annotations": np.zeros((1, 3))}, {"other": 1}, {"annotations": np.array(["a"])}])
def test_a_mat_file_of_another_form_is_refused(copy: Copy, value: dict):
    root = copy("stanford_cars")
    (root / SPLITS["stanford_cars"][0]).unlink()
    savemat(root / "stanford_cars" / "devkit" / "cars_train_annos.mat", value)
    assert "cars_train_annos.mat" in refusal("stanford_cars", root)


@pytest.mark.parametrize("count", [0, 2])
def test_a_class_with_too_few_images_to_split_is_refused(copy: Copy, count: int):
    root = copy("food-101")
    (root / SPLITS["food101"][0]).unlink()
    for path in sorted((root / "food-101" / "images" / "baklava").glob("*.jpg"))[count:]:
        path.unlink()
    assert "baklava" in refusal("food101", root)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=4), max_leaves=8
)
rows = st.lists(st.tuples(st.sampled_from(["a/1.jpg", "a/2.jpg", "..", ""]) | st.text(), st.integers(-1, 3), st.text()) | values)


@given(st.fixed_dictionaries({"train": rows, "val": rows, "test": rows}) | values)
def test_any_json_is_pools_or_one_line(found):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "split.json"
        path.write_text(json.dumps(found))
        try:
            pools = readers.split_file(path, Path(folder))
        except DplError as error:
            assert "\n" not in str(error) and "split.json" in str(error)
        else:
            items = [*pools.train, *pools.val, *pools.test]
            assert {item.label for item in items} == set(range(len(pools.class_names)))
            assert all(isinstance(item.image, Path) and item.image.is_relative_to(folder) for item in items)
            assert pools.missing == {item.name for item in items}  # the folder is empty


@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda rest: b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + rest))
def test_any_bytes_for_a_mat_file_are_one_line(data: bytes):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "imagelabels.mat"
        path.write_bytes(data)
        (path.parent / "cat_to_name.json").write_text("{}")
        with pytest.raises(DplError, match="imagelabels.mat") as error:
            readers.flowers(path.parent, path.parent)
        assert "\n" not in str(error.value)


@example("# Image CLASS-ID SPECIES BREED-ID\n")
@given(st.text(st.characters(codec="utf-8"), max_size=200))
def test_any_text_for_a_list_is_pools_or_one_line(text: str):
    with tempfile.TemporaryDirectory() as folder:
        (lists := Path(folder) / "annotations").mkdir()
        for name in ("trainval.txt", "test.txt"):
            (lists / name).write_text(text, newline="")
        try:
            pools = readers.pets(Path(folder), Path(folder))
        except DplError as error:
            assert "\n" not in str(error)
        else:
            assert pools.class_names


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(3, 9), min_size=1, max_size=4))
def test_underscores_become_spaces_and_labels_stay(sizes: dict[str, int]):
    labels = {name: label for label, name in enumerate(sizes)}
    rows = [Row(f"{name}/{index}.jpg", labels[name], f"{name}_{name}", "x") for name in sizes for index in range(sizes[name])]
    pools = from_rows(Path("/nowhere"), {"train": rows, "val": rows, "test": rows})
    assert pools.class_names == tuple(f"{name} {name}" for name in sizes)
    assert [(item.name, item.label) for item in pools.train] == [(row.name, row.label) for row in rows]
