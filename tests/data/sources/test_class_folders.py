import pytest

from dpl.data.sources import folder
from dpl.data.sources.class_folders import find
from dpl.utils.errors import DplError


@pytest.mark.parametrize(
    ("counts", "wording"),
    [
        ({}, "no class folders"),
        ({"cat": 3}, "one class only.*cat"),
        ({"red_fox": 3, "Red Fox": 3}, "Red Fox.*red_fox.*one class"),
        ({"__": 3, "cat": 3}, "__.*rename"),
        ({"train/a": 3, "train/b": 3}, r"has train but no test/"),
        ({"train/a": 3, "train/b": 3, "val/a": 3, "val/b": 3}, r"has train, val but no test/"),
        ({"val/a": 3, "val/b": 3}, r"no train/ and test/"),
        ({"train/a": 3, "train/b": 3, "test/a": 3}, "test lacks 1 .*train has: b"),
        ({"train/a": 3, "test/b": 3, "test/a": 3, "test/c": 3}, "train lacks 2 .*test has: b, c"),
        ({"train/a": 3, "train/b": 3, "test/a": 3, "test/b": 3, "val/a": 3}, "val lacks 1 .*train has: b"),
        ({"train/a": 3, "train/b": 3, "test": 3}, "test.*no class folders"),
        ({"train/a": 3, "Train/a": 3, "test/a": 3}, "two folders for train: Train and train"),
        ({"train/a": 3, "val/a": 3, "valid/a": 3, "test/a": 3}, "two folders for val: val and valid"),
    ],
)
def test_a_folder_that_is_no_task_is_one_clear_line(tree, tmp_path, counts, wording):
    (tmp_path / "data").mkdir()
    with pytest.raises(DplError, match=wording) as error:
        find(tree(counts))
    assert str(tmp_path / "data") in str(error.value) and "\n" not in str(error.value)


def test_a_file_and_a_missing_folder_are_told_apart(draw, tmp_path):
    with pytest.raises(DplError, match=r"a\.png is not a folder"):
        find(draw(tmp_path / "a.png"))
    with pytest.raises(DplError, match="nowhere is missing"):
        find(tmp_path / "nowhere")


def test_a_class_may_be_called_train(tree):
    assert find(tree({"bus": 3, "train": 3})).class_names == ("bus", "train")


def test_splits_may_spell_a_class_differently(tree):
    found = find(tree({"train/Red_Fox": 1, "train/wolf": 1, "test/red fox": 1, "test/Wolf": 1}))
    assert found.class_names == ("Red Fox", "wolf")
    assert [(folder.part, folder.label, folder.path.name) for folder in found.folders] == [
        ("test", 0, "red fox"), ("test", 1, "Wolf"), ("train", 0, "Red_Fox"), ("train", 1, "wolf"),
    ]  # fmt: skip


def test_what_lies_beside_the_classes_is_noted(tree, draw):
    root = tree({"a": 3, "b": 3})
    draw(root / "lost.png")
    assert "lost.png" in find(root).notes[0]


def test_what_lies_beside_the_splits_is_noted(tree):
    (note,) = find(tree({"train/a": 3, "train/b": 3, "test/a": 3, "test/b": 3, "raw/a": 1})).notes
    assert "raw" in note and "train" not in note


def test_links_to_folders_are_followed_once(tree, draw, tmp_path):
    root = tree({"a": 3, "b": 3})
    draw(tmp_path / "outside" / "x.png")
    for link, target in (("a/up", root), ("a/self", root / "a"), ("a/other", root / "b"), ("a/far", tmp_path)):
        (root / link).symlink_to(target, target_is_directory=True)
    (root / "a" / "more").symlink_to(tmp_path / "outside", target_is_directory=True)
    (root / "a" / "again").symlink_to(tmp_path / "outside", target_is_directory=True)
    task = folder.load(root)
    names = sorted(item.name for item in (*task.train, *task.val, *task.test))
    assert names == ["a/000.png", "a/001.png", "a/002.png", "a/again/x.png", "b/000.png", "b/001.png", "b/002.png"]


def test_a_class_that_is_a_link_works_but_not_to_another_class(tree, tmp_path):
    root = tree({"a": 3, "b": 3})
    (root / "b").rename(tmp_path / "stored")
    (root / "b").symlink_to(tmp_path / "stored", target_is_directory=True)
    assert len(folder.load(root).test) == 2
    (root / "c").symlink_to(root / "a", target_is_directory=True)
    with pytest.raises(DplError, match=r"c links to a folder"):
        find(root)


def test_train_and_test_cannot_be_the_same_images(tree):
    root = tree({"train/a": 3, "train/b": 3})
    (root / "test").symlink_to(root / "train", target_is_directory=True)
    with pytest.raises(DplError, match="links to a folder"):
        find(root)
