"""Renderings depend on the key alone, stay in range, and show what their attributes say."""

import pytest
import torch

from pretraining import captions as c
from pretraining import render
from pretraining.masks import signed_distance


def test_the_same_key_draws_the_same_batch():
    first, second = (render.batch("held_out", render.generator(3, 1), 24) for _ in range(2))
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    other, _ = render.batch("held_out", render.generator(3, 2), 24)
    assert not torch.equal(first[0], other)


@pytest.mark.parametrize("kind", render.MIXTURE)
def test_images_are_in_range_and_not_blank(kind):
    attributes, images = render.batch("held_out", render.generator(1, 1), 12, {kind: 1.0})
    assert images.shape == (12, 3, render.SIZE, render.SIZE)
    assert images.min() >= 0 and images.max() <= 1
    assert (images.flatten(1).amax(1) - images.flatten(1).amin(1) > 0.02).all()
    assert (attributes[:, c.COUNT] > 1).all() == (kind == "count")


def test_atlas_has_every_character_and_shape():
    members = render.load_atlas("held_out").members
    assert len(members) == 62 + len(c.SHAPES)
    assert min(len(rows) for rows in members[:62]) >= 10


def test_signed_distance_is_positive_inside():
    masks = torch.zeros(1, 64, 64, dtype=torch.bool)
    masks[0, 20:40, 20:40] = True
    distance = signed_distance(masks.numpy())[0]
    assert distance[30, 30] > 0 > distance[5, 5]
    assert distance[30, 30].item() == pytest.approx(10 / 32, abs=0.05)
