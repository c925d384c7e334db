import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from dpl import Backbone, DplError, PromptLayout, SearchConfig, load_backbone, load_task, sample, search_layout
from dpl.classifier import Classifier
from dpl.data.fewshot import FewShot
from dpl.data.pixels.batches import TrainingBatches
from dpl.data.pixels.transforms import decode
from dpl.data.task import Task
from dpl.optim.optimizer import learning_rate
from dpl.search import has_converged
from dpl.search.base import Scores
from dpl.search.mixture import MixtureSearch
from dpl.search.pruning import PruningSearch
from dpl.utils.rng import generator

Parts = tuple[Backbone, Task, FewShot]
CONFIG = SearchConfig(method="mixture", epochs=2, batch_size=8, validation_batch_size=6, options=(0, 1, 3), budget=0, patience=0)
PRUNING = replace(CONFIG, method="pruning", budget=1.5)
BOTH = pytest.mark.parametrize("config", [CONFIG, PRUNING], ids=lambda config: config.method)


@pytest.fixture(scope="module")
def parts(checkpoint: Path, images: Path) -> Parts:
    task = load_task(str(images))
    return load_backbone(str(checkpoint)), task, sample(task, 4, 1)


def test_a_mixture_search_is_the_bilevel_loop_written_out(parts: Parts):
    """The oracle: the same draws, torch's optimisers and full gradients, nothing of the project's loop."""
    backbone, task, shots = parts
    model = Classifier.mixture(backbone, task.class_names, task.templates[0], CONFIG.options, 0.05, 7)
    layers = [*model.image.layers, *model.text.layers]
    alphas, prompts = [layer.alphas for layer in layers], [layer.prompts for layer in layers]
    on_alphas = torch.optim.Adam(alphas, lr=CONFIG.alpha_lr, betas=(0.5, 0.999))
    on_prompts = torch.optim.AdamW(prompts, weight_decay=CONFIG.weight_decay)
    training = TrainingBatches(shots.train, backbone, task.augmentation, CONFIG, 7, "search")
    validation, labels_val = decode(shots.val, backbone.preprocessing), torch.tensor([i.label for i in shots.val])
    for epoch in range(CONFIG.epochs):
        on_prompts.param_groups[0]["lr"] = learning_rate(CONFIG, epoch)
        for step, pixels, labels in training.epoch(epoch):
            draw = torch.randperm(len(validation), generator=generator(7, "validation", epoch, step))[:6]
            model.zero_grad()
            F.cross_entropy(model(validation[draw]), labels_val[draw]).backward()
            on_alphas.step()
            model.zero_grad()
            F.cross_entropy(model(pixels), labels).backward()
            torch.nn.utils.clip_grad_norm_(prompts, CONFIG.clip_norm)
            on_prompts.step()

    found = search_layout(backbone, task, shots, CONFIG, seed=7)
    last = found.history[-1]
    expected = torch.cat([model.image.alphas, model.text.alphas])
    torch.testing.assert_close(torch.tensor(last["alphas"]["image"] + last["alphas"]["text"]), expected)
    assert found.layout.to_dict() == last["layout"]
    rows = [CONFIG.options[best] for best in expected.argmax(dim=1).tolist()]
    assert [*found.layout.image, *found.layout.text] == rows


def test_history_has_a_record_per_epoch(parts: Parts):
    history = search_layout(*parts, CONFIG).history
    assert [record["epoch"] for record in history] == [0, 1]
    for record in history:
        assert record["stage"] == "search" and record["train_loss"] > 0 and record["validation_loss"] > 0
        assert {len(row) for rows in record["alphas"].values() for row in rows} == {3}
        assert all(0 < value < 1 for value in record["alpha_difference"].values())
        assert all(0 <= count <= 2 for count in record["dominants"].values())


def test_a_pruning_search_is_training_and_the_removal_of_what_matters_least(parts: Parts):
    """The oracle: torch's optimiser on the longest layout, gates as weights of the softmax written out, tokens ranked."""
    backbone, task, shots = parts
    model = Classifier.prunable(backbone, task.class_names, task.templates[0], 3, 0.05, 7)
    layers = [*model.image.layers, *model.text.layers]
    prompts = [layer.prompts for layer in layers]
    on_prompts = torch.optim.AdamW(prompts, weight_decay=PRUNING.weight_decay)
    training = TrainingBatches(shots.train, backbone, task.augmentation, PRUNING, 7, "search")
    for epoch in range(PRUNING.epochs):
        on_prompts.param_groups[0]["lr"] = learning_rate(PRUNING, epoch)
        for _, pixels, labels in training.epoch(epoch):
            model.zero_grad()
            F.cross_entropy(model(pixels), labels).backward()
            torch.nn.utils.clip_grad_norm_(prompts, PRUNING.clip_norm)
            on_prompts.step()
    validation, labels = decode(shots.val, backbone.preprocessing), torch.tensor([i.label for i in shots.val])
    order = torch.randperm(len(labels), generator=generator(7, "validation", PRUNING.epochs - 1))
    expected = torch.zeros(len(layers), 3)
    for batch in order.split(PRUNING.validation_batch_size):
        for index, layer in enumerate(layers):  # central differences, one gate at a time
            for row in range(3):
                losses = []
                for shift in (-0.02, 0.02):
                    layer.log_gates = torch.eye(3)[row] * shift
                    with torch.no_grad():
                        losses.append(F.cross_entropy(model(validation[batch]), labels[batch]).item())
                layer.log_gates = None
                expected[index, row] += ((losses[1] - losses[0]) / 0.04) ** 2
    expected /= expected.sum()

    found = search_layout(backbone, task, shots, PRUNING, seed=7)
    last = found.history[-1]
    shares = torch.tensor(last["saliency"]["image"] + last["saliency"]["text"])
    torch.testing.assert_close(shares, expected.sort(dim=1, descending=True).values, rtol=0.02, atol=1e-3)
    assert shares.sum().item() == pytest.approx(1)
    budget = int(1.5 * len(layers))
    assert found.layout.tokens <= budget
    lengths = [*found.layout.image, *found.layout.text]
    kept = sum(row[:length].sum().item() for row, length in zip(shares, lengths, strict=True))
    rankings = [[0.0, row[0].item(), row.sum().item()] for row in shares]  # options 0, 1 and 3
    best = max(
        sum(ranking[i] for ranking, i in zip(rankings, choice, strict=True))
        for choice in product(range(3), repeat=len(layers))
        if sum((0, 1, 3)[i] for i in choice) <= budget
    )
    assert kept == pytest.approx(best)
    for name, own in found.prompts.items():
        branch, _, index, _ = name.split(".")
        layer = getattr(model, branch).layers[int(index)]
        ranked = expected[int(index) + (branch == "text") * len(model.image.layers)].argsort(descending=True)
        torch.testing.assert_close(own, layer.prompts.detach()[ranked[: len(own)].sort().values])


