"""The timing of both stages: what is run, and how the paper's epochs are reckoned."""

from types import SimpleNamespace
from typing import Any

import pytest

import dpl
from benchmarks import seconds
from benchmarks.__main__ import main

pytestmark = pytest.mark.slow  # nothing of dpl itself is tested here


def test_the_papers_search_is_one_epoch_times_its_epochs_and_the_training(monkeypatch: pytest.MonkeyPatch):
    searched: list[Any] = []
    trained: list[Any] = []

    def search(*parts: Any) -> SimpleNamespace:
        searched.append(parts[3].epochs if len(parts) == 4 else None)
        return SimpleNamespace(layout="found", prompts="its own")

    def train(*parts: Any, start: Any = None) -> None:
        trained.append((parts[3], start))

    def rounds(stages: dict[str, Any], *_: Any):
        for stage in stages.values():
            stage()
        yield {"training": 2.0, "ours": 3.0, "epoch": 0.5}

    monkeypatch.setattr(dpl, "search_layout", search)
    monkeypatch.setattr(dpl, "train_prompts", train)
    monkeypatch.setattr(seconds, "rounds", rounds)
    row = seconds._row(dpl.load_backbone(), dpl.load_task("counting"), seconds.Settings(shots=1))
    assert row == ["counting", "2.0", "3.0", "1.50", "42.0", "21.00"]
    assert searched == [None, 1] and trained == [(dpl.PromptLayout.uniform(6, 6, 6), None), ("found", "its own")]


def test_the_command_prints_a_row_and_the_machine(capsys: pytest.CaptureFixture[str]):
    assert main(["seconds", "--tasks", "counting", "--shots", "1", "--rounds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| counting | ") and "threads, load" in lines[-1]


def test_no_round_is_refused(capsys: pytest.CaptureFixture[str]):
    assert main(["seconds", "--rounds", "0"]) == 2
    assert capsys.readouterr().err == "benchmarks: rounds 0: must be 1 at least\n"
