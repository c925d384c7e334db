from collections import Counter

import pytest

from dpl.data.sources import folder
from dpl.utils.errors import DplError


def test_without_splits_every_class_is_split(tree):
    task = folder.load(tree({"cat": 10, "red_panda": 20, "Dog": 3}))
    assert task.class_names == ("Dog", "cat", "red panda")
    counts = [Counter(item.label for item in pool) for pool in (task.train, task.val, task.test)]
    assert counts == [{0: 1, 1: 5, 2: 10}, {0: 1, 1: 2, 2: 4}, {0: 1, 1: 3, 2: 6}]
    assert len({item.name for item in (*task.train, *task.val, *task.test)}) == 33
    (note,) = task.notes
    assert "50/20/30" in note
    assert (task.name, task.templates[0]) == ("data", "a photo of a {}.")


@pytest.mark.parametrize("val", ["val", "validation", "valid"])
def test_given_splits_are_kept(tree, val):
    task = folder.load(tree({f"{part}/{name}": n for n, part in enumerate(("Train", val, "TEST"), 1) for name in "ab"}))
    assert [len(pool) for pool in (task.train, task.val, task.test)] == [2, 4, 6]
    assert task.notes == () and task.train[0].name == "Train/a/000.png" and task.test[0].name == "TEST/a/000.png"


def test_without_validation_a_fifth_of_train_becomes_it(tree):
    task = folder.load(tree({"train/a": 10, "train/b": 2, "test/a": 1, "test/b": 4}))
    assert Counter(item.label for item in task.train) == {0: 8, 1: 1}
    assert Counter(item.label for item in task.val) == {0: 2, 1: 1}
    assert len(task.test) == 5 and not set(task.train) & set(task.val)
    assert "20 %" in task.notes[0]


def test_items_are_sorted_by_class_and_path(tree):
    root = tree({"b": 9, "a/deep/er": 4, "a": 5})
    task = folder.load(root)
    for pool in (task.train, task.val, task.test):
        assert [(item.label, item.name) for item in pool] == sorted((item.label, item.name) for item in pool)
    assert all(item.image == root / item.name for item in task.train)


def test_hidden_files_are_ignored(tree, draw):
    root = tree({"a": 3, "b": 3, ".git": 3, "a/.thumbnails": 2, "__MACOSX": 1})
    draw(root / "a" / "._000.png")
    (root / "Thumbs.db").write_text("no image")
    task = folder.load(root)
    assert task.class_names == ("a", "b") and len((*task.train, *task.val, *task.test)) == 6 and len(task.notes) == 1


def test_files_of_other_kinds_are_ignored_with_a_note(tree):
    root = tree({"a": 3, "b": 3})
    for name in ("a/notes.txt", "b/1.HEIC", "b/2.heic", "b/Makefile"):
        (root / name).write_text("no image")
    task = folder.load(root, strict=True)
    assert len((*task.train, *task.val, *task.test)) == 6
    assert task.notes[0] == "ignored files of other kinds: .heic (2), .txt (1), no ending (1)"


def test_names_with_spaces_accents_and_other_scripts(tree, draw):
    root = tree({"crème brûlée": 3, "猫": 3, "two words": 3})
    draw(root / "猫" / "naïve file (1).JPG")
    task = folder.load(root)
    assert task.class_names == ("crème brûlée", "two words", "猫")
    assert "猫/naïve file (1).JPG" in {item.name for item in (*task.train, *task.val, *task.test)}


def spoil(root):
    """Three unreadable files in class a."""
    whole = (root / "a" / "000.png").read_bytes()
    (root / "a" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "a" / "empty.jpg").touch()
    (root / "a" / "text.gif").write_text("not a picture")


def test_empty_files_are_skipped_with_a_note_and_nothing_is_decoded(tree):
    root = tree({"a": 4, "b": 4})
    spoil(root)
    task = folder.load(root)
    names = {item.name for item in (*task.train, *task.val, *task.test)}
    assert len(names) == 10 and {"a/cut.png", "a/text.gif"} <= names
    assert "skipped 1 unreadable image: a/empty.jpg (the file is empty)" in task.notes


def test_unreadable_files_are_an_error_if_strict(tree):
    root = tree({"a": 4, "b": 4})
    spoil(root)
    with pytest.raises(DplError, match=r"cut\.png.*2 more"):
        folder.load(root, strict=True)


def test_a_long_list_of_unreadable_files_is_cut(tree):
    root = tree({"a": 4, "b": 4})
    for index in range(9):
        (root / "b" / f"x{index}.jpg").touch()
    assert "skipped 9" in folder.load(root).notes[0] and "and 6 more" in folder.load(root).notes[0]


@pytest.mark.parametrize(
    ("counts", "wording"),
    [
        ({"cat": 5, "dog": 2}, r"too few.*train, val and test.*dog \(2\).*3 or more"),
        ({"train/cat": 5, "train/dog": 1, "test/cat": 1, "test/dog": 1}, r"too few.*train and val: dog \(1\).*2 or"),
        ({"cat": 5, "dog": 0}, r"dog has no images.*\.jpg"),
    ],
)
def test_classes_of_too_few_images_are_named(tree, counts, wording):
    with pytest.raises(DplError, match=wording):
        folder.load(tree(counts))


def test_a_class_with_unreadable_images_only_is_named(tree):
    root = tree({"cat": 5, "dog": 0})
    (root / "dog" / "a.jpg").touch()
    with pytest.raises(DplError, match=r"dog has no readable image: a\.jpg: the file is empty"):
        folder.load(root)


def test_a_file_that_is_not_utf8_is_read(tree, draw):
    root = tree({"a": 3, "b": 3})
    try:
        draw(root / "a" / b"\xff.png".decode(errors="surrogateescape"))
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    task = folder.load(root)
    assert "a/\\udcff.png" in {item.name for item in (*task.train, *task.val, *task.test)}


def test_the_test_set_stays_when_the_folder_moves(tree, tmp_path):
    root = tree({"a": 20, "b": 20})
    before = folder.load(root).test
    assert folder.load(root.rename(tmp_path / "elsewhere")).test == before


def test_line_ends_and_other_odd_characters_in_names_stay_on_one_line(tree, draw):
    root = tree({"two\nlines": 3, "a\tb \x1b[31m": 3})
    (root / "two\nlines" / "empty\n.png").touch()
    task = folder.load(root)
    assert task.class_names == ("a?b ?[31m", "two?lines")
    assert not any("\n" in note or "\x1b" in note for note in task.notes) and "empty?.png" in task.notes[0]
    with pytest.raises(DplError) as error:
        folder.load(root, strict=True)
    assert "\n" not in str(error.value)
