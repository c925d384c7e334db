from pathlib import Path

import pytest
import torch

from dpl import Backbone, load_backbone, load_task, sample
from dpl.config import REGULARIZERS, Training, preset
from dpl.methods.method import Inputs
from dpl.methods.promptsrc import PromptSRC, PromptSRCRun
from dpl.train import train

TEMPLATES = ["a photo of a {}.", "one {}."]


@pytest.fixture(scope="module")
def backbone(checkpoint: Path) -> Backbone:
    return load_backbone(str(checkpoint))


def test_nine_layers_are_asked_for_and_as_many_as_there_are_get_tokens(backbone):
    model = PromptSRC(backbone, ["green", "red"], TEMPLATES, PromptSRCRun("digits").design)
    assert model.layout.image == model.layout.text == (4, 4)
    assert model.design.depth == 9


@pytest.mark.parametrize("name", ["default", "paper"])
def test_both_presets_have_the_regularizer(name):
    run = preset(PromptSRCRun, name, "digits")
    assert run.train.penalties == REGULARIZERS["promptsrc"]
    assert (run.design.image_context, run.design.text_context) == (4, 4)


def test_the_authors_settings():
    base, elsewhere = preset(PromptSRCRun, "paper", "dtd", classes="base"), preset(PromptSRCRun, "paper-transfer", "imagenet")
    assert (base.train.epochs, base.train.penalties.aggregate, base.design.depth) == (20, (0.75, 0.05), 9)
    assert (elsewhere.train.epochs, elsewhere.train.penalties.aggregate, elsewhere.design.depth) == (20, (0.3, 0.5), 3)
    train = preset(PromptSRCRun, "paper", "digits").train
    assert (train.epochs, train.batch_size, train.lr, train.optimizer) == (50, 4, 2.5e-3, "sgd")


def test_the_result_is_the_average_of_the_epochs(backbone, images):
    task = load_task(str(images))
    inputs = Inputs(backbone, task, sample(task, 2, 1))
    results = []
    for aggregate in ((0.5, 0.0), (1.0, 0.0), (0.75, 1e9)):  # the first epoch, the second, both alike
        config = Training(epochs=2, regularizer="promptsrc", aggregate=aggregate)
        model = PromptSRC(backbone, task.class_names, task.templates, PromptSRCRun("digits").design, seed=1)
        train(model, inputs, config, seed=1)
        results.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    first, second, mean = results
    assert (first - second).abs().max() > 1e-3
    torch.testing.assert_close(mean, (first + second) / 2)
