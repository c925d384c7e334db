import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpl.evaluate import Evaluation
from dpl.explain.calibration import calibration

CONFIDENCES = st.floats(0, 1, width=32) | st.sampled_from([m / 15 for m in range(16)])
IMAGES = st.lists(st.tuples(CONFIDENCES, st.booleans()), min_size=1, max_size=60)


def made_up(confidences: list[float], right: list[bool]) -> Evaluation:
    predictions = np.array([0 if own else 1 for own in right])
    return Evaluation(("a", "b"), np.zeros(len(right), int), predictions, np.array(confidences, np.float32))


def naive(images: list[tuple[float, bool]]) -> float:
    """The formula, read off the paper image by image."""
    total = 0.0
    for m in range(1, 16):
        own = [(c, r) for c, r in images if (m - 1) / 15 < c <= m / 15 or (m == 1 and c == 0)]
        if own:
            accuracy, confidence = (math.fsum(pair[i] for pair in own) / len(own) for i in (1, 0))
            total += len(own) / len(images) * abs(accuracy - confidence)
    return total


@given(IMAGES)
def test_the_error_is_that_of_the_naive_loop_and_within_0_and_1(images: list[tuple[float, bool]]):
    images = [(float(np.float32(confidence)), right) for confidence, right in images]
    found = calibration(made_up(*map(list, zip(*images, strict=True))))
    assert found["ece"] == pytest.approx(naive(images), abs=1e-12) and 0 <= found["ece"] <= 1


@given(IMAGES)
def test_the_bins_hold_every_image_once_and_add_up_to_the_error(images: list[tuple[float, bool]]):
    found = calibration(made_up(*map(list, zip(*images, strict=True))))
    bins = found["bins"]
    assert len(bins) == 15 and sum(own["images"] for own in bins) == len(images)
    assert all((own["images"] == 0) == (own["confidence"] is None) == (own["accuracy"] is None) for own in bins)
    full = [(m, own) for m, own in enumerate(bins) if own["images"]]
    assert all(m / 15 - 1e-9 <= own["confidence"] <= (m + 1) / 15 + 1e-7 and 0 <= own["accuracy"] <= 1 for m, own in full)
    gaps = sum(own["images"] * abs(own["accuracy"] - own["confidence"]) for _, own in full)
    assert found["ece"] == pytest.approx(gaps / len(images))
    right = sum(own["images"] * own["accuracy"] for _, own in full)
    assert right == pytest.approx(sum(one for _, one in images))


def test_who_is_right_as_often_as_confident_has_no_error():
    confidences = np.repeat([0.25, 0.5, 0.75, 1.0], 4).tolist()
    right = [k < 4 * confidence for confidence in (0.25, 0.5, 0.75, 1.0) for k in range(4)]
    assert calibration(made_up(confidences, right))["ece"] == 0


@pytest.mark.parametrize(
    ("confidence", "right", "error", "place"),
    [(1.0, True, 0, 14), (1.0, False, 1, 14), (0.0, True, 1, 0), (0.0, False, 0, 0), (0.75, False, 0.75, 11)],
)
def test_one_image_at_the_edges(confidence: float, right: bool, error: float, place: int):
    found = calibration(made_up([confidence], [right]))
    assert found["ece"] == error
    assert [own["images"] for own in found["bins"]] == [int(m == place) for m in range(15)]
    assert found["bins"][place] == {"images": 1, "confidence": confidence, "accuracy": float(right)}
