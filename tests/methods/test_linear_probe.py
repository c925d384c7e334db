import json
import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from dpl import Backbone, load_backbone, load_task, sample
from dpl.data.transforms import decode
from dpl.errors import DplError
from dpl.methods.linear_probe import GRID, LinearProbe, LinearProbeDesign, LinearProbeRun, best_c, logistic_regression
from dpl.methods.method import Inputs
from dpl.pipeline import fit
from dpl.runs import load_run
from dpl.train import train

from .plain import close, draw_pixels


@pytest.fixture(scope="module")
def inputs(checkpoint: Path, images: Path) -> Inputs:
    task = load_task(str(images))
    return Inputs(load_backbone(str(checkpoint)), task, sample(task, 8, 1))


def probe(inputs: Inputs) -> LinearProbe:
    return LinearProbe(inputs.backbone, inputs.task.class_names, inputs.task.templates, LinearProbeDesign())


def plain_features(backbone: Backbone, pixels: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (backbone.mean, backbone.std))
    clip: Any = backbone.clip
    with torch.no_grad():
        return clip.get_image_features(pixel_values=(pixels / 255 - mean) / std).pooler_output


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
    monkeypatch.setattr("dpl.methods.linear_probe.MOST_STEPS", 2)
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


def test_it_is_logistic_regression_on_the_frozen_features(inputs: Inputs):
    model, shots = probe(inputs), inputs.shots
    train(model, inputs, None)
    c = model.scalars["C"]
    train_features, val_features = (
        plain_features(inputs.backbone, decode(items, inputs.backbone.image_size)) for items in (shots.train, shots.val)
    )
    theirs = LogisticRegression(C=c, max_iter=1000).fit(train_features.double(), [item.label for item in shots.train])
    pixels = draw_pixels()
    with torch.no_grad():
        close(model.image_features(pixels), plain_features(inputs.backbone, pixels))
        probabilities = model(decode(shots.val, inputs.backbone.image_size)).softmax(dim=-1)
    torch.testing.assert_close(
        probabilities.double(), torch.from_numpy(theirs.predict_proba(val_features.double())), atol=1e-3, rtol=0
    )
    assert sum(parameter.numel() for parameter in model.parameters()) == 3 * (16 + 1)


def test_without_validation_shots_c_is_1(inputs: Inputs):
    model = probe(inputs)
    model.conclude(replace(inputs.shots, val=()))
    assert model.scalars == {"C": 1.0} and model.weight.abs().sum() > 0


def test_a_run_is_saved_and_read_again(images: Path, checkpoint: Path, tmp_path: Path):
    run = fit(LinearProbeRun(data=str(images), backbone=str(checkpoint), shots=8, out=tmp_path / "run"))
    metrics, model, pixels = json.loads((run / "metrics.json").read_text()), load_run(run), draw_pixels()
    assert metrics["accuracy"] >= 0.9 > metrics["zero_shot_accuracy"] and metrics["C"] == model.scalars["C"]
    inputs = Inputs(model.backbone, load_task(str(images)), sample(load_task(str(images)), 8, 1))
    again = probe(inputs)
    again.conclude(inputs.shots)
    assert torch.equal(again(pixels), model(pixels))
    with pytest.raises(DplError, match="linear-probe: what it has learned belongs to its own 3 classes"):
        model.for_classes(["red", "blue"])
