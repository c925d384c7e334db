from dataclasses import replace

import numpy as np
import pytest

from dpl.data.task import Augmentation, Encoded, Item, Task
from dpl.data.validate import check_classes, skipped, unreadable_items, without
from dpl.utils.errors import DplError


@pytest.fixture
def items(draw, tmp_path) -> list[Item]:
    """A file, one that is missing, bytes that are no image, and pixels."""
    found = [Item(draw(tmp_path / "a.png"), 0, "a.png"), Item(tmp_path / "gone\n.png", 1, "gone\n.png")]
    found.append(Item(Encoded("data train/2", lambda: b"text"), 1, "train/2"))
    return [*found, Item(np.zeros((2, 2, 3), np.uint8), 0, "pixels")]


def test_missing_and_empty_files_are_found_without_decoding(items, tmp_path, monkeypatch):
    (tmp_path / "empty.png").touch()
    items.append(Item(tmp_path / "empty.png", 1, "empty.png"))
    monkeypatch.setattr("dpl.data.validate.unreadable", None)
    bad = unreadable_items(items, strict=False)
    assert bad == {items[1]: "no such file", items[4]: "the file is empty"}
    assert skipped(bad) == ("skipped 2 unreadable images: gone?.png (no such file), empty.png (the file is empty)",)
    assert skipped({}) == () and skipped({items[1]: "x"}, "test image") == ("skipped 1 unreadable test image: gone?.png (x)",)


def test_strict_decodes_every_image(items):
    assert unreadable_items([items[0], items[3]], strict=True) == {}
    with pytest.raises(DplError, match="cannot read data train/2: not an image of a known format; replace or remove it"):
        unreadable_items([items[0], items[2]], strict=True)


def test_strict_names_the_first_and_where_it_is_listed(items):
    with pytest.raises(DplError, match=r"^row of gone\?\.png: cannot read .*gone\?\.png: no such file \(1 more such files\)"):
        unreadable_items(items, strict=True, place=lambda item: f"row of {item.name}: ".replace("\n", "?"))


@pytest.fixture
def task(items) -> Task:
    return Task("pets", ("a", "b"), ("{}",), tuple(items), tuple(items[:2]), tuple(items), Augmentation((1, 1), False))


def test_unreadable_images_leave_train_and_val_but_not_test(task, items):
    left = without(task, {replace(items[2], label=0): "cut"})
    assert left.train == (items[0], items[1], items[3]) and left.val == task.val and left.test == task.test


def test_val_that_was_train_itself_stays_so(task, items):
    left = without(replace(task, val=task.train), {items[2]: "cut"})
    assert left.val is left.train


def test_a_class_that_loses_its_last_image_is_named_with_the_reason(task, items):
    with pytest.raises(DplError, match=r"^pets: val has no readable image of the class b: gone\?\.png: no such file; add some$"):
        without(task, {items[1]: "no such file"})


def test_a_part_that_lacks_a_class_is_named(items):
    check_classes("data", {"train": items, "test": items[:2]}, ("a", "b"), {})
    with pytest.raises(DplError, match="^data: test has no images of 1 of the classes: b$"):
        check_classes("data", {"train": items, "test": items[:1]}, ("a", "b"), {})
    with pytest.raises(DplError, match="^data: has no images of 1 of the classes: b; some could not be read, see --strict$"):
        check_classes("data", {"all": items[:1]}, ("a", "b"), {items[1]: "no such file"})


@pytest.mark.parametrize(("names", "wording"), [((), "has no images; a task"), (("a",), "has one class only, a; a task")])
def test_fewer_than_two_classes_are_no_task(names, wording):
    with pytest.raises(DplError, match=wording):
        check_classes("data", {}, names, {})
