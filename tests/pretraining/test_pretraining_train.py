"""The schedule, the loss, and a resumed run that equals an uninterrupted one to the bit."""

import json
import math

import pytest
import torch

from pretraining import train as t
from pretraining.model import build_tokenizer

pytestmark = pytest.mark.slow  # nothing of dpl itself is tested here


def test_schedule_warms_up_stays_and_decays():
    at = [t.rate(seen, warmup=100, decay_start=500, total=1000, floor=0.0) for seen in (0, 49, 100, 499, 500, 750, 1000)]
    assert at == pytest.approx([0.01, 0.5, 1, 1, 1, 0.5, 0])


def test_loss_of_perfect_logits_is_the_entropy_of_the_targets():
    positive = torch.tensor([[1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    loss = t.contrastive_loss(torch.where(positive, 50.0, -50.0), positive)
    assert loss.item() == pytest.approx(math.log(2) / 4, abs=1e-5)  # one image of two has two captions, one way of two


def test_loss_falls_back_to_clip_with_one_positive_each():
    logits = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(5)
    clip = (torch.nn.functional.cross_entropy(logits, labels) + torch.nn.functional.cross_entropy(logits.T, labels)) / 2
    assert t.contrastive_loss(logits, torch.eye(5, dtype=torch.bool)).item() == pytest.approx(clip.item(), rel=1e-5)


@pytest.fixture
def small_training(monkeypatch):
    """Training of a one-layer model on the held-out fonts (their atlas loads sooner), with a small tokenizer."""
    tokenizer = build_tokenizer(500)
    draw = t.render.batch
    monkeypatch.setattr(t, "build_tokenizer", lambda: tokenizer)
    monkeypatch.setattr(t.render, "batch", lambda split, *rest: draw("held_out", *rest))
    monkeypatch.setattr(t, "quick_scores", lambda *_: {})

    def run(folder, samples):
        line = f"--out {folder} --samples {samples} --decay-start 32 --warmup 16 --batch 8 --width 32 --layers 1 --log-every 1"
        return t.train(t.arguments(line.split())).state_dict()

    return run


def test_a_resumed_run_equals_an_uninterrupted_one(small_training, tmp_path):
    whole = small_training(tmp_path / "whole", 48)
    small_training(tmp_path / "parts", 24)
    resumed = small_training(tmp_path / "parts", 48)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert [json.loads(line)["step"] for line in (tmp_path / "parts/log.jsonl").read_text().splitlines()] == [1, 2, 3, 4, 5, 6]
    assert sorted(p.name for p in (tmp_path / "parts").iterdir()) == ["log.jsonl", "state.safetensors"]
