"""`dpl compare`: what it refuses, what its tables hold, and that nothing is done twice."""

import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t

import dpl.pipeline
from dpl.arguments import Compare, parse
from dpl.cli import main
from dpl.compare import PlannedRun, Taken, make_plan, time_left
from dpl.config import FitRun
from dpl.errors import DplError

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


def asked(**changes) -> Compare:
    return replace(Compare("digits", ("dpl",)), **changes)


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


def test_the_command_that_is_written_repeats_the_plan():
    spaced = make_plan(asked(methods=("coop:init='a photo'", "dpl"), seeds=("3,1",), shots=("4 , 2",), template=("a {} dog",)))
    again = make_plan(parse(Compare, shlex.split(spaced.command)[2:], "dpl compare"))
    assert again == spaced and [column.words for column in spaced.columns] == [("--init", "a photo"), ()]


def test_templates_of_a_file_are_in_the_command_and_in_every_run(tmp_path):
    (tmp_path / "t.txt").write_text("a {}\nit's {}\n")
    plan = make_plan(asked(template=(str(tmp_path / "t.txt"), "one {}")))
    (tmp_path / "t.txt").unlink()
    assert {run.config.template for run in plan.runs} == {("a {}", "it's {}", "one {}")}
    assert make_plan(parse(Compare, shlex.split(plan.command)[2:], "dpl compare")) == plan


def test_the_order_is_shots_by_shots_and_in_each_seed_by_seed():
    plan = make_plan(asked(methods=("dpl,coop",), seeds=("2", "1"), shots=("4,1",)))
    order = [(run.config.shots, run.config.seed, run.label) for run in plan.runs]
    assert order == [(shots, seed, label) for shots in (1, 4) for seed in (2, 1) for label in ("dpl", "coop")]
    assert plan.reference == "dpl" and plan.out == Path("runs/compare-digits")


def test_methods_take_the_settings_of_their_own_runs_and_the_preset_of_all():
    plan = make_plan(asked(methods=("coop:class-specific:context=4,dpl:search.options=0 2",), shots=("1",), seeds=("1",)))
    coop, own = (run.config for run in plan.runs)
    assert vars(coop)["design"].class_specific and vars(coop)["design"].context == 4
    assert vars(own)["search"].options == (0, 2)


def test_paper_is_each_methods_published_settings_for_its_shots():
    plan = make_plan(asked(methods=("coop", "dpl:preset=default"), preset="paper", seeds=("1",), shots=("1", "4")))
    trained = [vars(run.config)["train"] for run in plan.runs]
    assert [each.epochs for each in trained] == [50, 20, 100, 20] and trained[0].optimizer == "sgd"


