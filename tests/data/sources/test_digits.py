import hashlib
from collections import Counter

import numpy as np
from sklearn.datasets import load_digits

from dpl.data.sources import digits

TASK = digits.load()
POOLS = {"train": TASK.train, "val": TASK.val, "test": TASK.test}


def test_every_digit_of_the_source_is_in_one_pool():
    names = [item.name for pool in POOLS.values() for item in pool]
    assert sorted(names) == sorted(f"digits/{index}" for index in range(1797))


def test_the_split_is_half_a_fifth_and_the_rest_of_every_class():
    for digit, total in Counter(load_digits(return_X_y=True)[1].tolist()).items():
        counts = {part: sum(item.label == digit for item in pool) for part, pool in POOLS.items()}
        assert counts["val"] == round(0.2 * total) and counts["test"] == round(0.3 * total)
        assert sum(counts.values()) == total


def test_the_split_never_changes():
    # Results are only comparable over time on the very same test images: this value must never be edited.
    listing = " ".join(item.name for pool in POOLS.values() for item in pool)
    assert hashlib.sha256(listing.encode()).hexdigest()[:16] == "6a3fd6d5b8d8b1ef"


def test_pixels_are_the_source_in_white_on_black():
    ink, labels = load_digits(return_X_y=True)
    for item in TASK.test[:50]:
        index = int(item.name.removeprefix("digits/"))
        assert isinstance(item.image, np.ndarray) and item.image.dtype == np.uint8 and item.image.shape == (8, 8, 3)
        assert np.abs(item.image[..., 1] - ink[index].reshape(8, 8) * 255 / 16).max() <= 0.5
        assert item.label == labels[index]


def test_a_digit_is_never_mirrored():
    assert not TASK.augmentation.flip


def test_names_and_templates_make_sentences():
    assert TASK.templates[0].format(TASK.class_names[7]) == "a photo of the digit 7."
    assert all(template.count("{}") == 1 for template in TASK.templates)
