import json
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpl import load_task
from dpl.data.sources import tables
from dpl.utils.errors import DplError


@pytest.fixture
def pictures(draw, tmp_path) -> Path:
    """A folder with cat/0.png ... and dog/0.png ..., six each."""
    for name in ("cat", "dog"):
        for index in range(6):
            draw(tmp_path / name / f"{index}.png", seed=index)
    return tmp_path


ROWS = [(f"{name}/{index}.png", name) for name in ("dog", "cat") for index in range(6)]
SPLITS = ["train", "train", "val", "test", "Test", "train"] * 2


def write(path: Path, rows: list[tuple[str, ...]], header: str = "path,label", newline: str = "\n") -> Path:
    path.write_bytes(newline.join([header, *(",".join(row) for row in rows), ""]).encode())
    return path


def parts(task) -> dict[str, set[str]]:
    return {part: {item.name for item in getattr(task, part)} for part in ("train", "val", "test")}


def test_a_table_without_splits_is_split(pictures):
    task = load_task(str(write(pictures / "labels.csv", ROWS)))
    assert (task.name, task.class_names, task.root) == ("labels", ("cat", "dog"), pictures)
    assert Counter(item.label for pool in (task.train, task.val, task.test) for item in pool) == {0: 6, 1: 6}
    assert all(item.image == pictures / item.name for item in task.train)
    assert any("50/20/30" in note for note in task.notes)


def test_a_table_says_the_same_as_a_folder_of_its_pictures(pictures, tmp_path):
    from_table, from_folder = load_task(str(write(pictures / "labels.csv", ROWS))), load_task(str(pictures))
    assert parts(from_table) == parts(from_folder) and from_table.class_names == from_folder.class_names
    assert (from_table.train, from_table.val, from_table.test) == (from_folder.train, from_folder.val, from_folder.test)


def test_given_splits_are_kept(pictures):
    rows = [(*row, split) for row, split in zip(ROWS, SPLITS, strict=True)]
    task = load_task(str(write(pictures / "labels.csv", rows, "file_name,category,split")))
    expected = {part: {path for path, _, split in rows if split.lower() == part} for part in ("train", "val", "test")}
    assert parts(task) == expected and not any("split" in note or "val" in note for note in task.notes)


@pytest.mark.parametrize("word", ["val", "valid", "VALIDATION"])
def test_validation_has_its_names(pictures, word):
    rows = [(*row, split.replace("val", word)) for row, split in zip(ROWS, SPLITS, strict=True)]
    assert len(load_task(str(write(pictures / "t.csv", rows, "path,label,split"))).val) == 2


def test_without_validation_a_fifth_of_train_becomes_it(pictures):
    rows = [(*row, split.replace("val", "train")) for row, split in zip(ROWS, SPLITS, strict=True)]
    task = load_task(str(write(pictures / "t.csv", rows, "path,label,split")))
    assert (len(task.train), len(task.val), len(task.test)) == (6, 2, 4) and "20 %" in task.notes[-1]


def test_labels_that_are_numbers_are_text_and_names_are_tidied(pictures):
    rows = [(path, "7" if label == "cat" else " big_dog") for path, label in ROWS]
    assert load_task(str(write(pictures / "t.csv", rows))).class_names == ("7", "big dog")


def test_rows_that_are_there_twice_count_once(pictures):
    task = load_task(str(write(pictures / "t.csv", [*ROWS, ROWS[0], ("./cat//0.png", "cat")])))
    assert sum(map(len, parts(task).values())) == 12
    assert task.notes[0] == "2 rows of t.csv are there twice, and counted once"


def test_missing_and_unreadable_pictures_are_left_out_with_a_note_or_refused(pictures):
    (pictures / "cut.png").touch()
    table = write(pictures / "t.csv", [*ROWS, ("gone.png", "cat"), ("cut.png", "dog"), ("cat", "cat")])
    (note,) = (note for note in load_task(str(table)).notes if "skipped" in note)
    assert "3 unreadable" in note and "gone.png (no such file)" in note and "cat (not a file)" in note
    with pytest.raises(DplError, match=r"t\.csv: line 14: cannot read .*gone\.png: no such file \(2 more"):
        load_task(str(table), strict=True)


