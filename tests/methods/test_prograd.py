from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dpl import Backbone, load_backbone
from dpl.config import preset
from dpl.methods.coop import CoOp, CoOpConfig
from dpl.methods.prograd import ProGrad, ProGradConfig, ProGradRun

from .plain import close, draw_pixels, ids, image_features, text_features

NAMES, TEMPLATES = ["green", "red", "dark blue"], ["one {} photo.", "a {}."]


@pytest.fixture(scope="module")
def backbone(checkpoint: Path) -> Backbone:
    return load_backbone(str(checkpoint))


def gradients(backbone: Backbone, model: ProGrad, pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The teacher's logits, and the gradients of cross entropy and of the distance from the teacher, on the plain model."""
    context, temperature = model.context, model.design.temperature
    texts = text_features(backbone, [ids(backbone, "a", "a", f"{name}.") for name in NAMES], context)
    first = text_features(backbone, [ids(backbone, f"one {name} photo.") for name in NAMES], torch.empty(0, 24))
    images, scale = image_features(backbone, pixels), backbone.clip.logit_scale.exp()
    logits, teacher = scale * images @ texts.T, scale * images @ first.T
    opinion = (teacher / temperature).exp() / (teacher / temperature).exp().sum(dim=1, keepdim=True)
    general = -(opinion * (logits / temperature).log_softmax(dim=1)).sum(dim=1).mean() * temperature**2
    (g,) = torch.autograd.grad(F.cross_entropy(logits, labels), context, retain_graph=True)
    (h,) = torch.autograd.grad(general, context)
    return teacher, g, h


@pytest.mark.parametrize("temperature, projection", [(1.0, 1.0), (2.0, 0.5)])
@pytest.mark.parametrize("agree", [True, False])
def test_the_gradient_gives_way_where_it_is_against_the_general_direction(backbone, temperature, projection, agree):
    """There are no numbers of the authors' implementation: the rule is written out again, on Hugging Face's forward."""
    design = ProGradConfig(context=2, prompt_std=0.5, temperature=temperature, projection=projection)
    model, pixels = ProGrad(backbone, NAMES, TEMPLATES, design, seed=0), draw_pixels()
    teacher, _, _ = gradients(backbone, model, pixels, torch.zeros(5, dtype=torch.long))
    labels = teacher.argmax(dim=1) if agree else teacher.argmin(dim=1)
    _, g, h = gradients(backbone, model, pixels, labels)
    product = (g * h).sum()
    assert (product > 0) == agree

    objective = model.objective(pixels, labels)
    objective.backward([model.context])
    assert model.context.grad is not None
    close(model.context.grad, g if agree else g - projection * product * h / (h * h).sum())
    close(objective.loss, F.cross_entropy(model(pixels), labels))
    if not agree and projection == 1:
        assert abs(F.cosine_similarity(model.context.grad.flatten(), h.flatten(), dim=0).item()) < 1e-3


def test_without_projection_it_is_coop(backbone):
    labels, pixels = torch.tensor([0, 1, 2, 0, 1]), draw_pixels()
    models = [
        ProGrad(backbone, NAMES, TEMPLATES, ProGradConfig(projection=0.0), seed=2),
        CoOp(backbone, NAMES, TEMPLATES, CoOpConfig(), seed=2),
    ]
    for model in models:
        model.objective(pixels, labels).backward([model.context])
    assert models[0].context.grad is not None and models[1].context.grad is not None
    close(models[0].context.grad, models[1].context.grad)
    assert models[0].layout == models[1].layout


def test_a_model_that_is_not_trained_needs_no_teacher(backbone, monkeypatch):
    monkeypatch.setattr("dpl.methods.prograd.ZeroShot", None)
    model = ProGrad(backbone, NAMES, TEMPLATES, ProGradConfig())
    assert model(draw_pixels()).shape == (5, 3)
    assert list(model.state_dict()) == ["context"]


@pytest.mark.parametrize("shots, epochs", [(1, 50), (4, 100), (16, 200)])
def test_the_authors_settings(shots, epochs):
    run = preset(ProGradRun, "paper", "digits", shots)
    assert (run.train.epochs, run.train.batch_size, run.train.lr) == (epochs, 32, 2e-3)
    assert run.design == ProGradConfig(temperature=1.0, projection=1.0)
