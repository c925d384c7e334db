"""Plain values for trackers: settings, epoch records and metrics."""

from pathlib import Path

import pytest

from dpl.config import FitRun, SearchRun, TrainRun
from dpl.methods.linear_probe import LinearProbeRun
from dpl.track.values import epoch_values, result_values, settings_values


@pytest.mark.parametrize("kind", [FitRun, SearchRun, TrainRun, LinearProbeRun])
def test_settings_are_plain_and_named_as_they_are_typed(kind):
    values = settings_values(kind("digits", out=Path("somewhere"), track=("wandb",), template=("a {}.", "the {}.")))
    assert all(type(value) in (bool, int, float, str) for value in values.values())
    assert values["data"] == "digits" and values["root"] == "none" and values["template"] == "a {}. the {}."
    assert not {"out", "track", "overwrite"} & set(values) and "shots-from" in values


def test_of_a_record_the_numbers_are_logged_and_no_matrices():
    record = {"stage": "search", "epoch": 3, "train_loss": 0.5, "lr": 1e-2, "seconds": 1.5, "alphas": {"image": [[0.1]]}}
    record |= {"alpha_difference": {"image": 0.25, "text": 0.5}, "dominants": {"image": 2, "text": 0}}
    record |= {"layout": {"image": [1, 2, 0], "text": [4]}}
    assert epoch_values(record) == {
        "search_epoch/epoch": 3,
        "search_epoch/train_loss": 0.5,
        "search_epoch/lr": 1e-2,
        "search_epoch/seconds": 1.5,
        "search_epoch/alpha_difference_image": 0.25,
        "search_epoch/alpha_difference_text": 0.5,
        "search_epoch/dominants_image": 2,
        "search_epoch/dominants_text": 0,
        "search_epoch/tokens": 7,
        "search_epoch/tokens_image": 3,
        "search_epoch/tokens_text": 4,
    }


def test_of_the_metrics_the_numbers_are_logged():
    bins = [{"images": 3, "confidence": 0.5, "accuracy": 1.0}]
    reached = {
        "method": "dpl",
        "shots": 16,
        "seed": 1,
        "accuracy": 0.75,
        "accuracy_interval": [0.5, 0.9],
        "zero_shot_interval": (0.25, 0.5),
    }
    reached |= {"class_names": ["a"], "per_class": [{"accuracy": 1.0}], "confusions": [], "peak_memory_bytes": None}
    reached |= {"calibration": {"tuned": {"ece": 0.125, "bins": bins}, "zero_shot": {"ece": 0.25, "bins": bins}}}
    reached |= {"cost": {"image": 2.5, "classes": 4.0, "frozen": {"image": 2.0, "classes": 3.0}, "uniform": []}}
    assert result_values(reached) == {
        "result/accuracy": 0.75,
        "result/accuracy_low": 0.5,
        "result/accuracy_high": 0.9,
        "result/zero_shot_accuracy_low": 0.25,
        "result/zero_shot_accuracy_high": 0.5,
        "result/ece": 0.125,
        "result/zero_shot_ece": 0.25,
        "result/gflops_image": 2.5,
        "result/gflops_classes": 4.0,
    }
