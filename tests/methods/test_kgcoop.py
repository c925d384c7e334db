from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from dpl import Backbone, load_backbone
from dpl.config import preset
from dpl.methods.coop import CoOp
from dpl.methods.kgcoop import KgCoOp, KgCoOpRun
from dpl.optim.regularization import Regularizer

from .plain import close, draw_pixels, ids, image_features, text_features

NAMES, TEMPLATES = ["green", "red", "dark blue"], ["one {} photo.", "a {}."]
LABELS = torch.tensor([0, 1, 2, 0, 1])


@pytest.fixture(scope="module")
def backbone(checkpoint: Path) -> Backbone:
    return load_backbone(str(checkpoint))


@pytest.mark.parametrize("name, weight", [("default", 8.0), ("paper", 8.0)])
def test_loss_and_gradient_are_the_published_formula_on_the_plain_model(backbone, name, weight):
    """There are no numbers of the authors' implementation: the formula is written out again, on Hugging Face's forward."""
    run, pixels = preset(KgCoOpRun, name, "digits"), draw_pixels()
    model = KgCoOp(backbone, NAMES, TEMPLATES, run.design, seed=0)
    with torch.no_grad():
        model.context.add_(0.3 * torch.randn(model.context.shape, generator=torch.Generator().manual_seed(0)))
    regularizer = Regularizer.of(backbone, NAMES, TEMPLATES, run.train.penalties)
    objective = model.objective(pixels, LABELS, regularizer)
    objective.backward([model.context])

    texts = text_features(backbone, [ids(backbone, "a photo of a", f"{name}.") for name in NAMES], model.context)
    teacher = text_features(backbone, [ids(backbone, f"one {name} photo.") for name in NAMES], torch.empty(0, 24))
    logits = backbone.clip.logit_scale.exp() * image_features(backbone, pixels) @ texts.T
    distance = 1 - F.cosine_similarity(texts, teacher).mean()
    loss = F.cross_entropy(logits, LABELS) + weight * distance
    assert distance.item() > 0.01
    close(objective.loss, loss)
    (gradient,) = torch.autograd.grad(loss, model.context)
    assert model.context.grad is not None
    close(model.context.grad, gradient)


def test_it_is_coop_started_at_words(backbone):
    design = KgCoOpRun("digits").design
    ours, coop = (cls(backbone, NAMES, TEMPLATES, design, seed=1) for cls in (KgCoOp, CoOp))
    close(ours.text_features(), text_features(backbone, [ids(backbone, "a photo of a", f"{n}.") for n in NAMES], coop.context))
    assert ours.layout == coop.layout and ours.name == "kgcoop"


def test_the_authors_settings():
    train = preset(KgCoOpRun, "paper", "digits", shots=1).train
    assert (train.epochs, train.batch_size, train.lr, train.optimizer) == (100, 128, 2e-3, "sgd")
