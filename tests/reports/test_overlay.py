"""The one look of all maps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from dpl.reports.overlay import overlay, scale

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)
GREY = np.full((32, 32, 3), 128, np.uint8)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def colourfulness(image: np.ndarray) -> np.ndarray:
    return image.max(axis=-1) - image.min(axis=-1)


def luminance(image: np.ndarray) -> np.ndarray:
    return image @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("size", [64, 224])
def test_without_heat_it_is_the_picture_in_grey(size: int):
    drawn = pixels(overlay(PHOTO, np.zeros((4, 4)), size))
    assert drawn.shape == (size, size, 3) and not colourfulness(drawn).any()
    grey = pixels(Image.fromarray(PHOTO).convert("L").resize((size, size), Image.Resampling.BICUBIC))
    assert np.corrcoef(drawn[..., 0].ravel(), grey.ravel())[0, 1] > 0.999


def test_black_and_white_stay_apart_from_both_ends_of_the_colours():
    ends = [pixels(overlay(np.full((8, 8, 3), level, np.uint8), np.zeros((2, 2)), 8))[0, 0, 0] for level in (0, 255)]
    assert 0 < ends[0] < ends[1] < 255


@given(st.floats(0, 0.9), st.floats(0.1, 1))
def test_more_heat_is_farther_from_grey(low: float, more: float):
    ground, first, second = (pixels(overlay(GREY, np.full((2, 2), heat), 8))[0, 0] for heat in (0.0, low, min(low + more, 1.0)))
    assert np.abs(second - ground).sum() > np.abs(first - ground).sum()


def test_the_brightest_is_where_the_heat_is():
    heat = np.zeros((4, 4))
    heat[0, 3] = 1
    drawn = pixels(overlay(GREY, heat, 64))
    assert np.unravel_index(luminance(drawn).argmax(), (64, 64)) in [(r, c) for r in range(16) for c in range(48, 64)]
    assert not colourfulness(drawn[32:, :32]).any()


def test_both_sizes_have_the_same_look():
    heat = RNG.random((6, 6))
    small, large = (pixels(overlay(PHOTO, heat, size).resize((64, 64), Image.Resampling.BOX)) for size in (64, 224))
    assert np.abs(small - large).mean() < 6


@given(arrays.arrays(np.float32, (3, 5), elements=st.floats(0, 1, width=32)), st.integers(1, 40))
def test_any_map_has_a_picture(heat: np.ndarray, size: int):
    drawn = overlay(PHOTO, heat, size)
    assert drawn.size == (size, size) and drawn.mode == "RGB"
    assert np.array_equal(pixels(drawn), pixels(overlay(PHOTO, heat, size)))


def test_an_edge_of_heat_has_no_halo():
    """Bicubic interpolation overshoots; what is below nothing or above the most is neither."""
    heat = np.zeros((6, 6))
    heat[:, 3:] = 1
    drawn = pixels(overlay(GREY, heat, 120))
    assert not colourfulness(drawn[:, :30]).any() and len(np.unique(drawn[:, 90:].reshape(-1, 3), axis=0)) == 1


def test_the_scale_goes_from_nothing_to_the_most():
    drawn = pixels(scale(100, 7))
    assert drawn.shape == (7, 100, 3)
    ends = pixels(overlay(GREY, np.ones((2, 2)), 8))[0, 0]
    assert not colourfulness(drawn[:, 0]).any() and np.abs(drawn[:, -1] - ends).max() <= 5
