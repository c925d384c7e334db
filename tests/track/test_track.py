"""`--track` changes no result and ends no run; a missing package is named before anything is written."""

import random
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dpl.track
import dpl.track.kinds
from dpl import DplError, fit
from dpl.cli.arguments import Compare
from dpl.cli.main import main
from dpl.cli.plans import comparison_plan
from dpl.experiments.compare.validate import check_plan
from dpl.pipeline import load_common
from dpl.track.values import result_values
from tests.track.tracked_runs import STEPS, about_tracking, metrics, outcome, settings, words


def test_no_bit_of_a_result_depends_on_tracking(images, checkpoint, tmp_path, tracked, own_wandb):
    own_wandb.setenv("WANDB_MODE", "offline")
    ends = []
    for name, track in (("without", ()), ("both", ("tensorboard", "wandb"))):
        random.seed(1)
        np.random.seed(1)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            found = outcome(fit(settings(images, checkpoint, tmp_path / name, *track)))
            draws = random.random(), np.random.random(), torch.rand(1).item()
        ends.append((found, draws, torch.get_num_threads()))
    assert ends[0] == ends[1] and outcome(tracked) == ends[0][0]
    assert not {path.name for path in (tmp_path / "without").iterdir()} & {"track.json", "tensorboard", "wandb"}


@pytest.mark.parametrize(
    ("absent", "command"), [("tensorboard", "tensorboard"), ("wandb", "wandb"), ("accelerate", "accelerate")]
)
def test_a_package_that_is_missing_is_named_before_anything_is_written(
    absent, command, images, checkpoint, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(dpl.track.kinds, "find_spec", lambda name: None if name == absent else find_spec(name))
    name = "tensorboard" if absent == "accelerate" else absent
    assert main(words(images, checkpoint, tmp_path / "run", name)) == 2
    assert capsys.readouterr().err == f"dpl: --track {name}: is not installed; pip install {command}\n"
    assert not (tmp_path / "run").exists()


def test_a_folder_of_the_name_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "somefolder").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    kind = replace(dpl.track.kinds.KINDS["tensorboard"], package="somefolder")
    with pytest.raises(DplError, match="pip install somefolder"):
        kind.check_package()


def test_an_unknown_tracker_is_refused(images, checkpoint, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(words(images, checkpoint, tmp_path / "run", "paper"))
    assert stopped.value.code == 2 and not (tmp_path / "run").exists()


def test_a_full_disk_ends_the_tracking_and_not_the_run(images, checkpoint, tmp_path, tracked, monkeypatch, capfd):
    from tensorboard.summary.writer.record_writer import RecordWriter

    write, written = RecordWriter.write, iter(range(99))

    def full(self: RecordWriter, data: bytes) -> None:
        if next(written) > 10:
            raise OSError(28, "No space left on device")
        write(self, data)

    monkeypatch.setattr(RecordWriter, "write", full)
    said = []
    run = fit(settings(images, checkpoint, tmp_path / "run", "tensorboard"), say=said.append)
    failed = "--track tensorboard: has failed ([Errno 28] No space left on device); the run goes on without it"
    assert about_tracking(said)[1:] == [failed]
    assert outcome(run) == outcome(tracked)
    output = capfd.readouterr()
    assert "Traceback" not in output.err + output.out


def test_a_tracker_that_fails_leaves_the_others_and_is_called_no_more(images, checkpoint, tmp_path, monkeypatch):
    class Fake:
        def __init__(self, fails_at: int) -> None:
            self.fails_at, self.logged, self.finished = fails_at, [], 0

        def log(self, values: dict[str, Any], step: int | None) -> None:
            self.logged.append((step, dict(values)))
            if step == self.fails_at:
                raise ConnectionError("the network is gone\nand more of it")

        def finish(self) -> None:
            self.finished += 1

    frail, sound = Fake(3), Fake(99)
    kinds = {
        name: dpl.track.kinds.Kind(name, lambda: None, lambda place, fake=fake: (fake, "view"))
        for name, fake in (("tensorboard", frail), ("trackio", sound))
    }
    kinds["wandb"] = dpl.track.kinds.Kind("wandb", lambda: None, lambda place: 1 / 0)  # type: ignore[arg-type]
    monkeypatch.setattr(dpl.track, "KINDS", kinds)
    monkeypatch.setattr(dpl.track.kinds.Kind, "check_package", lambda self: None)
    said = []
    run = fit(settings(images, checkpoint, tmp_path / "run", "wandb", "tensorboard", "trackio"), say=said.append)
    assert about_tracking(said) == [
        "--track wandb: has failed (division by zero); the run goes on without it",
        "--track tensorboard: view",
        "--track trackio: view",
        "--track tensorboard: has failed (the network is gone); the run goes on without it",
    ]
    assert [step for step, _ in frail.logged][-1] == 3 and frail.finished == 0
    assert sound.logged[-1] == (STEPS, result_values(metrics(run))) and sound.finished == 1


@pytest.mark.slow
def test_without_track_nothing_of_it_is_imported(images, checkpoint, tmp_path):
    code = (
        "import sys; from dpl.cli.main import main; assert main(sys.argv[1:]) == 0;"
        "print({'wandb', 'tensorboard', 'trackio'} & set(sys.modules))"
    )
    command = [*words(images, checkpoint, tmp_path / "run")[:-1], "--train.epochs", "1", "--shots", "1"]
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_compare_passes_it_on_and_accepts_runs_with_other_trackers(images, checkpoint, tmp_path):
    asked = Compare(
        str(images), ("dpl:layout=1:train.epochs=1",), seeds=("1",), shots=("1",), backbone=str(checkpoint), out=tmp_path
    )
    plan = comparison_plan(replace(asked, track=("tensorboard",)))
    assert plan.runs[0].config.track == ("tensorboard",) and "--track tensorboard" in plan.command
    fit(plan.runs[0].config)
    assert (plan.runs[0].run / "tensorboard").is_dir()
    check_plan(comparison_plan(asked), load_common(plan.runs[0].config))
    with pytest.raises(DplError, match="--track is the same for all methods"):
        comparison_plan(replace(asked, methods=("dpl:track=tensorboard",)))


def test_compare_looks_for_the_package_before_anything_is_written(images, checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(dpl.track.kinds, "find_spec", lambda name: None)
    given = ["compare", str(images), "--methods", "zero-shot", "--backbone", str(checkpoint), "--out", str(tmp_path / "out")]
    assert main([*given, "--track", "tensorboard"]) == 2
    assert "pip install accelerate tensorboard" in capsys.readouterr().err and not (tmp_path / "out").exists()
