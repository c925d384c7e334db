"""Runs that are stopped, at any moment and in any way, and go on to the very same result."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dpl import DplError, FitRun, SearchConfig, TrainConfig, fit
from dpl.cli.main import main
from dpl.pipeline import resume
from tests.cases import quick_and_slow

RESULTS = ("class_features.safetensors", "explanation.json", "explanation.safetensors", "head.safetensors", "layout.json")
RESULTS = (*RESULTS, "prompts.safetensors")


class Killed(BaseException):
    """Not an Exception: nothing may catch it, as nothing catches kill -9."""


def _settings(images: Path, checkpoint: Path, out: Path, epochs: int = 2) -> FitRun:
    return FitRun(
        data=str(images),
        backbone=str(checkpoint),
        shots=4,
        out=out,
        search=SearchConfig(epochs=epochs, batch_size=6, options=(0, 1, 3), patience=0),
        train=TrainConfig(epochs=epochs, batch_size=6),
    )


def _outcome(run: Path) -> dict:
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    for record in history:
        del record["seconds"]
    metrics = json.loads((run / "metrics.json").read_text())
    for cost in ("seconds", "peak_memory_bytes"):
        metrics.pop(cost, None)
    return {name: (run / name).read_bytes() for name in RESULTS} | {"history": history, "metrics": metrics}


@pytest.fixture(scope="module")
def uninterrupted(images: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    return _outcome(fit(_settings(images, checkpoint, tmp_path_factory.mktemp("runs") / "whole")))


@pytest.mark.parametrize("stop_after", quick_and_slow([2, 4, 7], [1, 3, 5, 6, 8]))
def test_a_run_stopped_after_any_step_ends_the_same(images, checkpoint, tmp_path, uninterrupted, stop_after: int):
    steps = iter(range(1, 99))

    def stop(*_):
        if next(steps) == stop_after:
            raise Killed

    with pytest.raises(Killed):
        fit(_settings(images, checkpoint, tmp_path / "run"), on_step=stop)
    assert _outcome(resume(tmp_path / "run")) == uninterrupted


@pytest.mark.parametrize(
    ("stop_after", "inherit"), quick_and_slow([(4, True)], [(2, True), (5, True), (2, False), (4, False), (5, False)])
)
def test_a_run_of_the_papers_search_ends_the_same_too(images, checkpoint, tmp_path, stop_after: int, inherit: bool):
    steps = iter(range(1, 99))

    def stop(*_):
        if next(steps) == stop_after:
            raise Killed

    settings = _settings(images, checkpoint, tmp_path / "whole")
    settings = replace(settings, search=replace(settings.search, method="mixture", budget=0), inherit=inherit)
    whole = _outcome(fit(settings))
    with pytest.raises(Killed):
        fit(replace(settings, out=tmp_path / "run"), on_step=stop)
    assert _outcome(resume(tmp_path / "run")) == whole


@pytest.mark.parametrize("stop_after", quick_and_slow([1, 7, 15, 26], [2, 3, 5, 8, 9, 11, 13, 14, 16, 25, 27, 28]))
def test_a_run_stopped_at_any_write_ends_the_same(images, checkpoint, tmp_path, uninterrupted, monkeypatch, stop_after: int):
    writes = iter(range(1, 99))
    replace = Path.replace

    def stop(*arguments):
        if next(writes) == stop_after:
            raise Killed
        return replace(*arguments)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Path, "replace", stop)
        fit(_settings(images, checkpoint, tmp_path / "run"))
    if not (tmp_path / "run" / "config.json").exists():  # stopped before the run was one: begin again
        fit(_settings(images, checkpoint, tmp_path / "run"))
    assert _outcome(resume(tmp_path / "run")) == uninterrupted


def test_a_full_disk_stops_with_one_line_and_the_run_can_go_on(images, checkpoint, tmp_path, uninterrupted, monkeypatch):
    writes = iter(range(1, 99))
    fsync_free_write = os.chmod

    def full(*arguments, **options):
        if next(writes) > 6:
            raise OSError(28, "No space left on device")
        return fsync_free_write(*arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(DplError, match="state.safetensors: cannot be written .No space"):
        patch.setattr(os, "chmod", full)
        fit(_settings(images, checkpoint, tmp_path / "run"))
    assert _outcome(resume(tmp_path / "run")) == uninterrupted


def test_a_run_goes_on_in_the_precision_that_auto_meant_when_it_began(images, checkpoint, tmp_path, monkeypatch):
    def stop(stage, done, *_):
        if (stage, done) == ("train", 1):
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("dpl.backbones.devices._is_faster_in_bf16", lambda *_: True)
        whole = _outcome(fit(_settings(images, checkpoint, tmp_path / "whole")))
        with pytest.raises(Killed):
            fit(_settings(images, checkpoint, tmp_path / "run"), on_step=stop)
    assert _outcome(resume(tmp_path / "run")) == whole  # on a machine where "auto" is fp32


def test_a_finished_run_stays_as_it_is(images, checkpoint, tmp_path, uninterrupted):
    run = fit(_settings(images, checkpoint, tmp_path / "run"))
    times = {path: path.stat().st_mtime_ns for path in run.iterdir()}
    assert sorted(path.name for path in times) == sorted(
        ["config.json", "history.jsonl", "metrics.json", "report.html", *RESULTS]
    )
    said = []
    assert resume(run, say=said.append) == run
    assert {path: path.stat().st_mtime_ns for path in run.iterdir()} == times and "finished already" in said[-1]


def _command(*words: str | Path) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "dpl", *map(str, words)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def _fit_words(images: Path, checkpoint: Path, out: Path) -> list[str | Path]:
    sizes = ["--shots", "4", "--search.epochs", "8", "--search.patience", "0", "--train.epochs", "8"]
    batches = ["--search.batch-size", "6", "--train.batch-size", "6", "--search.options", "0", "1", "3"]
    return ["fit", images, "--backbone", checkpoint, "--out", out, *sizes, *batches]


@pytest.mark.parametrize("rounds", quick_and_slow([1], [4]))
def test_real_processes_killed_at_random_times_end_the_same(images: Path, checkpoint: Path, tmp_path: Path, rounds: int):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main([*map(str, _fit_words(images, checkpoint, whole))]) == 0
    seed = int.from_bytes(os.urandom(4))
    print(f"random times from seed {seed}")
    rng, words, kills = random.Random(seed), _fit_words(images, checkpoint, killed), 0
    for _ in range(rounds):
        with _command(*words) as process:
            _wait_for_step(process, killed)
            time.sleep(rng.uniform(0, 0.4))
            process.kill()
            kills += process.wait() == -signal.SIGKILL
        words = ["fit", "--resume", killed]
    assert kills > 0
    assert main([*map(str, words)]) == 0
    assert _outcome(killed) == _outcome(whole)


def _wait_for_step(process: subprocess.Popen, run: Path) -> None:
    """Until the process has saved a step of its own, or ended."""
    state = run / "checkpoint" / "state.safetensors"
    before = state.stat().st_mtime_ns if state.exists() else 0
    while process.poll() is None:
        try:
            if state.stat().st_mtime_ns > before:
                return
        except FileNotFoundError:  # not there yet, or gone: the run has ended
            pass
        time.sleep(0.005)


def test_ctrl_c_says_how_to_go_on(images: Path, checkpoint: Path, tmp_path: Path):
    with _command(*_fit_words(images, checkpoint, tmp_path / "run")) as process:
        _wait_for_step(process, tmp_path / "run")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert process.returncode == 130
    assert errors.splitlines()[-1] == f"dpl: stopped; go on with: dpl fit --resume {tmp_path / 'run'}"
    assert "Traceback" not in errors


def test_a_run_begun_with_relative_paths_goes_on_from_elsewhere(images, checkpoint, tmp_path, monkeypatch, uninterrupted):
    def stop(*_):
        raise Killed

    settings = replace(_settings(images, checkpoint, tmp_path / "run"), data=images.name)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.chdir(images.parent)
        fit(settings, on_step=stop)
    monkeypatch.chdir(tmp_path)
    assert _outcome(resume(Path("run"))) == uninterrupted


def test_images_that_changed_meanwhile_are_refused(images, checkpoint, tmp_path):
    def stop(*_):
        raise Killed

    own = Path(shutil.copytree(images, tmp_path / "own"))
    with pytest.raises(Killed):
        fit(_settings(own, checkpoint, tmp_path / "run"), on_step=stop)
    for path in (own / "red").iterdir():
        path.rename(path.with_stem(f"new{path.stem}"))
    with pytest.raises(DplError, match="run: the images in .*own have changed since the run began"):
        resume(tmp_path / "run")
