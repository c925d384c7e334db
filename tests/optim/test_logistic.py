import math
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from dpl.optim.logistic import GRID, best_c, logistic_regression


def draw(classes: list[int], images: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.array(classes)[np.arange(images) % len(classes)].astype(np.int64)
    return rng.normal(size=(images, 4)) + labels[:, None], labels


def penalised(features: np.ndarray, labels: np.ndarray, weight: torch.Tensor, bias: torch.Tensor, c: float) -> torch.Tensor:
    logits = torch.from_numpy(features) @ weight.T + bias
    return F.cross_entropy(logits, torch.from_numpy(labels), reduction="sum") + weight.square().sum() / (2 * c)


@pytest.mark.parametrize("c", [0.1, 10.0])
def test_the_penalised_likelihood_has_no_slope_at_the_weights(c: float):
    features, labels = draw([0, 2, 3])
    weight, bias = logistic_regression(features, labels, c, classes=5)
    own, free = torch.from_numpy(weight).requires_grad_(), torch.from_numpy(bias).requires_grad_()
    slopes = torch.autograd.grad(penalised(features, labels, own, free, c), (own, free))
    assert max(slope.abs().max().item() for slope in slopes) < 0.02
    moved = torch.from_numpy(weight + np.random.default_rng(1).normal(size=weight.shape) * 0.1)
    (slope,) = torch.autograd.grad(penalised(features, labels, moved.requires_grad_(), free, c), moved)
    assert slope.abs().max() > 0.1


def test_two_classes_are_told_apart_as_by_scikit_learn():
    features, labels = draw([1, 2])
    weight, bias = logistic_regression(features, labels, 3.0, classes=3)
    theirs = LogisticRegression(C=3.0, max_iter=1000).fit(features, labels).predict_proba(features)
    ours = torch.from_numpy(features @ weight.T + bias).softmax(dim=-1)
    torch.testing.assert_close(ours[:, 1:], torch.from_numpy(theirs))


@pytest.mark.parametrize("seen", [[1], [0, 3], [0, 2, 3]])
def test_classes_without_a_shot_are_never_predicted_and_their_numbers_are_finite(seen: list[int]):
    features, labels = draw(seen)
    weight, bias = logistic_regression(features, labels, 1e6, classes=5)
    far = np.random.default_rng(2).normal(size=(200, 4)) * 1000
    assert set((far @ weight.T + bias).argmax(axis=1).tolist()) <= set(seen)
    absent = [index for index in range(5) if index not in seen]
    assert np.isfinite(weight).all() and np.isfinite(bias).all() and not weight[absent].any()


def test_a_fit_that_does_not_settle_says_nothing(monkeypatch: pytest.MonkeyPatch):
    features, labels = draw([0, 1, 2])
    with pytest.warns(ConvergenceWarning):
        LogisticRegression(C=1e6, max_iter=2).fit(features, labels)
    monkeypatch.setattr("dpl.optim.logistic.MOST_STEPS", 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        logistic_regression(features, labels, 1e6, classes=3)


@pytest.mark.parametrize("peak", [3.3, -1.2, 0.01])
def test_c_is_found_on_the_grid_and_then_by_bisection(peak: float):
    asked: list[float] = []
    found = math.log10(best_c(lambda c: asked.append(c) or -abs(math.log10(c) - peak)))
    assert found == pytest.approx(peak, abs=2 / 2**7)
    assert tuple(asked[: len(GRID)]) == GRID and len(asked) == len(GRID) + 2 * 8


def test_of_equal_scores_the_first_c_of_the_grid_and_the_lower_end_win():
    assert best_c(lambda c: 1.0) == pytest.approx(1e5)
