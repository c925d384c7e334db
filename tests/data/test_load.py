import numpy as np
import pytest

from dpl.data.load import BUILTIN, load_task
from dpl.data.task import Item
from dpl.utils.errors import DplError


def test_a_builtin_task_is_loaded_by_its_name():
    assert load_task("digits").name == "digits"
    assert all(builtin.description and builtin.load().class_names for builtin in BUILTIN.values())


def test_a_folder_is_loaded_by_its_path(tree):
    root = tree({"cat": 3, "dog": 3})
    assert load_task(str(root)).class_names == ("cat", "dog")


def test_a_folder_named_like_a_builtin_task_is_reached_by_a_path(tree, monkeypatch, tmp_path):
    tree({"cat": 3, "dog": 3}).rename(tmp_path / "digits")
    monkeypatch.chdir(tmp_path)
    assert load_task("./digits").class_names == ("cat", "dog")
    assert len(load_task("digits").class_names) == 10


@pytest.mark.parametrize("data", ["no/such/folder", "", "digit", pytest.param("x" * 5000, id="too long")])
def test_what_is_no_task_is_one_clear_line(data):
    with pytest.raises(DplError) as error:
        load_task(data)
    assert data[:100] in str(error.value) and "folder" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_split_does_not_depend_on_the_seed(tree):
    root = str(tree({"cat": 7, "dog": 8}))
    assert load_task(root) == load_task(root)


def test_items_compare_by_name_and_label():
    one, same = (Item(np.zeros((2, 2, 3), np.uint8), 1, "digits/3") for _ in range(2))
    assert one == same and len({one, same}) == 1
    assert one != Item(one.image, 2, "digits/3")
