from pathlib import Path

import pytest
import torch

from dpl import load_backbone, load_task, sample
from dpl.data.batches import TrainingBatches


@pytest.fixture(scope="module")
def make(checkpoint: Path, images: Path):
    backbone, task = load_backbone(str(checkpoint)), load_task(str(images))
    items = sample(task, 4, 1).train

    def batches(seed: int = 1, stage: str = "train") -> TrainingBatches:
        return TrainingBatches(items, backbone, task.augmentation, 5, seed, stage)

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
