"""ImageNet: the protocol's draws without making a million items, and validation shots from what the training shots leave."""

import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpl.data import lazy_items as lazy
from dpl.data.fewshot import sample
from dpl.data.lazy_items import ClassFolders
from dpl.data.load import load_task
from dpl.data.task import Augmentation, Item, Task
from dpl.utils.errors import DplError

from .full_imagenet import make
from .replicas import EACH, NAMES, WNIDS


def test_labels_are_in_the_order_of_wnids_and_val_is_the_test_set(root: Path):
    task = load_task("imagenet", root=root)
    found = [f"train/{wnid}/{name}" for wnid in WNIDS for name in sorted(f"{wnid}_{index * 37}.JPEG" for index in range(EACH))]
    assert [item.name for item in task.train] == found
    assert [item.label for item in task.train] == [label for label in range(5) for _ in range(EACH)]
    assert [item.name.split("/")[:2] for item in task.test] == [["val", wnid] for wnid in WNIDS for _ in range(2)]
    assert [item.label for item in task.test] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert any("validation" in note and "training shots leave" in note for note in task.notes)


def test_a_known_draw(root: Path):
    # python -c "import random; random.seed(1); print([random.sample(range(10), 2) for _ in range(2)])": [[2, 1], [4, 1]]
    # Sorted as text, a class's files are numbered 0, 111, 148, 185, 222, ...
    names = [item.name for item in sample(load_task("imagenet", root=root), 2, 1).train[:4]]
    assert names == [
        "train/n01440764/n01440764_148.JPEG",
        "train/n01440764/n01440764_111.JPEG",
        "train/n01443537/n01443537_222.JPEG",
        "train/n01443537/n01443537_111.JPEG",
    ]


@pytest.mark.parametrize(("shots", "seed"), [(1, 1), (4, 2), (8, 3), (16, 1)])
def test_shots_are_the_protocols_and_validation_is_drawn_from_the_rest(root: Path, shots: int, seed: int):
    task = load_task("imagenet", root=root)
    random.seed(seed)
    classes = [sorted(f"train/{path.parent.name}/{path.name}" for path in (root / "imagenet/images/train" / wnid).iterdir())
               for wnid in WNIDS]  # fmt: skip
    train = [random.sample(own, shots) if len(own) >= shots else own for own in classes]
    left = [[name for name in own if name not in taken] for own, taken in zip(classes, train, strict=True)]
    most = min(shots, 4)
    val = [random.sample(own, most) if len(own) >= most else own for own in left]
    drawn = sample(task, shots, seed)
    assert [item.name for item in drawn.train] == sum(train, [])
    assert [item.name for item in drawn.val] == sum(val, [])
    assert not {*drawn.train} & {*drawn.val} and not {*drawn.val} & {*task.test}


def test_training_images_are_listed_when_they_are_needed_and_not_before(copy):
    root = copy("imagenet")
    task = load_task("imagenet", root=root)
    late = root / "imagenet" / "images" / "train" / WNIDS[2] / "aaa.JPEG"
    late.touch()
    assert len(task.test) == 2 * len(WNIDS)
    assert len(task.train) == EACH * len(WNIDS) + 1 and task.train[2 * EACH].image == late


def test_no_more_items_are_made_than_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make(tmp_path, train=5000, test=100, classes=50)
    made: list[str] = []

    def count(image: Path, label: int, name: str) -> Item:
        made.append(name)
        return Item(image, label, name)

    monkeypatch.setattr(lazy, "Item", count)
    task = load_task("imagenet", root=tmp_path)
    drawn = sample(task, 16, 1)
    assert len(drawn.train) == 16 * 50 and len(drawn.val) == 4 * 50 and len(task.train) == 5000
    assert len(made) == 100 + len(drawn.train) + len(drawn.val)