@pytest.mark.parametrize(
    ("rows", "wording"),
    [
        ([("/etc/hosts", "cat")], r"line 2: /etc/hosts is absolute"),
        ([("C:\\a.png", "cat")], "line 2: .* is absolute"),
        ([("\\\\server\\a.png", "cat")], "line 2: .* is absolute"),
        ([*ROWS, ("../a.png", "cat")], r"line 14: \.\./a\.png leads out"),
        ([("cat/../../a.png", "cat")], "line 2: .*leads out"),
        ([("cat\\..\\..\\a.png", "cat")], "line 2: .*leads out"),
        ([("a\0.png", "cat")], "line 2: .*zero byte"),
        ([*ROWS, ("dog/0.png", "cat")], r"line 14: dog/0\.png is 'cat', but 'dog' in line 2.*one label"),
        ([*ROWS, ("x.png", "Cat")], r"line 14: 'cat' \(line 8\) and 'Cat' are one class"),
        ([*ROWS, ("x.png", "")], "line 14: the label is empty"),
        ([*ROWS, (" ", "cat")], "line 14: the path is empty"),
        ([*ROWS, ("x.png", "NaN")], "line 14: the label is empty"),
        ([*ROWS, ("x.png", "__")], "line 14: .*underscores"),
        ([*ROWS, ("x.png", "cat", "dog")], "line 14: has 3 cells, but the header 2"),
        ([*ROWS, ("x.png",)], "line 14: has 1 cell, but the header 2"),
        ([row for row in ROWS if row[1] == "cat"], "one class only, cat"),
        ([], "has no rows"),
        ([*ROWS[:8]], r"too few images.*cat \(2\)"),
        ([*ROWS, ("gone.png", "bird")], "no images of 1 of the classes: bird; some could not be read"),
    ],
)
def test_a_table_that_is_no_task_is_one_line_with_the_row(pictures, rows, wording):
    with pytest.raises(DplError, match=wording) as error:
        load_task(str(write(pictures / "t.csv", rows)))
    assert str(pictures / "t.csv") in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("splits", "wording"),
    [
        (["train", "dev"] * 6, "line 3: no split 'dev': there are train, val and test"),
        (["train", "val"] * 6, "the column split has train and val but no test"),
        (["test"] * 12, "has test but no train"),
        (["train", "test", ""] * 4, "line 4: the split is empty"),
        (["train"] * 6 + ["test"] * 6, "train has no images of 1 of the classes: cat"),
    ],
)
def test_splits_that_are_not_clear_are_refused(pictures, splits, wording):
    rows = [(*row, split) for row, split in zip(ROWS, splits, strict=True)]
    with pytest.raises(DplError, match=wording):
        load_task(str(write(pictures / "t.csv", rows, "path,label,split")))


def test_one_picture_in_two_splits_is_refused(pictures):
    rows = [(*row, split) for row, split in zip(ROWS, SPLITS, strict=True)]
    rows.append(("./dog/0.png", "dog", "test"))
    with pytest.raises(DplError, match=r"line 14: \./dog/0\.png is 'test', but 'train' in line 2: an image has one split"):
        load_task(str(write(pictures / "t.csv", rows, "path,label,split")))


def test_paths_of_windows_are_understood(pictures):
    rows = [(path.replace("/", "\\"), label) for path, label in ROWS]
    assert parts(load_task(str(write(pictures / "t.csv", rows)))) == parts(load_task(str(write(pictures / "u.csv", ROWS))))


def test_odd_names_and_links_are_read(pictures, draw, tmp_path_factory):
    outside = draw(tmp_path_factory.mktemp("outside") / "x.png")
    odd = ["näh 猫.png", "a b.png", "c,d.png", "two\nlines.png", "it's.png"]
    for name in odd:
        draw(pictures / name)
    (pictures / "link.png").symlink_to(outside)
    (pictures / "loop.png").symlink_to(pictures / "loop.png")
    names = [*odd, "link.png", "loop.png", "y" * 300 + ".png"]
    rows = [*ROWS, *((f'"{name}"', "cat") for name in names)]
    task = load_task(str(write(pictures / "t.csv", rows)))
    there = set().union(*parts(task).values())
    assert {*odd, "link.png"} <= there and len(there) == 12 + len(odd) + 1
    assert "skipped 2 unreadable" in task.notes[0]


def test_a_table_beside_class_folders_is_the_table_and_not_the_folder(pictures, monkeypatch):
    write(pictures / "t.csv", [(path, label[::-1]) for path, label in ROWS])
    monkeypatch.chdir(pictures)
    assert load_task("t.csv").class_names == ("god", "tac") and load_task(".").class_names == ("cat", "dog")
    assert tables.is_table(Path("T.CSV")) == Path("T.CSV").exists() and not tables.is_table(pictures)


CELLS = st.one_of(
    st.sampled_from(["cat/0.png", "dog/1.png", "cat", "dog", "train", "../x", "/etc", "", "nan", "x.png", "\0", "\ud800"]),
    st.text(max_size=6),
    st.integers(),
    st.floats(),
    st.none(),
    st.booleans(),
    st.lists(st.integers(), max_size=2),
)
HEADERS = st.sampled_from(["path", "image", "label", "split", "class", "Path ", "x"])


@pytest.fixture(scope="module")
def shelf(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shelf")
    (folder / "cat").mkdir()
    return folder


@given(st.lists(st.dictionaries(HEADERS, CELLS, max_size=4), max_size=6))
def test_any_json_is_a_task_or_one_line(shelf, rows):
    path = shelf / "t.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    refused_in_one_line(path)


@given(st.binary(max_size=80), st.sampled_from(["csv", "tsv", "json", "jsonl", "parquet"]), st.booleans())
def test_any_bytes_are_a_task_or_one_line(shelf, data, ending, with_header):
    path = shelf / f"t.{ending}"
    path.write_bytes(b"\xef\xbb\xbfpath,label\r\n" * with_header + data)
    refused_in_one_line(path)


@given(st.text(alphabet='pathlbe,;\t"\r\n ./\\', max_size=60))
def test_any_text_under_a_header_is_a_task_or_one_line(shelf, text):
    path = shelf / "t.csv"
    path.write_bytes(b"path,label\n" + text.encode())
    refused_in_one_line(path)


def refused_in_one_line(path: Path) -> None:
    """There is no picture here at all, so whatever is in the file is refused."""
    with pytest.raises(DplError) as error:
        load_task(str(path))
    text = str(error.value)
    assert text.startswith(str(path)) and len(text) < 1000
    assert text.isprintable() or not any(character in text for character in "\r\n\0")
    text.encode()


def test_a_table_that_may_not_be_read_is_named(pictures):
    table = write(pictures / "t.csv", ROWS)
    table.chmod(0)
    if os.access(table, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(DplError, match=r"t\.csv"):
        load_task(str(table))
