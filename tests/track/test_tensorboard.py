"""TensorBoard's events equal the numbers of the run folder and have every step once, also after a resume."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.plugins.hparams.metadata import SESSION_START_INFO_TAG
from tensorboard.util import tensor_util

import dpl.track
from dpl import fit
from dpl.methods.linear_probe import LinearProbeRun
from dpl.pipeline import resume
from dpl.prompts.layout import PromptLayout
from dpl.track.values import layout_text
from tests.cases import quick_and_slow
from tests.track.tracked_runs import EVERY, STEPS, Killed, events, history, metrics, scalars, settings, stop_after


def test_tensorboard_has_what_the_history_has(tracked: Path):
    read, epochs = scalars(tracked), {"search": 0, "train": 0}
    for record in history(tracked):
        last = epochs[record["stage"]] = epochs[record["stage"]] + 1
        step = 2 * last + (4 if record["stage"] == "train" else 0)
        for name in ("train_loss", "validation_loss", "loss", "accuracy", "lr"):
            if name in record:
                assert read[f"{record['stage']}_epoch/{name}"][step] == pytest.approx(record[name], rel=1e-6)
        if "layout" in record:
            assert read["search_epoch/tokens"][step] == sum(map(sum, record["layout"].values()))
            assert read["search_epoch/tokens_text"][step] == sum(record["layout"]["text"])
    assert epochs == {"search": 2, "train": 2}


def test_tensorboard_has_every_step_counted_over_both_stages(tracked: Path):
    read = scalars(tracked)
    assert list(read["search/train_loss"]) == [1, 2, 3, 4] and list(read["train/loss"]) == [5, 6, 7, 8]
    # An epoch's mean in the history is that of its steps.
    means = [record["loss"] for record in history(tracked) if record["stage"] == "train"]
    steps = read["train/loss"]
    assert [(steps[5] + steps[6]) / 2, (steps[7] + steps[8]) / 2] == pytest.approx(means, rel=1e-6)
    # The warm-up rises over the first three epochs' steps: the rate is that of the step.
    assert sorted(read["train/lr"].values())[0] > 0 and len(set(read["train/lr"].values())) > 1


def test_tensorboard_has_the_result_the_layout_and_the_settings(tracked: Path):
    found, read, reached = events(tracked), scalars(tracked), metrics(tracked)
    for name in ("accuracy", "zero_shot_accuracy", "seconds", "trainable_parameters", "layout_tokens", "prompt_scale"):
        assert read[f"result/{name}"] == {STEPS: pytest.approx(reached[name], rel=1e-6)}
    assert read["result/accuracy_low"][STEPS] == pytest.approx(reached["accuracy_interval"][0], rel=1e-6)
    assert read["result/ece"][STEPS] == pytest.approx(reached["calibration"]["tuned"]["ece"], rel=1e-6)
    (layout,) = found.Tensors("layout/text_summary")
    (text,) = tensor_util.make_ndarray(layout.tensor_proto)
    assert text.decode() == layout_text(PromptLayout.load(tracked / "layout.json")) and layout.step == 4
    messages: Any = plugin_data_pb2  # its classes are made at run time
    session = messages.HParamsPluginData.FromString(found.SummaryMetadata(SESSION_START_INFO_TAG).plugin_data.content)
    given = session.session_start_info.hparams
    assert given["shots"].number_value == 4 and given["train.epochs"].number_value == 2
    assert given["search.options"].string_value == "0 1 3" and given["method"].string_value == "dpl"


@pytest.mark.parametrize("step", quick_and_slow([6], [1, 2, 3, 4, 5, 7, 8]))
def test_a_run_that_goes_on_is_tracked_in_the_same_place_and_nothing_twice(step, images, checkpoint, tmp_path, tracked):
    with pytest.raises(Killed):
        fit(settings(images, checkpoint, tmp_path / "run", "tensorboard"), on_step=stop_after(step))
    resume(tmp_path / "run")
    whole, again = scalars(tracked), scalars(tmp_path / "run")
    # Sorted: two files of one second are read in the order of their names, "9" behind "10"; outside of tests a run goes on later.
    assert {name: sorted(steps) for name, steps in again.items()} == {name: sorted(steps) for name, steps in whole.items()}
    assert [again[name] == whole[name] for name in ("search/train_loss", "train/loss", "result/accuracy")] == [True] * 3
    assert len(events(tmp_path / "run").Tensors("layout/text_summary")) == 1


@pytest.mark.slow
def test_steps_that_the_checkpoint_does_not_know_of_are_replaced(images, checkpoint, tmp_path, tracked):
    """After a loss of power the checkpoint may be older than what a tracker has on the disk."""
    run, state = tmp_path / "run", tmp_path / "run" / "checkpoint" / "state.safetensors"
    steps, old = iter(range(1, 99)), []

    def stop(*_: object) -> None:
        step = next(steps)
        if step == 5:
            old.append(state.read_bytes())
        if step == 7:
            raise Killed

    with pytest.raises(Killed):
        fit(settings(images, checkpoint, run, "tensorboard"), on_step=stop)
    state.write_bytes(old[0])
    resume(run)
    assert scalars(run)["train/loss"] == scalars(tracked)["train/loss"]


def test_by_default_every_fifth_step_is_logged(images, checkpoint, tmp_path, tracked, monkeypatch):
    monkeypatch.setattr(dpl.track, "EVERY", EVERY)
    read = scalars(fit(settings(images, checkpoint, tmp_path / "run", "tensorboard")))
    assert list(read["train/loss"]) == [5] and "search/train_loss" not in read
    assert read["train_epoch/loss"] == scalars(tracked)["train_epoch/loss"]


def test_a_run_that_fails_itself_closes_its_trackers(images, checkpoint, tmp_path):
    with pytest.raises(Killed):
        fit(settings(images, checkpoint, tmp_path / "run", "tensorboard"), on_step=stop_after(3))
    assert list(scalars(tmp_path / "run")["search/train_loss"]) == [1, 2, 3]


@pytest.mark.slow
def test_overwriting_a_run_forgets_its_tracking(images, checkpoint, tmp_path):
    whole = replace(settings(images, checkpoint, tmp_path / "run", "tensorboard"), layout="1")
    fit(whole)
    fit(replace(whole, overwrite=True))
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1
    fit(replace(whole, overwrite=True, track=()))
    assert not (tmp_path / "run" / "tensorboard").exists() and not (tmp_path / "run" / "track.json").exists()


def test_a_method_without_steps_is_tracked_too(images, checkpoint, tmp_path):
    run = fit(LinearProbeRun(str(images), backbone=str(checkpoint), shots=2, out=tmp_path / "run", track=("tensorboard",)))
    assert scalars(run)["result/accuracy"] == {0: pytest.approx(metrics(run)["accuracy"], rel=1e-6)}
