"""Augmentation: images in range, from the generator alone, of the ink and background that captions will name."""

import pytest
import torch

from pretraining.pictures import augment as a
from pretraining.render import RGB, generator

pytestmark = pytest.mark.slow  # nothing of dpl itself is tested here


def square(count):
    layers = torch.zeros(count, 4, 72, 72)
    layers[:, 3, 20:52, 20:52] = 1
    return layers


def draw(ink, ground, key=1, flip=False):
    count = len(ink)
    return a.augment(square(count), torch.tensor(ink), torch.tensor(ground), torch.full((count,), flip), generator(key))


def test_images_are_in_range_and_repeat():
    ink, ground = [-1, 3, 9, 10] * 8, [10, 9, 10, 0] * 8
    first = draw(ink, ground)
    assert first.shape == (32, 3, a.SIZE, a.SIZE)
    assert first.min() >= 0 and first.max() <= 1
    assert torch.equal(first, draw(ink, ground))
    assert not torch.equal(first, draw(ink, ground, key=2))


def test_colours_are_those_that_captions_name():
    ink, ground = [0] * 64, [5] * 64  # red on blue
    images = draw(ink, ground)
    nearest = torch.cdist(images.permute(0, 2, 3, 1).reshape(64, -1, 3), RGB[None].expand(64, -1, -1)).argmin(2)
    share = torch.stack([(nearest == colour).float().mean(1) for colour in (0, 5)])
    assert (share.mean(1) > torch.tensor([0.08, 0.4])).all()  # means over images: noise and holes take some


def test_a_mirror_needs_leave():
    layers = torch.zeros(200, 4, 72, 72)
    layers[:, 3, :, :20] = 1  # the left edge

    def on_the_left(flip):
        placed = a.place(layers, torch.full((200,), flip), generator(3))[:, 3]
        half = a.SIZE // 2
        return (placed[:, :, :half].sum((1, 2)) > placed[:, :, half:].sum((1, 2))).float().mean()

    assert on_the_left(False) > 0.9
    assert 0.4 < on_the_left(True) < 0.75
