"""Captions: every caption is true of its picture, and exactly of the pictures that have what it claims."""

import random

import pytest
import torch

from pretraining.captions import COLOURS
from pretraining.pictures import wording
from pretraining.pictures.names import Label

DOG = Label(("dog face", "dog"), ("pet",), "animal-mammal")
CAT = Label(("cat face", "cat"), ("pet",), "animal-mammal")
KEY = Label(("key",))
RED, BLUE = COLOURS.index("red"), COLOURS.index("blue")


@pytest.mark.parametrize("label", [DOG, CAT, KEY])
@pytest.mark.parametrize(("ink", "ground"), [(-1, -1), (RED, BLUE), (-1, BLUE)])
def test_a_caption_is_true_of_its_own_picture(label, ink, ground):
    shown = wording.tags(label, ["icon"], ink, ground)
    rng = random.Random(0)
    drawn = [wording.caption(label, ["icon"], ink, ground, rng) for _ in range(300)]
    assert all(claims and claims <= shown for _, claims in drawn)
    assert len({text for text, _ in drawn}) > 10


def test_a_caption_names_colours_only_where_they_are_known():
    rng = random.Random(0)
    texts = " ".join(wording.caption(DOG, ["emoji"], -1, -1, rng)[0] for _ in range(300))
    assert not any(colour in texts.split() for colour in COLOURS)


def test_truth_is_having_every_claim():
    shown = [wording.tags(DOG, ["emoji"], -1, BLUE), wording.tags(CAT, ["icon"], RED, BLUE), wording.tags(KEY, ["icon"], RED, -1)]
    claimed = [
        {"name:dog"},
        {"about:pet"},
        {"group:a mammal"},
        {"style:icon", "ink:red"},
        {"name:cat", "ground:blue"},
        {"name:owl"},
    ]
    expected = [[1, 1, 1, 0, 0, 0], [0, 1, 1, 1, 1, 0], [0, 0, 0, 1, 0, 0]]
    assert torch.equal(wording.satisfied(shown, [frozenset(c) for c in claimed]), torch.tensor(expected).bool())


def test_two_pictures_of_one_name_are_true_of_one_caption():
    other = Label(("dog",))
    shown = [wording.tags(label, [], -1, -1) for label in (DOG, other, CAT)]
    assert wording.satisfied(shown, [frozenset({"name:dog"})])[:, 0].tolist() == [True, True, False]
