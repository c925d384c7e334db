from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpl.data.sources import folder
from dpl.data.sources.class_folders import find
from dpl.data.split import PARTS
from dpl.utils.errors import DplError


def found(root) -> dict[str, dict[str, str]]:
    """Part -> class -> folder, relative to the root."""
    classes = find(root)
    parts: dict[str, dict[str, str]] = {}
    for one in classes.folders:
        parts.setdefault(one.part, {})[classes.class_names[one.label]] = one.path.relative_to(root).as_posix()
    return parts


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Train", "VALID", "Test"), ("TRAIN", "Validation", "TEST")])
@pytest.mark.parametrize("around", ["", "data/", "images/", "a/b/"])
@pytest.mark.parametrize("form", ["{part}/{name}", "{name}/{part}"])
def test_splits_of_classes_and_classes_of_splits_however_deep(tree, names, around, form):
    wanted = {part: {name: around + form.format(part=own, name=name) for name in ("cat", "dog")}
              for part, own in zip(("train", "val", "test"), names, strict=True)}  # fmt: skip
    root = tree({place: 1 for places in wanted.values() for place in places.values()})
    assert found(root) == {part: wanted[part] for part in ("train", "val", "test")}
    task = folder.load(root)
    assert [len(pool) for pool in (task.train, task.val, task.test)] == [2, 2, 2]
    assert task.train[0].name == f"{wanted['train']['cat']}/000.png"
    notes = [note for note in task.notes if "classes are those in" in note]
    assert notes == ([f"classes are those in {around}"] if around else [])


@pytest.mark.parametrize("form", ["train/{}", "{}/train"])
def test_without_validation(tree, form):
    places = {form.format(name).replace("train", part): 5 for name in "ab" for part in ("train", "test")}
    task = folder.load(tree(places))
    assert [len(pool) for pool in (task.train, task.val, task.test)] == [8, 2, 10]


def test_a_folder_around_class_folders_is_no_class(tree):
    root = tree({"archive/archive/cat": 3, "archive/archive/dog": 3, "__MACOSX/archive": 1, ".hidden": 1})
    assert found(root) == {"all": {"cat": "archive/archive/cat", "dog": "archive/archive/dog"}}


def test_pictures_may_lie_deeper_in_a_class(tree):
    root = tree({"cat/black": 2, "cat/white": 2, "dog": 3})
    assert found(root) == {"all": {"cat": "cat", "dog": "dog"}} and len(folder.load(root).train) == 3
    assert found(tree({"train/cat/black": 1, "train/dog": 1, "test/cat": 1, "test/dog/small": 1}))["test"] == {
        "cat": "test/cat", "dog": "test/dog",
    }  # fmt: skip


def test_a_vehicle_called_train_is_a_class_or_a_part_of_one(tree):
    root = tree({"train": 3, "bus": 3})
    assert found(root) == {"all": {"bus": "bus", "train": "train"}}
    assert find(root).notes == ("called like a split, but beside classes, so taken as a class: train",)


def test_what_is_in_a_class_may_be_called_train(tree):
    root = tree({"vehicle/train": 2, "vehicle/bus": 2, "fruit": 3})
    assert found(root) == {"all": {"fruit": "fruit", "vehicle": "vehicle"}}
    assert folder.load(root).notes[0] == "called like a split, but within a class, so taken as a plain folder: vehicle/train"


def test_other_folders_beside_the_data_are_noted(tree, draw):
    root = tree({f"images/{part}/{name}": 1 for part in ("train", "test") for name in "ab"} | {"annotations": 0})
    draw(root / "images" / "train" / "stray.png")
    assert found(root)["train"] == {"a": "images/train/a", "b": "images/train/b"}
    assert find(root).notes == (
        "classes are those in images/",
        "not in a class folder, so ignored: annotations, images/train/stray.png",
    )


def test_what_lies_beside_the_splits_of_a_class_is_noted(tree, draw):
    root = tree({f"{name}/{part}": 1 for part in ("train", "test") for name in "ab"} | {"notes": 0})
    draw(root / "a" / "x.png")
    assert find(root).notes == ("not in a class folder, so ignored: notes, a/x.png",)


