"""All fifteen layouts are read as the protocol has it: names, labels, order, draws; re-derived here from the raw files."""

import json
import random
import re
from pathlib import Path

import pytest

from dpl.data.fewshot import sample
from dpl.data.load import load_task
from dpl.data.sources.catalog import CATALOG
from dpl.data.task import Augmentation
from dpl.utils.errors import DplError

from .replicas import EACH, NAMES, SPLITS, TRAIN, TRAINVAL

SHIFTS = ("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r")
ALL_EACH = ("caltech101", "oxford_flowers", "food101", "dtd", "eurosat")
TRAINVAL_EACH = ("oxford_pets", "stanford_cars", "sun397", "ucf101")


def rows_of(items) -> list[tuple[str, int]]:
    return [(item.name, item.label) for item in items]


def test_the_catalogue_has_the_eleven_and_the_four_shifts():
    assert list(CATALOG) == list(NAMES) and {name for name, row in CATALOG.items() if row.trained_on} == set(SHIFTS)


@pytest.mark.parametrize("name", NAMES)
def test_every_layout_is_read(root: Path, name: str):
    task = load_task(name, root=root)
    assert task.name == name and task.class_names == NAMES[name]
    assert task.templates[0] == CATALOG[name].template and len(task.templates) == 8
    assert all(template.count("{}") == 1 for template in task.templates)
    assert task.augmentation == Augmentation((0.08, 1.0), flip=True)
    assert not any("published" in note for note in task.notes)
    assert task.root is not None
    for pool in (task.train, task.val, task.test):
        for item in pool:
            assert isinstance(item.image, Path) and item.image.is_file() and item.image == task.root / item.name
        assert len({item.name for item in pool}) == len(pool)
    assert {item.label for item in task.test} == set(range(len(NAMES[name])))


@pytest.mark.parametrize("name", SPLITS)
def test_pools_are_the_split_files_in_its_order(root: Path, name: str):
    task, rows = load_task(name, root=root), json.loads((root / SPLITS[name][0]).read_text())
    for part in ("train", "val", "test"):
        assert rows_of(getattr(task, part)) == [(path, label) for path, label, _ in rows[part]]
    assert task.root == root / SPLITS[name][1]


def published_draws(root: Path, name: str, shots: int, seed: int) -> tuple[list[str], list[str]]:
    """The images of the protocol, from the split file and Python's own `random`."""
    rows = json.loads((root / SPLITS[name][0]).read_text())
    random.seed(seed)
    drawn: list[list[str]] = []
    for part, most in (("train", shots), ("val", min(shots, 4))):
        by_label: dict[int, list[str]] = {}
        for path, label, _ in rows[part]:
            by_label[label] = [*by_label.get(label, []), path]
        drawn.append([])
        for paths in by_label.values():
            drawn[-1] += random.sample(paths, most) if len(paths) >= most else paths
    return drawn[0], drawn[1]


@pytest.mark.parametrize("name", SPLITS)
@pytest.mark.parametrize(("shots", "seed"), [(1, 1), (2, 2), (4, 3), (16, 1)])
def test_few_shots_are_the_protocols(root: Path, name: str, shots: int, seed: int):
    drawn = sample(load_task(name, root=root), shots, seed)
    assert ([item.name for item in drawn.train], [item.name for item in drawn.val]) == published_draws(root, name, shots, seed)


@pytest.mark.parametrize("name", ALL_EACH)
def test_without_a_split_file_every_class_is_split_and_that_is_said(without_splits: Path, name: str):
    task = load_task(name, root=without_splits)
    assert task.class_names == NAMES[name]
    (note,) = task.notes
    assert "not the published one" in note and CATALOG[name].split is not None and str(CATALOG[name].split) in note
    for pool, count in ((task.train, 5), (task.val, 2), (task.test, 3)):
        for label in range(len(NAMES[name])):
            assert sum(item.label == label for item in pool) == count
    names = [item.name for item in (*task.train, *task.val, *task.test)]
    assert len(names) == len(set(names)) == EACH * len(NAMES[name])
    assert task == load_task(name, root=without_splits)


@pytest.mark.parametrize("name", TRAINVAL_EACH)
def test_without_a_split_file_official_test_images_stay_and_trainval_is_split(root: Path, without_splits: Path, name: str):
    task, published = load_task(name, root=without_splits), load_task(name, root=root)
    assert task.class_names == NAMES[name] and "not the published one" in task.notes[0]
    assert set(rows_of(task.test)) == set(rows_of(published.test))
    own, pools = set(rows_of(task.train)) | set(rows_of(task.val)), {*rows_of(published.train), *rows_of(published.val)}
    assert own == pools and len(task.train) + len(task.val) == len(own) == TRAINVAL * len(NAMES[name])
    assert all(sum(item.label == label for item in task.val) == 2 for label in range(len(NAMES[name])))


def test_aircraft_is_always_as_its_authors_split_it(without_splits: Path):
    task = load_task("fgvc_aircraft", root=without_splits)
    assert task.notes == ()
    for part, count in (("train", TRAIN), ("val", TRAINVAL - TRAIN), ("test", EACH - TRAINVAL)):
        lines = (without_splits / "fgvc_aircraft" / f"images_variant_{part}.txt").read_text().splitlines()
        found = [(line.split(" ", 1)[0] + ".jpg", NAMES["fgvc_aircraft"].index(line.split(" ", 1)[1])) for line in lines]
        assert rows_of(getattr(task, part)) == found and len(found) == count * len(NAMES["fgvc_aircraft"])


@pytest.mark.parametrize("name", SHIFTS)
def test_a_shift_has_test_images_only_and_training_on_it_says_what_to_do(root: Path, name: str):
    task = load_task(name, root=root)
    assert len(task.train) == len(task.val) == 0 and len(task.test) == 2 * len(NAMES[name])
    with pytest.raises(DplError, match=re.escape(f"train on imagenet and use dpl evaluate RUN --on {name}")):
        sample(task, 16, 1)


def test_the_images_of_a_shift_are_of_the_class_that_they_are_labelled_as(root: Path):
    imagenet = load_task("imagenet", root=root)
    first = {item.label: item for item in imagenet.test}
    for name in SHIFTS:
        task = load_task(name, root=root)
        for item in task.test:  # the replica's images of a class are the same file everywhere
            assert isinstance(item.image, Path)
            twin = first[imagenet.class_names.index(task.class_names[item.label])].image
            assert isinstance(twin, Path) and item.image.read_bytes() == twin.read_bytes()


def test_no_image_is_opened_when_a_set_is_loaded(copy):
    root = copy("dtd")
    for path in (root / "dtd" / "images").rglob("*.jpg"):
        path.write_bytes(b"")
    assert len(load_task("dtd", root=root, strict=True).test) == 6


@pytest.mark.parametrize("name", NAMES)
def test_without_a_root_the_line_says_what_to_give(tmp_path: Path, name: str):
    with pytest.raises(DplError, match="--root"):
        load_task(name)
    with pytest.raises(DplError, match=f"dpl datasets where {name}"):
        load_task(name, root=tmp_path)
    for root in (tmp_path / "nowhere", Path("x" * 300)):
        with pytest.raises(DplError, match="is not a folder"):
            load_task(name, root=root)


def test_a_folder_that_may_not_be_entered_is_one_line(root: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", refuse)
    with pytest.raises(DplError, match="split_zhou_DescribableTextures.json: Permission denied"):
        load_task("dtd", root=root)
