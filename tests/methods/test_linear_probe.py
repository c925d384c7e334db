import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from dpl import Backbone, load_backbone, load_task, sample
from dpl.data.pixels.transforms import decode
from dpl.methods.linear_probe import LinearProbe, LinearProbeConfig, LinearProbeRun
from dpl.methods.method import Inputs
from dpl.pipeline import fit
from dpl.runs import load_run
from dpl.train import train
from dpl.utils.errors import DplError

from .plain import close, draw_pixels


@pytest.fixture(scope="module")
def inputs(checkpoint: Path, images: Path) -> Inputs:
    task = load_task(str(images))
    return Inputs(load_backbone(str(checkpoint)), task, sample(task, 8, 1))


def probe(inputs: Inputs) -> LinearProbe:
    return LinearProbe(inputs.backbone, inputs.task.class_names, inputs.task.templates, LinearProbeConfig())


def plain_features(backbone: Backbone, pixels: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (backbone.preprocessing.mean, backbone.preprocessing.std))
    clip: Any = backbone.clip
    with torch.no_grad():
        return clip.get_image_features(pixel_values=(pixels / 255 - mean) / std).pooler_output


def test_it_is_logistic_regression_on_the_frozen_features(inputs: Inputs):
    model, shots = probe(inputs), inputs.shots
    train(model, inputs, None)
    c = model.scalars["C"]
    train_features, val_features = (
        plain_features(inputs.backbone, decode(items, inputs.backbone.preprocessing)) for items in (shots.train, shots.val)
    )
    theirs = LogisticRegression(C=c, max_iter=1000).fit(train_features.double(), [item.label for item in shots.train])
    pixels = draw_pixels()
    with torch.no_grad():
        close(model.image_features(pixels), plain_features(inputs.backbone, pixels))
        probabilities = model(decode(shots.val, inputs.backbone.preprocessing)).softmax(dim=-1)
    torch.testing.assert_close(
        probabilities.double(), torch.from_numpy(theirs.predict_proba(val_features.double())), atol=1e-3, rtol=0
    )
    assert sum(parameter.numel() for parameter in model.parameters()) == 3 * (16 + 1)


def test_without_validation_shots_c_is_1(inputs: Inputs):
    model = probe(inputs)
    model.on_train_end(replace(inputs, shots=replace(inputs.shots, val=())))
    assert model.scalars == {"C": 1.0} and model.weight.abs().sum() > 0


def test_a_run_is_saved_and_read_again(images: Path, checkpoint: Path, tmp_path: Path):
    run = fit(LinearProbeRun(data=str(images), backbone=str(checkpoint), shots=8, out=tmp_path / "run"))
    metrics, model, pixels = json.loads((run / "metrics.json").read_text()), load_run(run), draw_pixels()
    assert metrics["accuracy"] >= 0.9 > metrics["zero_shot_accuracy"] and metrics["C"] == model.scalars["C"]
    inputs = Inputs(model.backbone, load_task(str(images)), sample(load_task(str(images)), 8, 1))
    again = probe(inputs)
    again.on_train_end(inputs)
    assert torch.equal(again(pixels), model(pixels))
    with pytest.raises(DplError, match="linear-probe: its learned parameters belong to its own 3 classes"):
        model.for_classes(["red", "blue"])