BOTH = {f"{part}/{name}": 1 for part in ("train", "test") for name in "ab"}


@pytest.mark.parametrize(
    ("counts", "wording"),
    [
        ({"a/train": 1, "a/test": 1, "b": 1}, "a have train/ and test/, b not; all classes must have them, or none"),
        ({"a/train": 1, "a/test": 1, "b/train": 1}, "a have train/ and test/, b not"),
        ({"a/train": 1, "a/val": 1, "b/train": 1, "b/val": 1}, r"data/a has train, val but no test/"),
        ({"a/train": 1, "b/test": 1}, r"data/a has train but no test/"),
        ({"a/train": 1, "a/test": 1, "a/val": 1, "b/train": 1, "b/test": 1}, "val lacks 1 of the classes that train has: b"),
        ({"a/train": 1, "a/test": 1}, "one class only, a"),
        ({"a/train": 1, "a/Train": 1, "a/test": 1, "b/train": 1, "b/test": 1}, "two folders for train: Train and train"),
        ({"train": 2, "val": 2}, "has train, val but no test/"),
        ({"in/train": 2, "in/val": 2}, "has train, val but no test/"),
        ({"in/train/a": 2, "in/train/b": 2, "in/val/a": 1, "in/val/b": 1}, "has train, val but no test/"),
        (
            {f"{place}/{inner}": 1 for place in ("one", "two") for inner in BOTH},
            "one has train/ and test/, but there are one, two",
        ),
        ({**{f"one/{inner}": 1 for inner in BOTH}, "more": 1}, "one has train/ and test/, but there are one, more"),
        ({**{f"one/{inner}": 1 for inner in BOTH}, "more/deep": 1}, "one has train/ and test/, but there are one, more"),
        ({"a/b/c/d/e/f/x": 1, "a/b/c/d/e/f/y": 1}, "one class only"),
    ],
)
def test_what_could_be_one_or_the_other_is_one_line(tree, counts, wording):
    root = tree(counts)
    with pytest.raises(DplError, match=wording) as error:
        find(root)
    assert str(root) in str(error.value) and "\n" not in str(error.value)


PLACES = st.lists(st.sampled_from(["train", "test", "val", "Test", "a", "b", "c"]), min_size=1, max_size=4).map("/".join)


@given(st.sets(PLACES, min_size=1, max_size=9))
def test_what_is_below_a_folder_called_test_is_tested_on_or_told_whatever_the_nesting(places):
    with TemporaryDirectory() as name:
        root = Path(name)
        for place in places:
            (root / place).mkdir(parents=True, exist_ok=True)
            for index in range(3):
                (root / place / f"{index}.ppm").write_bytes(b"P6 1 1 255\nabc")
        try:
            task = folder.load(root)
        except DplError as error:
            assert name in str(error) and "\n" not in str(error)
            return
    pools = {"train": task.train, "val": task.val, "test": task.test}
    made = {"train", "val"} if any("20 %" in note for note in task.notes) else set()
    for part, pool in pools.items():
        for item in pool:
            said = {PARTS[word] for word in item.name.lower().split("/") if word in PARTS}
            allowed = {part, "train"} if part in made else {part}
            assert said <= allowed or any("called like a split" in note for note in task.notes)
    taken = [item.name for pool in pools.values() for item in pool]
    left = {f"{place}/{index}.ppm" for place in places for index in range(3)} - set(taken)
    assert len(taken) == len(set(taken)) and (not left or any("ignored" in note for note in task.notes))


def test_links_that_lead_round_end(tree):
    root = tree({"a": 1})
    (root / "a" / "000.png").unlink()
    (root / "a" / "again").symlink_to(root, target_is_directory=True)
    (root / "self").symlink_to(root / "self")
    with pytest.raises(DplError, match="one class only, a"):
        find(root)


def test_a_link_to_itself_is_no_class(tree):
    root = tree({"a": 3, "b": 3})
    (root / "c").symlink_to(root / "c")
    assert found(root) == {"all": {"a": "a", "b": "b"}}