def test_a_pruning_searchs_history_has_a_record_per_epoch(parts: Parts):
    history = search_layout(*parts, PRUNING).history
    assert [record["epoch"] for record in history] == [0, 1]
    for record in history:
        assert record["stage"] == "search" and record["train_loss"] > 0 and record["validation_loss"] > 0
        assert {len(row) for rows in record["saliency"].values() for row in rows} == {3}


@BOTH
def test_the_searchs_prompts_fit_a_classifier_of_the_found_layout(parts: Parts, config: SearchConfig):
    backbone, task, _ = parts
    found = search_layout(*parts, config)
    model = Classifier.fixed(backbone, task.class_names, task.templates[0], found.layout, 0.05, 1)
    model.load_state_dict(found.prompts)
    assert model.layout == found.layout


def test_a_mixtures_prompts_are_those_of_the_chosen_option(parts: Parts):
    backbone, task, _ = parts
    method = MixtureSearch(backbone, task, CONFIG, 0.05, 1)
    depth = len(method.model.image.layers)
    chosen = method.prompts_in(PromptLayout((3, *(0,) * (depth - 1)), (1,) * len(method.model.text.layers)))
    assert torch.equal(chosen["image.layers.0.prompts"], method.model.image.layers[0].prompts[1:4])
    assert torch.equal(chosen["text.layers.0.prompts"], method.model.text.layers[0].prompts[:1])
    assert chosen["image.layers.1.prompts"].shape[0] == 0


def test_a_search_method_of_the_callers_own(parts: Parts):
    class Shortest(PruningSearch):
        def scores(self) -> Scores:
            image, text = super().scores()
            return [[-score for score in row] for row in image], [[-score for score in row] for row in text]

    found = search_layout(*parts, PRUNING, make=Shortest)
    assert isinstance(found.method, Shortest) and found.layout.tokens == 0


@BOTH
def test_a_budget_holds(parts: Parts, config: SearchConfig):
    for budget in (0.2, 1.0, 99.0):
        layout = search_layout(*parts, replace(config, budget=budget, epochs=1)).layout
        assert layout.tokens <= budget * (len(layout.image) + len(layout.text))


@BOTH
def test_the_same_seed_finds_the_same_bits_and_another_seed_does_not(parts: Parts, config: SearchConfig):
    def losses(seed: int):
        return [record["validation_loss"] for record in search_layout(*parts, config, seed=seed).history]

    assert losses(3) == losses(3) != losses(4)


@BOTH
def test_a_search_leaves_the_backbone_as_it_was(parts: Parts, config: SearchConfig):
    before = {key: value.clone() for key, value in parts[0].clip.state_dict().items()}
    search_layout(*parts, config)
    after = parts[0].clip.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    assert all(weight.grad is None for weight in parts[0].clip.parameters())


@BOTH
def test_bad_options_are_refused(parts: Parts, config: SearchConfig):
    with pytest.raises(DplError, match="options 1 2: must ascend from 0"):
        search_layout(*parts, replace(config, options=(1, 2)))


def test_without_validation_images_there_is_nothing_to_judge_by(parts: Parts):
    backbone, task, shots = parts
    with pytest.raises(DplError, match="no validation images"):
        search_layout(backbone, task, replace(shots, val=()), CONFIG)


def _history(layouts: list[int], differences: list[float]) -> list[dict]:
    records = zip(layouts, differences, strict=True)
    return [{"layout": {"image": [a]}, "alpha_difference": {"image": d, "text": 0.0}} for a, d in records]


@pytest.mark.parametrize(
    ("layouts", "differences", "stops"),
    [
        ([1, 2, 2, 2], [0.1, 1e-3, 1e-3, 1e-3], True),
        ([1, 2, 1, 2], [1e-3] * 4, False),
        ([2, 2, 2, 2], [1e-3, 1e-3, 0.1, 1e-3], False),
        ([2, 2], [1e-3] * 2, False),
    ],
)
def test_a_search_has_converged_when_neither_the_layout_nor_its_alphas_move(layouts, differences, stops):
    assert has_converged(_history(layouts, differences), patience=3) == stops
    assert not has_converged(_history(layouts, differences), patience=0)


def test_a_search_stops_early_once_converged(parts: Parts):
    config = replace(CONFIG, epochs=9, options=(0, 1), alpha_lr=1e-9, patience=2)
    history = search_layout(*parts, config).history
    assert len(history) == 2
    # A resumed search compares layouts of its file with later ones, so they must be of the same types.
    assert json.loads(json.dumps(history)) == list(history)