@given(st.data(), st.integers(1, 6), st.integers(0, 2**32))
def test_a_pool_that_is_both_train_and_val_gives_each_image_once(data: st.DataObject, shots: int, seed: int):
    labels = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=40))
    pool = tuple(Item(Path(str(index)), label, str(index)) for index, label in enumerate(labels))
    drawn = sample(Task("t", tuple("abcd"), ("{}",), pool, pool, (), Augmentation((1, 1), False)), shots, seed)
    assert not {*drawn.train} & {*drawn.val}
    for label in set(labels):
        taken = sum(item.label == label for item in drawn.train)
        assert taken == min(shots, labels.count(label))
        assert sum(item.label == label for item in drawn.val) == min(shots, 4, labels.count(label) - taken)


def test_classes_of_one_name_are_counted_apart(copy):
    root = copy("imagenet")
    names = root / "imagenet" / "classnames.txt"
    names.write_text(names.read_text().replace("hammerhead shark", "tiger shark"))
    for path in sorted((root / "imagenet/images/train" / WNIDS[4]).iterdir())[1:]:
        path.unlink()
    task = load_task("imagenet", root=root)
    assert task.class_names[3:] == ("tiger shark", "tiger shark")
    train, val = sample(task, 4, 1).notes
    assert "for train" in train and "tiger shark (1)" in train and "tiger shark (0)" in val


def test_class_folders_are_a_sequence(root: Path):
    images = root / "imagenet" / "images"
    items = ClassFolders(images, [f"train/{wnid}" for wnid in WNIDS])
    everything = list(items)
    assert len(items) == len(everything) == 5 * EACH
    assert [items[index] for index in range(len(items))] == everything == [*items[:]]
    assert items[-1] == everything[-1] and [*items[8:13]] == everything[8:13] and [*items[::-7]] == everything[::-7]
    for index in (50, -51):
        with pytest.raises(IndexError):
            items[index]
    assert len(ClassFolders(images, [])) == 0


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda images: (images / "train" / WNIDS[1]).rename(images / "train" / "goldfish"), ["no classes", "train", "goldfish"]),
        (lambda images: (images / "val" / WNIDS[1]).rename(images / WNIDS[1]), ["images/val lacks 1 of 5", WNIDS[1]]),
        (lambda images: (images / "val").rename(images / "validation"), ["images/val"]),
    ],
)
def test_folders_that_are_not_the_classes_are_refused(copy, damage, words: list[str]):
    root = copy("imagenet")
    damage(root / "imagenet" / "images")
    with pytest.raises(DplError) as error:
        load_task("imagenet", root=root)
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)


def test_a_training_class_without_images_is_refused_when_shots_are_drawn(copy):
    root = copy("imagenet")
    for path in (root / "imagenet/images/train" / WNIDS[3]).iterdir():
        path.unlink()
    task = load_task("imagenet", root=root)
    with pytest.raises(DplError, match=f"{WNIDS[3]} has no images"):
        sample(task, 1, 1)


def test_a_shift_takes_its_names_from_imagenet_or_a_copy_beside_it(copy):
    root = copy("imagenet-rendition", "imagenetv2", "imagenet-sketch")
    with pytest.raises(DplError, match=re.escape(f"neither {root}/imagenet/classnames.txt nor {root}/imagenet-rendition")):
        load_task("imagenet_r", root=root)
    lines = [f"{wnid} {name}\n" for wnid, name in zip(WNIDS, NAMES["imagenet"], strict=True)]
    (root / "imagenet-rendition" / "classnames.txt").write_text("".join(lines))
    assert load_task("imagenet_r", root=root).class_names == NAMES["imagenet_r"]


def test_a_shift_with_unknown_or_missing_classes_is_refused(copy):
    root = copy("imagenet", "imagenet-adversarial", "imagenetv2", "imagenet-sketch")
    (root / "imagenet-adversarial/imagenet-a/n99999999").mkdir()
    (root / "imagenetv2/imagenetv2-matched-frequency-format-val/3").rename(root / "3")
    (root / "imagenet-sketch/images" / WNIDS[0]).rename(root / WNIDS[0])
    for name, words in (("imagenet_a", "n99999999"), ("imagenetv2", "lacks 1 of 5"), ("imagenet_sketch", WNIDS[0])):
        with pytest.raises(DplError, match=words):
            load_task(name, root=root)
