"""Captions are true of their image, and the positives of a batch are those that the attributes imply."""

import random

import torch

from pretraining import captions as c
from pretraining import render


def row(**values: int) -> list[int]:
    """Attributes by name; what is not named does not apply."""
    return [values.get(field, -1) for field in c.FIELDS]


RED_CIRCLE = row(kind=c.IS_SHAPE, shape=0, colour=0, pattern=0, count=1, background=10)
RED_STAR = row(kind=c.IS_SHAPE, shape=3, colour=0, pattern=1, count=1, background=9)
THREE_STARS = row(kind=c.IS_SHAPE, shape=3, colour=5, pattern=0, count=3, background=10)
SEVEN = row(kind=c.IS_DIGIT, digit=7, colour=0, background=10)


def test_an_image_satisfies_a_caption_when_it_has_all_that_is_named():
    said = [row(colour=0), row(shape=3, count=1), row(shape=3, count=3), row(digit=7), row(kind=c.IS_SHAPE, colour=0)]
    truth = c.satisfied(torch.tensor([RED_CIRCLE, RED_STAR, THREE_STARS, SEVEN]), torch.tensor(said))
    expected = [[1, 0, 0, 0, 1], [1, 1, 0, 0, 1], [0, 0, 1, 0, 0], [1, 0, 0, 1, 0]]
    assert truth.int().tolist() == expected


def test_every_caption_is_true_of_its_image_and_names_something():
    attributes = render.draw_attributes(render.generator(0, 5), 400)
    rng = random.Random(0)
    for values in attributes.tolist():
        text, said = c.caption(values, rng)
        assert text == text.lower() and "{" not in text
        assert any(value >= 0 for value in said)
        assert all(value in (-1, values[field]) for field, value in enumerate(said))


def test_a_text_always_means_the_same():
    attributes = render.draw_attributes(render.generator(0, 6), 5000).tolist()
    rng = random.Random(0)
    meaning: dict[str, tuple[int, ...]] = {}
    for values in attributes:
        text, said = c.caption(values, rng)
        assert meaning.setdefault(text, said) == said, text


def test_equal_captions_are_merged_and_every_image_has_one():
    attributes = torch.tensor([SEVEN] * 300)
    texts, positive = c.captions(attributes, seed=1)
    assert len(texts) == len(set(texts)) < 300
    assert positive.shape == (300, len(texts)) and positive.all()


def test_phrases():
    assert c.plural("cross") == "crosses" and c.plural("star") == "stars"
    assert c.article("orange thing") == "an orange thing"
