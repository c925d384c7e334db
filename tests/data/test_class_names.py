import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpl import load_task
from dpl.data.class_names import advised, class_name, renamed
from dpl.data.task import Augmentation, Task
from dpl.utils.errors import DplError

IDS = ("n01440764", "n01443537", "n01484850")


def task(*names: str) -> Task:
    return Task("t", names, ("a {}.",), (), (), (), Augmentation((1, 1), False), notes=("before",))


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_class_names_are_composed_text_on_one_line(tmp_path):
    assert class_name("cre\u0300me__bru\u0302le\u0301e_") == "crème brûlée"
    assert class_name("two\nlines\t x") == "two?lines? x"
    assert class_name(b"caf\xe9".decode(errors="surrogateescape")).encode()


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "lines",
    [
        ["# fish", "", "n01440764: tench", "  n01443537 :gold_fish ", "n01484850: great white shark: man-eater, white shark"],
        ["n01440764,tench", "#", '"n01443537","gold fish"', 'n01484850,"great white shark: man-eater, white shark"'],
        ["N01440764\ttench", "n01443537\tgold fish", "n01484850\tgreat white shark: man-eater, white shark"],
    ],
)
def test_lines_of_keys_and_names(tmp_path, bom, newline, lines):
    found = renamed(task(*IDS), write(tmp_path / "names.txt", bom + newline.join(lines).encode()))
    assert found.class_names == ("tench", "gold fish", "great white shark: man-eater, white shark")
    assert found == replace(task(*IDS), class_names=found.class_names)


@pytest.mark.parametrize("name", ["names.json", "names.txt"])
def test_a_json_object(tmp_path, name):
    path = write(tmp_path / name, "\ufeff" + json.dumps({"n01443537": "gold\u00a0fish", "n01440764": "tench", "n01484850": "s"}))
    assert renamed(task(*IDS), path).class_names == ("tench", "gold fish", "s")


def test_keys_match_as_class_folders_are_read(tmp_path):
    assert renamed(task("red fox", "Wolf"), write(tmp_path / "n", "Red_Fox: fox\nWOLF: dog")).class_names == ("fox", "dog")


def test_names_may_be_exchanged(tmp_path):
    assert renamed(task("left", "right"), write(tmp_path / "n", "left: right\nright: left")).class_names == ("right", "left")


def test_unknown_keys_and_classes_without_a_name_are_notes(tmp_path):
    found = renamed(task(*IDS), write(tmp_path / "n.txt", "n01440764: tench\nn9: x\nn8: y\n"))
    assert found.class_names == ("tench", *IDS[1:])
    assert found.notes[0] == "before" and "2 that are no classes: n9, n8" in found.notes[1]
    assert "2 classes no name, so they keep theirs: n01443537, n01484850" in found.notes[2]


@pytest.mark.parametrize(
    ("text", "wording"),
    [
        ("n01440764: a\nn01440764: b", "line 2: n01440764 is in line 1 already"),
        ("n01440764: a\n\nN01440764, b", "line 3: N01440764 is in line 1 already"),
        ("n01440764: tench\nn01443537: Tench", "n01440764 and n01443537 would both be called 'Tench'"),
        ("n01440764: n01443537", "n01440764 and n01443537 would both be called 'n01443537'"),
        ("n01440764: ", "line 1: the name is missing"),
        ("n01440764: _", "line 1: the name is missing"),
        (": tench", "line 1: the class is missing"),
        ("n01440764 tench", "line 1: 'n01440764 tench' has no name; give a line per class such as"),
        ('"n01440764"', "has no name"),
        ("cat: dog", "names no class of t: has cat; the classes are n01440764, n01443537, n01484850"),
        ("", "is empty; give a line"),
        ("# nothing", "is empty; give a line"),
        ('{"n01440764": 3}', "the name of n01440764 is no text"),
        ('{"n01440764": "a", "n01440764": "b"}', "'n01440764' is there twice"),
        ('{"n01440764"', "is no JSON object"),
        (b"n01440764: caf\xe9", "line 1: is not UTF-8"),
        ("n01440764: a".encode("utf-16"), "is UTF-16"),
    ],
)
def test_a_file_that_cannot_be_meant_is_one_line(tmp_path, text, wording):
    path = write(tmp_path / "names.txt", text)
    with pytest.raises(DplError, match=wording) as error:
        renamed(task(*IDS), path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_no_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(DplError, match="nowhere: no such file; give a file of class names"):
        renamed(task(*IDS), tmp_path / "nowhere")
    with pytest.raises(DplError, match="is not a file"):
        renamed(task(*IDS), tmp_path)


@given(st.one_of(st.binary(max_size=60), st.text(alphabet='n01:,\t"{}\r\n# a', max_size=60).map(str.encode)))
def test_any_file_gives_as_many_different_names_or_one_line(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_bytes(data)
    try:
        names = renamed(task("n0", "1", "a"), path).class_names
    except DplError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
    else:
        assert len({name.casefold() for name in names}) == 3 and all(names)


@pytest.mark.parametrize(("names", "is_told"), [(IDS, True), (("0", "17"), True), (("cat", "3"), False), (("n1", "n2"), False)])
def test_names_that_say_nothing_are_noted(names, is_told):
    found = advised(task(*names))
    assert found.class_names == names and (len(found.notes) == 2) == is_told
    assert not is_told or "--names FILE" in found.notes[1]


def test_a_task_is_loaded_with_names_or_with_advice(tree, tmp_path):
    root = tree({"n01440764": 3, "n01443537": 3})
    assert "--names" in load_task(str(root)).notes[-1]
    path = write(tmp_path / "names.txt", "n01440764: tench\nn01443537: goldfish")
    found = load_task(str(root), names=path)
    assert found.class_names == ("tench", "goldfish") and not any("--names" in note for note in found.notes)
    assert load_task("digits").notes == ()
