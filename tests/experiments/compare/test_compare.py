"""`dpl compare` refuses wrong arguments before it writes, tabulates the runs' results, and repeats no finished run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t

import dpl.pipeline
from dpl.cli.main import main
from dpl.config import FitRun
from dpl.experiments.compare import PlannedRun, RunTime, time_left
from dpl.utils.errors import DplError
from tests.cases import quick_and_slow

METHODS = "coop:train.epochs=2:context=2,dpl:layout=1:train.epochs=2,zero-shot"
SEEDS = (1, 2)
# What differs between two runs of the same settings.
COSTS = {"seconds", "peak_memory_bytes"}


def words(images: Path, checkpoint: Path, out: Path, **changes: str) -> list[str]:
    options = {"methods": METHODS, "seeds": "1,2", "shots": "1,2", "backbone": str(checkpoint), "out": str(out)} | changes
    return ["compare", str(images), *(word for name, value in options.items() for word in (f"--{name}", *value.split(" ")))]


@pytest.fixture(scope="module")
def compared(images: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compared") / "out"
    assert main(words(images, checkpoint, out)) == 0
    return out


def results(out: Path) -> dict[tuple[str, int, int], dict]:
    return {(run["label"], run["shots"], run["seed"]): run for run in json.loads((out / "compare.json").read_text())["runs"]}


def without_costs(value):
    if isinstance(value, dict):
        return {key: without_costs(part) for key, part in value.items() if key not in COSTS}
    return [without_costs(part) for part in value] if isinstance(value, list) else value


def test_tables_are_what_the_run_folders_say(compared: Path):
    found = json.loads((compared / "compare.json").read_text())
    assert [table["shots"] for table in found["tables"]] == [1, 2] and found["done"] == found["planned"] == 12
    folders = {"coop_train.epochs=2_context=2": 0, "dpl_layout=1_train.epochs=2": 1, "zero-shot": 2}
    for table in found["tables"]:
        read = {
            name: [json.loads((compared / f"{name}-{table['shots']}shot-seed{seed}/metrics.json").read_text()) for seed in SEEDS]
            for name in folders
        }
        accuracy = {name: np.array([metrics["accuracy"] for metrics in each]) for name, each in read.items()}
        reference, *_ = accuracy.values()
        for name, place in folders.items():
            row = table["rows"][place]
            for values, measured in ((accuracy[name], row["accuracy"]), (accuracy[name] - reference, row["difference"])):
                if measured is None:
                    assert place == 0
                    continue
                assert measured["mean"] == pytest.approx(values.mean())
                low, high = t.interval(0.95, 1, values.mean(), values.std(ddof=1) / 2**0.5) if values.std() else (values[0],) * 2
                assert measured["half"] == pytest.approx((high - low) / 2, abs=1e-9)
            for cost in ("trainable_parameters", "seconds", "peak_memory_bytes"):
                assert row[cost] == pytest.approx(np.mean([metrics[cost] for metrics in read[name]]))


def test_runs_are_ordinary_ones_with_the_settings_asked_for(compared: Path, images: Path):
    config = json.loads((compared / "dpl_layout=1_train.epochs=2-2shot-seed2" / "config.json").read_text())
    assert config["settings"]["layout"] == "1" and config["settings"]["train"]["epochs"] == 2
    assert (config["settings"]["shots"], config["settings"]["seed"], config["data"]) == (2, 2, str(images))
    said = json.loads((compared / "compare.json").read_text())
    assert said["settings"]["dpl:layout=1:train.epochs=2"]["2"]["layout"] == "1"
    assert said["command"].startswith("dpl compare ") and "coop:train.epochs=2:context=2" in said["command"]


def test_the_same_command_again_does_nothing_again(compared: Path, images, checkpoint, monkeypatch, capsys):
    def never(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr("dpl.experiments.compare.run.fit", never)
    monkeypatch.setattr("dpl.experiments.compare.run.resume", never)
    before = {path: path.read_bytes() for path in compared.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main(words(images, checkpoint, compared)) == 0
    assert {path: path.read_bytes() for path in compared.rglob("*") if path.is_file()} == before
    output = capsys.readouterr()
    assert output.err == "12 of 12 runs are there already\n" and "colours, 2 shots" in output.out


def test_more_can_be_asked_for_later_and_less_shown(compared: Path, images, checkpoint, tmp_path, capsys):
    out = Path(shutil.copytree(compared, tmp_path / "out"))
    capsys.readouterr()
    changes = {"methods": "zero-shot zero-shot:ensemble", "shots": "2", "seeds": "2", "reference": "zero-shot:ensemble"}
    assert main(words(images, checkpoint, out, **changes)) == 0
    errors = capsys.readouterr().err.splitlines()
    assert errors[0] == "1 of 2 runs are there already" and errors[-1].startswith("2 of 2  zero-shot:ensemble, 2 shots, seed 2: ")
    assert list(results(out)) == [("zero-shot", 2, 2), ("zero-shot:ensemble", 2, 2)]
    assert json.loads((out / "compare.json").read_text())["tables"][0]["rows"][1]["difference"] is None


def test_runs_with_other_settings_are_refused_and_nothing_is_touched(compared: Path, images, checkpoint, tmp_path, capsys):
    def refused(message: str, out: Path = compared, **changes: str) -> None:
        before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        capsys.readouterr()
        assert main(words(images, checkpoint, out, **changes)) == 2
        output = capsys.readouterr()
        assert output.out == "" and output.err.count("\n") == 1 and message in output.err, output.err
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before

    refused("was made with --template nothing, not {}", methods="zero-shot", template="{}")
    refused("was made with --preset default, not paper", methods="zero-shot", preset="paper")
    refused("precision auto, not fp32", methods="zero-shot", precision="fp32")
    refused("resize checkpoint, not pad", methods="zero-shot", resize="pad")
    out = Path(shutil.copytree(compared, tmp_path / "out"))
    place = out / "zero-shot-1shot-seed1"
    config = json.loads((place / "config.json").read_text())
    squashed = config["backbone"]["preprocessing"] | {"resize": "squash"}
    for change, message in (
        (
            {"backbone": config["backbone"] | {"identity": config["backbone"]["identity"] | {"weights": "0", "half": "0"}}},
            "whose weights differ",
        ),
        ({"backbone": config["backbone"] | {"precision": "bf16"}}, "was made in bf16, not fp32"),
        ({"backbone": config["backbone"] | {"preprocessing": squashed}}, "was made with images resized in another way"),
        ({"shots": {"train": [], "val": []}}, "have changed since the run began"),
        ({"test_images": 1}, "have changed since the run began"),
    ):
        (place / "config.json").write_text(json.dumps(config | change))
        refused(message, out=out)
    shutil.rmtree(place)
    place.mkdir()
    (place / "thesis.txt").touch()
    refused("zero-shot-1shot-seed1: holds other files than a run", out=out)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out": "FILE"}, "is a file; give another --out"),
        ({"out": "OTHER"}, "holds other files than a comparison; give another --out"),
        ({"out": "ELSE"}, "holds a comparison on elsewhere; give another --out"),
        ({"out": "FILE/below"}, "cannot be made"),
        ({"methods": "dpl,coop:context=60"}, "coop:context=60: a text has"),
        ({"methods": "dpl:layout=nowhere"}, "dpl:layout=nowhere: nowhere: cannot read the layout"),
        ({"backbone": "nothing"}, "backbone nothing: is neither tiny"),
    ],
)
def test_what_is_wrong_is_found_before_anything_is_written(images, checkpoint, tmp_path, monkeypatch, capsys, changes, message):
    monkeypatch.chdir(tmp_path)
    Path("FILE").touch()
    Path("OTHER").mkdir()
    Path("OTHER", "thesis.txt").touch()
    Path("ELSE").mkdir()
    Path("ELSE", "compare.json").write_text('{"comparison": {"data": "elsewhere"}}', encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    assert main(words(images, checkpoint, Path(changes.pop("out", "new")), **changes)) == 2
    errors = capsys.readouterr().err
    assert message in errors and errors.count("\n") == 1 and sorted(tmp_path.rglob("*")) == before


class Killed(BaseException):
    """Stands for a kill of the process; it is no Exception, so that nothing catches it."""


def stopping(after: int, with_what: type[BaseException]) -> Callable:
    """Replaces `dpl.optim.stage.Stage.finish_step` by one that raises after `after` steps of all runs."""
    from dpl.optim.stage import Stage

    finish, steps = Stage.finish_step, iter(range(1, 999))

    def finish_step(self, **losses):
        finish(self, **losses)
        if next(steps) == after:
            raise with_what

    return finish_step


@pytest.mark.parametrize(("after", "with_what"), quick_and_slow([], [(1, Killed), (2, Killed), (3, KeyboardInterrupt)]))
def test_stopped_in_the_middle_it_goes_on_to_the_same_files(
    compared: Path, images, checkpoint, tmp_path, monkeypatch, capsys, after: int, with_what: type[BaseException]
):
    out = Path(shutil.copytree(compared, tmp_path / "out"))
    for run in out.glob("*-2shot-seed2"):  # the last ones are yet to be done
        shutil.rmtree(run)
    with monkeypatch.context() as patch:
        patch.setattr("dpl.optim.stage.Stage.finish_step", stopping(after, with_what))
        if with_what is Killed:
            with pytest.raises(Killed):
                main(words(images, checkpoint, out))
        else:
            assert main(words(images, checkpoint, out)) == 130
            assert capsys.readouterr().err.splitlines()[-1] == "dpl: stopped; go on with the same command"
    assert json.loads((out / "compare.json").read_text())["done"] == 9 + (after - 1) // 2
    begun = [path for path in out.iterdir() if (path / "checkpoint").exists()]
    assert len(begun) == 1
    (out / ".compare.json.xyz").touch()  # what a kill may leave of a file
    assert main(words(images, checkpoint, out)) == 0
    (out / ".compare.json.xyz").unlink()
    whole, there = ({path.relative_to(at) for path in at.rglob("*")} for at in (compared, out))
    assert there == whole
    for name in sorted(whole):
        if (compared / name).suffix in (".svg", ".png", ".tex", ".safetensors") or name.name == "layout.json":
            ours, theirs = (compared / name).read_bytes(), (out / name).read_bytes()
            assert theirs.replace(str(out).encode(), b"") == ours.replace(str(compared).encode(), b""), name
        elif name.name in ("metrics.json", "compare.json"):
            ours, theirs = (json.loads((at / name).read_text().replace(str(at), "")) for at in (compared, out))
            assert without_costs(theirs) == without_costs(ours)


def test_stopped_before_there_is_a_run_it_begins_anew(images, checkpoint, tmp_path):
    out = tmp_path / "out"
    place = out / "zero-shot-1shot-seed1"
    place.mkdir(parents=True)
    (place / ".config.json.xyz").write_text("{")
    (out / "compare.json").write_text(json.dumps({"comparison": {"data": str(images)}}))
    assert main(words(images, checkpoint, out, methods="zero-shot", shots="1", seeds="1")) == 0
    assert (place / "report.html").exists() and not (place / ".config.json.xyz").exists()


def test_an_error_in_a_run_names_it(images, checkpoint, tmp_path, monkeypatch, capsys):
    def broken(*_):
        raise DplError("the loss is nan")

    monkeypatch.setattr("dpl.experiments.compare.run.fit", broken)
    assert main(words(images, checkpoint, tmp_path / "out", methods="coop", shots="2", seeds="1")) == 2
    assert capsys.readouterr().err == "dpl: coop, 2 shots, seed 1: the loss is nan\n"


def test_data_and_backbone_are_loaded_once(images, checkpoint, tmp_path, monkeypatch):
    calls: list[str] = []
    for name in ("load_task", "load_backbone"):
        load = getattr(dpl.pipeline, name)
        monkeypatch.setattr(dpl.pipeline, name, lambda *a, name=name, load=load, **o: (calls.append(name), load(*a, **o))[1])
    assert main(words(images, checkpoint, tmp_path / "out", methods="zero-shot", seeds="1,2")) == 0
    assert sorted(calls) == ["load_backbone", "load_task"]


def test_the_time_left_follows_the_method_and_its_shots():
    def run(label: str, shots: int) -> PlannedRun:
        return PlannedRun(label, FitRun("digits", shots=shots))

    times = [RunTime(run("a", 1), 10, 1), RunTime(run("a", 1), 20, 1), RunTime(run("b", 1), 100, 3), RunTime(run("b", 4), 200, 3)]
    assert time_left(times, [run("a", 1)]) == 16
    assert time_left(times, [run("a", 2)]) == 31
    assert time_left(times, [run("b", 8)]) == 403
    assert time_left(times, [run("c", 4), run("b", 1)]) == 203 + 103
    assert time_left(times, []) == 0
