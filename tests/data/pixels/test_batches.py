import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dpl import load_backbone, load_task, sample
from dpl.config import Optimization
from dpl.data.pixels.batches import TrainingBatches
from dpl.data.pixels.store import ImageStore
from dpl.data.task import Augmentation, Item
from dpl.utils.errors import DplError


def ahead_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


@pytest.fixture(scope="module")
def make(checkpoint: Path, images: Path):
    backbone, task = load_backbone(str(checkpoint)), load_task(str(images))
    items = sample(task, 4, 1).train

    def batches(seed: int = 1, stage: str = "train", store: ImageStore | None = None, **settings: Any) -> TrainingBatches:
        config = replace(Optimization(epochs=1, batch_size=5), **settings)
        return TrainingBatches(items, backbone, task.augmentation, config, seed, stage, store)

    return batches


def test_an_epoch_shows_every_item_once(make):
    labels = torch.cat([labels for _, _, labels in make().epoch(0)])
    assert len(make()) == 3 and labels.bincount().tolist() == [4, 4, 4]


def test_pixels_have_the_models_size(make):
    shapes = [pixels.shape for _, pixels, _ in make().epoch(0)]
    assert shapes == [(5, 3, 16, 16), (5, 3, 16, 16), (2, 3, 16, 16)]


def test_an_epoch_can_begin_at_any_step(make):
    whole, rest = list(make().epoch(2)), list(make().epoch(2, first=1))
    assert [step for step, *_ in rest] == [1, 2]
    for (_, pixels, labels), (_, again, same) in zip(whole[1:], rest, strict=True):
        assert torch.equal(pixels, again) and torch.equal(labels, same)


def test_epochs_seeds_and_stages_differ(make):
    def first(batches: TrainingBatches, epoch: int = 0):
        return next(batches.epoch(epoch))[1]

    reference = first(make())
    for other in (first(make(), 1), first(make(seed=2)), first(make(stage="search"))):
        assert not torch.equal(reference, other)


@pytest.fixture
def elsewhere(make, monkeypatch) -> TrainingBatches:
    """Batches that take the way to a GPU, without one."""
    monkeypatch.setattr("dpl.data.pixels.batches.to_device", lambda tensor, device: tensor)
    batches = make()
    batches._device = torch.device("cuda")
    return batches


def test_batches_made_ahead_are_the_same(make, elsewhere):
    for epoch, first in ((0, 0), (1, 0), (1, 2)):  # files still to be read, then all kept
        found, expected = list(elsewhere.epoch(epoch, first)), list(make().epoch(epoch, first))
        assert [step for step, *_ in found] == list(range(first, 3))
        for (_, pixels, labels), (_, same, labels_too) in zip(found, expected, strict=True):
            assert torch.equal(pixels, same) and torch.equal(labels, labels_too)


def test_only_another_device_is_fed_by_a_thread(make, elsewhere):
    here, there = make().epoch(0), elsewhere.epoch(0)
    next(here)
    assert not ahead_threads()
    next(there)
    assert ahead_threads()
    list(there)
    assert not ahead_threads()


def test_an_epoch_left_early_leaves_no_thread(elsewhere):
    for step, *_ in elsewhere.epoch(0):
        if step == 1:
            break
    assert not ahead_threads()


def test_pictures_beyond_the_budget_change_nothing(make):
    generous, miserly = make(), make(store=ImageStore(training_bytes=2000))
    for epoch in range(2):
        for (_, pixels, _), (_, same, _) in zip(miserly.epoch(epoch), generous.epoch(epoch), strict=True):
            assert torch.equal(pixels, same)


def test_a_last_batch_that_is_not_full_may_be_left_out_unless_it_is_the_only_one(make):
    kept = make(drop_last=True)
    assert len(kept) == 2 and [len(labels) for _, _, labels in kept.epoch(0)] == [5, 5]
    assert len(make(drop_last=True, batch_size=12)) == len(make(drop_last=True, batch_size=13)) == 1


def test_an_unreadable_image_is_named(checkpoint: Path, images: Path, tmp_path: Path):
    backbone = load_backbone(str(checkpoint))
    good, bad = next(images.rglob("*.png")), tmp_path / "broken.png"
    bad.write_bytes(good.read_bytes()[:60])
    items = [Item(good, 0, str(index)) for index in range(11)] + [Item(bad, 0, "broken.png")]
    batches = TrainingBatches(items, backbone, Augmentation((0.5, 1.0), True), Optimization(1, batch_size=3), 1, "train")
    seen = []
    with pytest.raises(DplError, match=r"broken\.png"):
        for step, *_ in batches.epoch(0):
            seen.append(step)
    assert seen == list(range(len(seen))) and len(seen) < 4
