"""The command: it goes on where it was, and says what does not fit."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import step
from benchmarks.__main__ import main
from benchmarks.memory import Setup, measure_apart, peak_memory
from benchmarks.subjects import SUBJECTS, Case
from dpl.utils.errors import DplError
from dpl.utils.files import read_json

pytestmark = pytest.mark.slow  # nothing of dpl itself is tested here

SETUP = Setup("tiny", "fp32", "cpu", 1, 1)


@pytest.fixture
def settings(tmp_path: Path) -> step.Settings:
    return step.Settings(
        model="tiny", classes=(3,), options=(2,), layout=1, runs=1, memory=False, threads=1, out=tmp_path / "step.json"
    )


def test_a_second_start_measures_only_what_is_missing(settings: step.Settings, capsys: pytest.CaptureFixture):
    step.main(settings)
    first = read_json(settings.file)
    step.main(replace(settings, runs=3, stage=("search",)))
    second = read_json(settings.file)
    search, train = (case.key for case in settings.cases)
    assert len(first["sessions"]) == 1 and len(second["sessions"]) == 2
    assert second["cases"][search]["rounds"][:1] == first["cases"][search]["rounds"]
    assert len(second["cases"][search]["rounds"]) == 3
    assert second["cases"][train] == first["cases"][train]
    assert max(value for name, value in first["equality"]["search"].items() if name != "case") < 1e-4
    assert "going on with" in capsys.readouterr().out


def test_other_measurements_do_not_mix(settings: step.Settings):
    step.main(settings)
    with pytest.raises(DplError, match="give another --out"):
        step.main(replace(settings, seed=2))
    step.main(replace(settings, seed=2, overwrite=True))
    assert len(read_json(settings.file)["sessions"]) == 1


def test_what_does_not_fit_is_said_and_not_timed(settings: step.Settings, capsys: pytest.CaptureFixture):
    kept = {name: step.step_work(name, settings.cases[0], step.SHAPES["tiny"]).kept_bytes for name in SUBJECTS}
    limit = (kept["naive"] + max(kept[name] for name in SUBJECTS if name != "naive")) / 2
    step.main(replace(settings, stage=("search",), memory_limit=limit / 2**30))
    (entry,) = read_json(settings.file)["cases"].values()
    assert "autograd keeps at least" in entry["memory"]["naive"]["does_not_fit"]
    assert set(entry["rounds"][0]) == {"ours", "plain", "ideal"}
    assert "| search | 3 | 0..2 | does not fit |" in capsys.readouterr().out


def test_peak_memory_is_of_the_process_alone_and_an_allocation_that_fails_is_told():
    fits = peak_memory("ours", Case("train", 3, 1), SETUP)
    assert 0 < fits["step_mib"] < fits["peak_mib"] < 4000
    # 41 options and 120 classes: some 100 MiB in tensors of less than one.
    told = measure_apart("naive", Case("search", 120, 40), SETUP, limit=64 * 2**20)
    assert told == {"does_not_fit": "an allocation failed at 64 MiB"}


def test_bad_input_ends_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main(["stepp"]) == 2
    assert main(["step", "--classes", "1", "--out", str(tmp_path / "x.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 2
    assert main([]) == 0
