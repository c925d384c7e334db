"""A search's model holds every layout: with one choice per layer it computes what that layout does."""

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dpl import Backbone, PromptLayout, SearchConfig, load_backbone, load_task
from dpl.classifier import Classifier
from dpl.data.task import Task
from dpl.search.base import Validation
from dpl.search.mixture import MixtureSearch
from dpl.search.pruning import PruningSearch

OPTIONS = (0, 1, 2, 4)
CONFIG = SearchConfig(options=OPTIONS)
lengths = st.lists(st.sampled_from(OPTIONS), min_size=2, max_size=2).map(tuple)
layouts = st.builds(PromptLayout, lengths, lengths)
seeds = st.integers(0, 10**6)


class Parts(NamedTuple):
    backbone: Backbone
    task: Task
    pixels: Tensor


@pytest.fixture(scope="module")
def parts(checkpoint: Path, images: Path) -> Parts:
    pixels = torch.randint(0, 256, (3, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Parts(load_backbone(str(checkpoint)), load_task(str(images)), pixels)


def logits_of(parts: Parts, layout: PromptLayout, prompts: dict[str, Tensor]) -> Tensor:
    """Logits of the layout's own classifier with the prompts that a search gave it."""
    model = Classifier.fixed(parts.backbone, parts.task.class_names, parts.task.templates[0], layout, 0.05, 1)
    model.load_state_dict(prompts)
    return model(parts.pixels)


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@given(layouts, seeds)
def test_a_mixture_with_all_weight_on_a_layout_is_that_layout(parts: Parts, layout: PromptLayout, seed: int):
    search = MixtureSearch(parts.backbone, parts.task, CONFIG, 0.5, seed)
    chosen = [*layout.image, *layout.text]
    with torch.no_grad():
        for layer, length in zip([*search.model.image.layers, *search.model.text.layers], chosen, strict=True):
            layer.alphas.copy_(torch.tensor([0.0 if option == length else -1000.0 for option in OPTIONS]))
        assert PromptLayout.from_scores(*search.scores(), OPTIONS) == layout
        torch.testing.assert_close(
            search.model(parts.pixels), logits_of(parts, layout, search.prompts_in(layout)), rtol=1e-4, atol=1e-4
        )


@given(layouts, seeds)
def test_a_pruned_model_with_the_other_gates_closed_is_the_layout(parts: Parts, layout: PromptLayout, seed: int):
    search = PruningSearch(parts.backbone, parts.task, CONFIG, 0.5, seed)
    layers = [*search.model.image.layers, *search.model.text.layers]
    with torch.no_grad():
        for place, (layer, length) in enumerate(zip(layers, [*layout.image, *layout.text], strict=True)):
            layer.saliency.copy_(drawn(OPTIONS[-1], seed=seed + place))
            threshold = layer.saliency.sort(descending=True).values[length - 1] if length else torch.inf
            layer.log_gates = torch.where(layer.saliency >= threshold, 0.0, -torch.inf)
        torch.testing.assert_close(
            search.model(parts.pixels), logits_of(parts, layout, search.prompts_in(layout)), rtol=1e-4, atol=1e-4
        )


@given(seeds)
def test_the_scores_of_a_pruned_model_are_the_saliency_that_each_option_keeps(parts: Parts, seed: int):
    search = PruningSearch(parts.backbone, parts.task, CONFIG, 0.5, 1)
    for place, layer in enumerate([*search.model.image.layers, *search.model.text.layers]):
        layer.saliency.copy_(drawn(OPTIONS[-1], seed=seed + place))
    for scores, branch in zip(search.scores(), (search.model.image, search.model.text), strict=True):
        for row, layer in zip(scores, branch.layers, strict=True):
            best = [sum(sorted(layer.saliency.tolist(), reverse=True)[:option]) for option in OPTIONS]
            assert row == pytest.approx(best)


@given(st.permutations(range(4)), seeds)
def test_the_order_of_a_layers_prompts_is_of_no_matter(parts: Parts, order: list[int], seed: int):
    layout = PromptLayout((4, 4), (4, 4))
    search = PruningSearch(parts.backbone, parts.task, CONFIG, 0.5, seed)
    own = search.prompts_in(layout)
    with torch.no_grad():
        first, second = (logits_of(parts, layout, prompts) for prompts in (own, {name: p[order] for name, p in own.items()}))
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)


@given(st.integers(1, 9), st.integers(1, 5), st.integers(0, 5), st.integers(0, 5))
def test_validation_batches_are_drawn_without_repeats_and_the_same_again(images: int, batch_size: int, epoch: int, step: int):
    pixels = torch.arange(images, dtype=torch.uint8).view(-1, 1, 1, 1).expand(images, 3, 2, 2)
    validation = Validation(pixels, torch.arange(images), batch_size, seed=3)
    drawn, labels = validation.draw(epoch, step)
    assert len(labels) == min(images, batch_size) == len(set(labels.tolist()))
    assert drawn[:, 0, 0, 0].tolist() == labels.tolist() == validation.draw(epoch, step)[1].tolist()
    batches = [own.tolist() for _, own in validation.all(epoch)]
    assert sorted(sum(batches, [])) == list(range(images)) and {len(batch) for batch in batches[:-1]} <= {batch_size}