def test_the_same_command_again_does_nothing_again(compared: Path, images, checkpoint, monkeypatch, capsys):
    def never(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr("dpl.compare.work.fit", never)
    monkeypatch.setattr("dpl.compare.work.resume", never)
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
    out = Path(shutil.copytree(compared, tmp_path / "out"))
    place = out / "zero-shot-1shot-seed1"
    config = json.loads((place / "config.json").read_text())
    for change, message in (
        ({"backbone": config["backbone"] | {"fingerprint": "0"}}, "whose weights differ"),
        ({"backbone": config["backbone"] | {"precision": "bf16"}}, "was made in bf16, not fp32"),
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
        ({"methods": ("paint",)}, "no method 'paint': there are dpl, zero-shot"),
        ({"methods": ()}, "--methods: give at least one"),
        ({"methods": (",",)}, "--methods: give at least one"),
        ({"methods": ("dpl,coop", "dpl")}, "--methods: dpl is there twice"),
        ({"methods": ("coop:place=end,coop",)}, "--methods: coop:place=end and coop have the same settings"),
        ({"methods": ("coop:init='a",)}, "a quotation mark is not closed"),
        ({"methods": ("coop:context=0",)}, "context 0: input should be greater"),
        ({"methods": ("coop:seed=3",)}, "--methods coop:seed=3: --seed is the same for all methods"),
        ({"methods": ("coop:method=dpl",)}, "--method is the same for all methods"),
        ({"methods": ("coop:out=x",)}, "--out is the same for all methods"),
        ({"methods": ("coop:overwrite",)}, "--overwrite is the same for all methods"),
        ({"methods": ("coop:preset=best",)}, "no preset 'best'"),
        ({"reference": "zero-shot"}, "--reference zero-shot: is none of the methods dpl"),
        ({"preset": "best"}, "no preset 'best': there are default, paper"),
        ({"seeds": ()}, "--seeds: give at least one number"),
        ({"seeds": ("1,2", "1")}, "--seeds: 1 is there twice"),
        ({"seeds": ("-1",)}, "--seeds -1: must be whole numbers from 0"),
        ({"shots": ("1,many",)}, "--shots many: must be whole numbers from 1"),
        ({"shots": ("0",)}, "--shots 0: must be whole numbers from 1"),
        ({"shots": ("",)}, "--shots: give at least one number"),
        ({"template": ("a photo",)}, "--template 'a photo': must have one {}"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(changes, message):
    with pytest.raises(DplError) as caught:
        make_plan(asked(**changes))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_methods_unknown_option_is_an_error_as_in_fit(capsys):
    with pytest.raises(SystemExit) as stop:
        make_plan(asked(methods=("zero-shot:layout=6",)))
    assert stop.value.code == 2 and "--layout" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out": "FILE"}, "is a file; give another --out"),
        ({"out": "OTHER"}, "holds other files than a comparison; give another --out"),
        ({"out": "ELSE"}, "holds a comparison on elsewhere; give another --out"),
        ({"out": "FILE/below"}, "cannot be made"),
        ({"methods": "dpl,coop:context=60"}, "coop:context=60: a text has"),
        ({"methods": "dpl:layout=nowhere"}, "dpl:layout=nowhere: nowhere: cannot read the layout"),
        ({"backbone": "nothing"}, "backbone nothing: neither tiny"),
    ],
)
def test_what_is_wrong_is_found_before_anything_is_written(images, checkpoint, tmp_path, monkeypatch, capsys, changes, message):
    monkeypatch.chdir(tmp_path)
    Path("FILE").touch()
    Path("OTHER").mkdir()
    Path("OTHER", "thesis.txt").touch()
    Path("ELSE").mkdir()
    Path("ELSE", "compare.json").write_text('{"comparison": {"data": "elsewhere"}}')
    before = sorted(tmp_path.rglob("*"))
    assert main(words(images, checkpoint, Path(changes.pop("out", "new")), **changes)) == 2
    errors = capsys.readouterr().err
    assert message in errors and errors.count("\n") == 1 and sorted(tmp_path.rglob("*")) == before


class Killed(BaseException):
    """Not an Exception: nothing may catch it, as nothing catches kill -9."""


def stopping(after: int, with_what: type[BaseException]) -> Callable:
    """`dpl.stage.Stage.finish_step` that stops after so many steps of all runs."""
    from dpl.stage import Stage

    finish, steps = Stage.finish_step, iter(range(1, 999))

    def finish_step(self, **losses):
        finish(self, **losses)
        if next(steps) == after:
            raise with_what

    return finish_step


@pytest.mark.parametrize(("after", "with_what"), [(1, Killed), (2, Killed), (3, KeyboardInterrupt)])
def test_stopped_in_the_middle_it_goes_on_to_the_same_files(
    compared: Path, images, checkpoint, tmp_path, monkeypatch, capsys, after: int, with_what: type[BaseException]
):
    out = Path(shutil.copytree(compared, tmp_path / "out"))
    for run in out.glob("*-2shot-seed2"):  # the last ones are yet to be done
        shutil.rmtree(run)
    with monkeypatch.context() as patch:
        patch.setattr("dpl.stage.Stage.finish_step", stopping(after, with_what))
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

    monkeypatch.setattr("dpl.compare.work.fit", broken)
    assert main(words(images, checkpoint, tmp_path / "out", methods="coop", shots="2", seeds="1")) == 2
    assert capsys.readouterr().err == "dpl: coop, 2 shots, seed 1: the loss is nan\n"


def test_data_and_backbone_are_loaded_once(images, checkpoint, tmp_path, monkeypatch):
    calls: list[str] = []
    for name in ("load_task", "load_backbone"):
        load = getattr(dpl.pipeline, name)
        monkeypatch.setattr(dpl.pipeline, name, lambda *a, name=name, load=load, **o: (calls.append(name), load(*a, **o))[1])
    assert main(words(images, checkpoint, tmp_path / "out", methods="zero-shot", seeds="1,2")) == 0
    assert sorted(calls) == ["load_backbone", "load_task"]


def test_folders_of_different_labels_are_different():
    labels = ("coop:init='a b'", "coop:init='a-b'", "coop:init='" + "x " * 99 + "a'", "coop:init='" + "x " * 99 + "b'")
    plan = make_plan(asked(methods=labels, seeds=("1",), shots=("1",)))
    names = {run.run.name for run in plan.runs}
    assert len(names) == 4 and all(len(name) < 120 and name.isascii() and "/" not in name for name in names)


def test_the_time_left_follows_the_method_and_its_shots():
    def run(label: str, shots: int) -> PlannedRun:
        return PlannedRun(label, FitRun("digits", shots=shots))

    taken = [Taken(run("a", 1), 10, 1), Taken(run("a", 1), 20, 1), Taken(run("b", 1), 100, 3), Taken(run("b", 4), 200, 3)]
    assert time_left(taken, [run("a", 1)]) == 16
    assert time_left(taken, [run("a", 2)]) == 31
    assert time_left(taken, [run("b", 8)]) == 403
    assert time_left(taken, [run("c", 4), run("b", 1)]) == 203 + 103
    assert time_left(taken, []) == 0
