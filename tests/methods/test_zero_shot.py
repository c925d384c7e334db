import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dpl import Backbone, load_backbone
from dpl.methods.zero_shot import ZeroShotConfig, ZeroShotMethod, ZeroShotMethodRun
from dpl.pipeline import fit
from dpl.runs import load_run

from .plain import close, draw_pixels, ids, image_features, text_features

NAMES, TEMPLATES = ["green", "dark_blue"], ["a photo of a {}.", "a {}.", "one {} cat."]


@pytest.fixture(scope="module")
def backbone(checkpoint: Path) -> Backbone:
    return load_backbone(str(checkpoint))


def plain(backbone: Backbone, template: str, names: list[str]) -> Tensor:
    rows = [ids(backbone, template.format(name)) for name in names]
    return text_features(backbone, rows, torch.empty(0, backbone.text.width))


@pytest.mark.parametrize("ensemble", [False, True])
def test_logits_are_cosines_with_one_template_or_the_mean_of_all(backbone, ensemble: bool):
    model, pixels = ZeroShotMethod(backbone, NAMES, TEMPLATES, ZeroShotConfig(ensemble)), draw_pixels()
    texts = [plain(backbone, template, NAMES) for template in TEMPLATES]
    mean = F.normalize(torch.stack(texts).mean(dim=0)) if ensemble else texts[0]
    close(model(pixels), backbone.clip.logit_scale.exp() * image_features(backbone, pixels) @ mean.T)
    assert model.templates == tuple(TEMPLATES)


def test_there_is_nothing_to_learn_and_other_classes_are_no_matter(backbone):
    model, pixels = ZeroShotMethod(backbone, NAMES, TEMPLATES, ZeroShotConfig(True)), draw_pixels()
    assert not list(model.parameters()) and model.layout.tokens == 0
    other = model.for_classes(["red", "dark_blue", "green"])
    close(other(pixels)[:, [2, 1]], model(pixels))


@pytest.mark.parametrize("ensemble", [False, True])
def test_a_run_has_the_accuracy_of_the_frozen_model(images, checkpoint, tmp_path, ensemble: bool):
    design = ZeroShotConfig(ensemble)
    run = fit(ZeroShotMethodRun(data=str(images), backbone=str(checkpoint), shots=2, out=tmp_path / "run", design=design))
    metrics = json.loads((run / "metrics.json").read_text())
    frozen = "zero_shot_ensemble_accuracy" if ensemble else "zero_shot_accuracy"
    assert metrics["accuracy"] == metrics[frozen] and metrics["trainable_parameters"] == 0
    model, pixels = load_run(run), draw_pixels()
    assert model.design == design
    again = ZeroShotMethod(model.backbone, model.class_names, model.templates, design)
    assert torch.equal(model(pixels), again(pixels))
