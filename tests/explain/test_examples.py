"""Which images are shown."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dpl.evaluate import Evaluation
from dpl.explain.examples import choose, confused, kinds, shuffled, small
from dpl.schemas.explanation import KINDS

CLASSES = st.integers(0, 4)
IMAGES = st.lists(st.tuples(CLASSES, CLASSES, CLASSES), min_size=1, max_size=60)
NAMES = tuple("abcde")


def pair(images: list[tuple[int, int, int]]) -> tuple[Evaluation, Evaluation]:
    """Of (label, tuned, zero-shot) triples."""
    labels, tuned, plain = np.array(images).T
    sure = np.ones(len(images), np.float32)
    return Evaluation(NAMES, labels, tuned, sure), Evaluation(NAMES, labels, plain, sure)


def kind(label: int, tuned: int, plain: int) -> str:
    if tuned == label:
        return "right" if plain == label else "repaired"
    return "spoiled" if plain == label else "wrong"


def test_the_four_kinds():
    tuned, plain = pair([(0, 0, 1), (0, 0, 0), (0, 1, 2), (0, 1, 0)])
    assert [KINDS[number] for number in kinds(tuned, plain)] == ["repaired", "right", "wrong", "spoiled"]


@given(IMAGES)
def test_few_of_each_kind_are_chosen_and_all_that_there_is_room_for(images: list[tuple[int, int, int]]):
    chosen = choose(*pair(images))
    assert chosen == choose(*pair(images)) and len({image for image, _ in chosen}) == len(chosen) <= 8
    assert all(kind(*images[image]) == own for image, own in chosen)
    assert [own for own in KINDS for _, other in chosen if other == own] == [own for _, own in chosen]  # kind by kind
    there, shown = Counter(kind(*image) for image in images), Counter(own for _, own in chosen)
    assert all(min(2, there[own]) <= shown[own] <= 3 for own in there)
    assert len(chosen) == min(8, sum(min(3, count) for count in there.values()))


@given(st.lists(CLASSES, min_size=1, max_size=40))
def test_of_one_kind_the_examples_are_of_as_many_classes_as_there_are(labels: list[int]):
    chosen = choose(*pair([(label, label, label) for label in labels]))
    assert len({labels[image] for image, _ in chosen}) == min(3, len(set(labels)))


@given(IMAGES)
def test_the_confusions_are_those_of_the_metrics_with_images_that_were_confused_so(images: list[tuple[int, int, int]]):
    tuned, _ = pair(images)
    pairs = confused(tuned)
    named = [{"true": NAMES[own.true], "predicted": NAMES[own.predicted], "count": own.count} for own in pairs]
    assert named == tuned.confusions()
    for own in pairs:
        assert len(own.images) == min(3, own.count) and len(set(own.images)) == len(own.images)
        assert all(images[image][:2] == (own.true, own.predicted) for image in own.images)


def test_the_order_is_drawn_once_and_for_all():
    assert sorted(shuffled(50)) == list(range(50)) != shuffled(50) == shuffled(50)


@pytest.mark.parametrize(("size", "width"), [(16, 16), (96, 96), (224, 96)])
def test_only_large_pictures_are_made_smaller(size: int, width: int):
    picture = torch.zeros(3, size, size, dtype=torch.uint8)
    picture[0, : size // 2] = 200
    found = small([picture, picture], size)
    assert found.shape == (2, 3, width, width) and found.dtype == np.uint8
    if width == size:
        assert np.array_equal(found[0], picture.numpy())
    means = found[1].reshape(3, 2, -1).mean(axis=-1)
    assert means == pytest.approx(np.array([[200, 0], [0, 0], [0, 0]]), abs=2)
