import numpy as np
import pytest

from dpl.data.images import Encoded
from dpl.data.readable import check_classes, skipped, unreadable_items
from dpl.data.task import Item
from dpl.errors import DplError


@pytest.fixture
def items(draw, tmp_path) -> list[Item]:
    """A file, one that is missing, bytes that are no image, and pixels."""
    found = [Item(draw(tmp_path / "a.png"), 0, "a.png"), Item(tmp_path / "gone\n.png", 1, "gone\n.png")]
    found.append(Item(Encoded("data train/2", lambda: b"text"), 1, "train/2"))
    return [*found, Item(np.zeros((2, 2, 3), np.uint8), 0, "pixels")]


def test_what_cannot_be_read_is_found_with_its_reason(items):
    bad = unreadable_items(items, strict=False)
    assert bad == {items[1]: "no such file", items[2]: "not an image of a known format"}
    assert skipped(bad) == ("skipped 2 unreadable images: gone?.png (no such file), train/2 (not an image of a known format)",)
    assert skipped({}) == () == skipped(unreadable_items(items[:1], strict=True))


def test_strict_names_the_first_and_where_it_is_listed(items):
    with pytest.raises(DplError, match=r"^row of gone\?\.png: cannot read .*gone\?\.png: no such file \(1 more such files\)"):
        unreadable_items(items, strict=True, place=lambda item: f"row of {item.name}: ".replace("\n", "?"))


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
