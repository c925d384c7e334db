"""Runs in a stack against the same runs alone, by the product's own code."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import dpl
from benchmarks.study import released
from benchmarks.study.released import CONFIG, search_as_released
from benchmarks.study.stack import Stack, StackedLayer, StackedMixture, mean_losses, train_stacked
from dpl.classifier import Classifier
from dpl.data.fewshot import FewShot
from dpl.data.task import Task
from dpl.methods.dpl import Dpl, DplConfig
from dpl.prompts.layout import PromptLayout
from dpl.search.mixture import bilevel_step
from dpl.utils.errors import DplError
from tests.cases import quick_and_slow

pytestmark = pytest.mark.slow  # nothing of dpl itself is tested here

# The checkpoint has two layers in each branch: other lengths for every run, none in a layer of one, none in a branch of another.
LAYOUTS = [PromptLayout((3, 0), (1, 4)), PromptLayout((2, 2), (2, 2)), PromptLayout((0, 0), (0, 3)), PromptLayout((1, 5), (0, 0))]


@pytest.fixture(scope="module")
def backbone(checkpoint: Path) -> dpl.Backbone:
    return dpl.load_backbone(str(checkpoint))


@pytest.fixture(scope="module")
def task(images: Path) -> Task:
    return dpl.load_task(str(images))


@pytest.fixture(scope="module")
def draws(task: Task) -> list[tuple[FewShot, int]]:
    """Two runs share shots and seed, the others have their own."""
    one, two, three = ((dpl.sample(task, 4, seed), seed) for seed in (1, 2, 3))
    return [one, two, one, three]


def models_of(backbone: dpl.Backbone, task: Task, draws: list[tuple[FewShot, int]]) -> list[Dpl]:
    names, templates = task.class_names, task.templates
    return [Dpl(backbone, names, templates, DplConfig(own), seed) for own, (_, seed) in zip(LAYOUTS, draws, strict=True)]


@pytest.mark.parametrize(
    "changes", quick_and_slow([{}], [{"optimizer": "sgd", "clip_norm": 0.0, "lr": 0.5}, {"clip_norm": 0.05}]), ids=str
)
def test_every_run_of_a_stack_learns_what_it_learns_alone(backbone, task, draws, changes):
    config = replace(dpl.TrainConfig(epochs=3, batch_size=5, warmup_epochs=1, prompt_scales=(1.0,)), **changes)
    models, fresh = models_of(backbone, task, draws), models_of(backbone, task, draws)
    train_stacked(models, task, draws, config)
    for layout, (shots, seed), model, start in zip(LAYOUTS, draws, models, fresh, strict=True):
        alone = dpl.train_prompts(backbone, task, shots, layout, config, seed=seed)
        for own, other, before in zip(model.parameters(), alone.parameters(), start.parameters(), strict=True):
            torch.testing.assert_close(own, other, rtol=1e-4, atol=2e-6)
            assert not own.numel() or (own - before).abs().max() > 1e-3


def test_a_stack_without_prompts_has_nothing_to_learn(backbone, task, draws):
    none = PromptLayout((0, 0), (0, 0))
    model = Dpl(backbone, task.class_names, task.templates, DplConfig(none), 1)
    train_stacked([model], task, draws[:1], dpl.TrainConfig(epochs=1))
    assert not model.layout.tokens


def mixtures(backbone: dpl.Backbone, task: Task) -> list[Classifier]:
    models = [Classifier.mixture(backbone, task.class_names, task.templates[0], (0, 1, 3), 0.5, seed) for seed in (1, 2, 3)]
    for model in models:
        for layer in (*model.image.layers, *model.text.layers):
            torch.nn.init.normal_(layer.alphas, std=0.7, generator=torch.Generator().manual_seed(5))
    return models


def test_a_stack_of_mixtures_has_the_logits_and_gradients_of_each(backbone, task):
    models, generator = mixtures(backbone, task), torch.Generator().manual_seed(0)
    stack, size = Stack(models, StackedMixture), backbone.image_size
    pixels = torch.randint(0, 256, (2, 4, 3, size, size), dtype=torch.uint8, generator=generator)
    streams, labels = torch.tensor([1, 0, 1]), torch.randint(0, len(task.class_names), (3, 4), generator=generator)
    logits = stack.logits(pixels, streams)
    mean_losses(logits, labels).sum().backward()
    for run, model in enumerate(models):
        alone = model(pixels[streams[run]])
        torch.testing.assert_close(logits[run], alone, rtol=1e-4, atol=1e-4)
        F.cross_entropy(alone, labels[run]).backward()
        for stacked, layer in zip(stack.layers, [*model.image.layers, *model.text.layers], strict=True):
            for name in ("prompts", "alphas"):
                own, other = getattr(stacked, name).grad[run], getattr(layer, name).grad
                torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-5 * other.abs().max().item())


def test_a_stack_makes_what_it_needs_on_the_device_of_its_models(backbone, task, draws):
    """What is made elsewhere, on the default device, cannot be mixed with it."""
    size = backbone.image_size
    pixels, streams = torch.zeros(1, 2, 3, size, size, dtype=torch.uint8), torch.zeros(4, dtype=torch.long)
    several = [
        (models_of(backbone, task, draws), StackedLayer),
        ([*mixtures(backbone, task), *mixtures(backbone, task)[:1]], StackedMixture),
    ]
    for models, kind in several:
        with torch.device("meta"):
            stack = Stack(models, kind)
            stack.logits(pixels, streams).sum().backward()
            assert all(layer.prompts.grad is not None for layer in stack.layers if layer.parameters)
            stack.write_back()


def test_the_released_search_of_a_stack_is_that_of_each_by_the_products_step(backbone, task, draws, monkeypatch):
    monkeypatch.setattr(released, "CONFIG", replace(CONFIG, epochs=3, lr=0.5, alpha_lr=0.2))
    seen = []
    monkeypatch.setattr(dpl.PromptLayout, "from_scores", lambda image, text, options: seen.append((image, text)))
    search_as_released(task, draws[:2], backbone)
    for (shots, seed), (image, text) in zip(draws[:2], seen, strict=True):
        model = released._model(backbone, task, seed)
        layers = [*model.image.layers, *model.text.layers]
        on_alphas = torch.optim.Adam([layer.alphas for layer in layers], lr=0.2, betas=(0.5, 0.999))
        on_prompts = dpl.optim.optimizer.make_optimizer(released.CONFIG, [layer.prompts for layer in layers])
        batches = dpl.data.pixels.batches.TrainingBatches(
            shots.train, backbone, task.augmentation, released.CONFIG, seed, "search"
        )
        first = shots.val[: CONFIG.validation_batch_size]
        validation = (
            dpl.data.pixels.transforms.decode(first, backbone.preprocessing),
            torch.tensor([item.label for item in first]),
        )
        for epoch in range(3):
            dpl.optim.optimizer.set_learning_rate(on_prompts, dpl.optim.optimizer.learning_rate(released.CONFIG, epoch))
            for _, pixels, labels in batches.epoch(epoch):
                bilevel_step(model, on_alphas, on_prompts, validation, (pixels, labels), 0.0)
        torch.testing.assert_close(torch.tensor(image), model.image.alphas, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(torch.tensor(text), model.text.alphas, rtol=1e-3, atol=1e-4)


def test_a_run_whose_loss_is_not_finite_is_told():
    with pytest.raises(DplError, match=r"the losses of the runs are .*nan.*: one of them is not finite"):
        mean_losses(torch.tensor([[[0.0, 1.0]], [[float("nan"), 0.0]]]), torch.tensor([[0], [1]]))
