from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from dpl import Backbone, DplError, SearchConfig, load_backbone, load_task, sample, search_layout
from dpl.classifier import Classifier
from dpl.data.batches import TrainingBatches
from dpl.data.fewshot import FewShot
from dpl.data.task import Task
from dpl.data.transforms import decode
from dpl.optimization import learning_rate
from dpl.rng import generator
from dpl.search import settled

Parts = tuple[Backbone, Task, FewShot]
CONFIG = SearchConfig(epochs=2, batch_size=8, validation_batch_size=6, options=(0, 1, 3), patience=0)


@pytest.fixture(scope="module")
def parts(checkpoint: Path, images: Path) -> Parts:
    task = load_task(str(images))
    return load_backbone(str(checkpoint)), task, sample(task, 4, 1)


def test_a_search_is_the_bilevel_loop_written_out(parts: Parts):
    """The oracle: the same draws, torch's optimisers and full gradients, nothing of the project's loop."""
    backbone, task, shots = parts
    model = Classifier.mixture(backbone, task.class_names, task.templates[0], CONFIG.options, 0.05, 7)
    layers = [*model.image.layers, *model.text.layers]
    alphas, prompts = [layer.alphas for layer in layers], [layer.prompts for layer in layers]
    on_alphas = torch.optim.Adam(alphas, lr=CONFIG.alpha_lr, betas=(0.5, 0.999))
    on_prompts = torch.optim.AdamW(prompts, weight_decay=CONFIG.weight_decay)
    training = TrainingBatches(shots.train, backbone, task.augmentation, CONFIG.batch_size, 7, "search")
    validation, labels_val = decode(shots.val, backbone.image_size), torch.tensor([i.label for i in shots.val])
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
    assert [found.layout.image, found.layout.text] == [last["layout"]["image"], last["layout"]["text"]]
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


def test_the_same_seed_finds_the_same_bits_and_another_seed_does_not(parts: Parts):
    def alphas(seed: int):
        return search_layout(*parts, CONFIG, seed=seed).history[-1]["alphas"]

    assert alphas(3) == alphas(3) != alphas(4)


def test_a_search_leaves_the_backbone_as_it_was(parts: Parts):
    before = {key: value.clone() for key, value in parts[0].clip.state_dict().items()}
    search_layout(*parts, CONFIG)
    after = parts[0].clip.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    assert all(weight.grad is None for weight in parts[0].clip.parameters())


def test_bad_options_are_refused(parts: Parts):
    with pytest.raises(DplError, match="options 1 2: must ascend from 0"):
        search_layout(*parts, SearchConfig(options=(1, 2)))


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
def test_a_layout_has_settled_when_neither_it_nor_its_alphas_move(layouts, differences, stops):
    assert settled(_history(layouts, differences), patience=3) == stops
    assert not settled(_history(layouts, differences), patience=0)


def test_a_search_stops_early_once_settled(parts: Parts):
    config = SearchConfig(epochs=9, batch_size=12, options=(0, 1), alpha_lr=1e-9, patience=2)
    assert len(search_layout(*parts, config).history) == 2
