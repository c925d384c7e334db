"""The four protocols end to end: runs, evaluations and tables; a repeated command repeats no run."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t

import dpl.experiments.reproduce.run
import dpl.pipeline
from dpl.cli.main import main
from tests.cases import quick_and_slow

SEEDS = (1, 2)
METHODS = ("coop:train.epochs=1:context=2", "dpl:layout=1:train.epochs=2:preset=default")
FOLDERS = ("coop_train.epochs=1_context=2", "dpl_layout=1_train.epochs=2_preset=default")
FILES = ("reproduce.json", "reproduce.md", "reproduce.csv")


class Killed(BaseException):
    """Stands for a kill of the process."""


def words(protocol: str, out: Path, checkpoint: Path, *more: object, seeds: str = "1,2") -> list[str]:
    common = ["--methods", ",".join(METHODS), "--seeds", seeds, "--backbone", checkpoint, "--out", out]
    return [str(word) for word in ("reproduce", protocol, *more, *common)]


def read(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def half(values: np.ndarray) -> float:
    """Half width of the 95 % interval of the mean of two values: t = 12.706 for one degree of freedom."""
    low, high = t.interval(0.95, 1, values.mean(), values.std(ddof=1) / 2**0.5) if values.std() else (0, 0)
    return (high - low) / 2


def same(measured: dict, values: np.ndarray) -> bool:
    return measured == {"mean": pytest.approx(values.mean()), "half": pytest.approx(half(values), abs=1e-9), "count": len(values)}


@pytest.fixture(scope="module")
def base_to_new(folders, checkpoint, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("base-to-new") / "out"
    assert main(words("base-to-new", out, checkpoint, "--data", *folders, "--shots", "2")) == 0
    return out


def test_base_to_new_is_learned_on_base_and_evaluated_on_both_halves(base_to_new: Path):
    for name, base, new in (("first", 2, 2), ("second", 3, 2)):
        for folder in FOLDERS:
            run = base_to_new / name / f"{folder}-2shot-seed1"
            assert read(run / "config.json")["settings"]["classes"] == "base" and read(run / "metrics.json")["classes"] == base
            assert read(base_to_new / name / f"{run.name}.new.json")["classes"] == new


def test_the_tables_of_base_to_new_are_what_the_files_say(base_to_new: Path):
    found = {
        (half_of, name, folder): np.array([
            read(base_to_new / name / f"{folder}-2shot-seed{seed}{file}")["accuracy"] for seed in SEEDS
        ])
        for half_of, file in (("base", "/metrics.json"), ("new", ".new.json"))
        for name in ("first", "second")
        for folder in FOLDERS
    }  # fmt: skip
    tables = read(base_to_new / "reproduce.json")["measured"]["tables"]
    assert [table["title"] for table in tables] == [
        "2 shots: base classes", "2 shots: new classes", "2 shots: harmonic mean"
    ]  # fmt: skip
    for label, folder in zip(METHODS, FOLDERS, strict=True):
        for table, half_of in zip(tables, ("base", "new"), strict=False):
            for name in ("first", "second"):
                assert same(table["rows"][name][label], found[half_of, name, folder])
            assert same(table["average"][label], (found[half_of, "first", folder] + found[half_of, "second", folder]) / 2)
        averages = [(found[part, "first", folder] + found[part, "second", folder]) / 2 for part in ("base", "new")]
        with np.errstate(invalid="ignore"):
            for name in ("first", "second"):
                b, n = found["base", name, folder], found["new", name, folder]
                assert same(tables[2]["rows"][name][label], np.nan_to_num(2 * b * n / (b + n)))
            b, n = averages
            assert same(tables[2]["average"][label], np.nan_to_num(2 * b * n / (b + n)))


def test_no_figure_is_printed_as_published_where_none_is_known(base_to_new: Path):
    text = (base_to_new / "reproduce.md").read_text()
    assert "dpl knows no published figures of this protocol." in text and "arXiv" not in text
    assert read(base_to_new / "reproduce.json")["published"]["figures"] == []


def test_the_same_command_again_does_nothing_again(base_to_new: Path, folders, checkpoint, monkeypatch):
    def never(*_: object, **__: object) -> None:
        raise AssertionError("done again")

    for place in (
        "dpl.experiments.compare.run.fit",
        "dpl.experiments.compare.run.resume",
        "dpl.experiments.reproduce.run.accuracies",
    ):
        monkeypatch.setattr(place, never)
    before = {path: path.read_bytes() for path in base_to_new.rglob("*") if path.is_file()}
    assert main(words("base-to-new", base_to_new, checkpoint, "--data", *folders, "--shots", "2")) == 0
    assert {path: path.read_bytes() for path in base_to_new.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("stop", quick_and_slow(["in an evaluation"], ["in a run"]))
def test_what_was_killed_goes_on_to_the_same_end(stop: str, base_to_new: Path, folders, checkpoint, tmp_path, monkeypatch):
    module, name = (dpl.pipeline, "train") if stop == "in a run" else (dpl.experiments.reproduce.run, "accuracies")
    real, calls = getattr(module, name), iter(range(1, 99))

    def killed(*given, **named):
        if next(calls) == 2:
            raise Killed
        return real(*given, **named)

    out = tmp_path / "out"
    command = words("base-to-new", out, checkpoint, "--data", folders[0], "--shots", "2", seeds="2")
    with monkeypatch.context() as patch:
        patch.setattr(module, name, killed)
        with pytest.raises(Killed):
            main(command)
    assert read(out / "reproduce.json")["done"] == 0  # the tables are written after each data set
    assert main(command) == 0
    assert read(out / "reproduce.json")["done"] == read(out / "reproduce.json")["planned"] == 2
    for folder in FOLDERS:
        for name in (f"{folder}-2shot-seed2.new.json", f"{folder}-2shot-seed2/layout.json"):
            assert read(out / "first" / name) == read(base_to_new / "first" / name)


def test_an_evaluation_of_other_parameters_is_done_again(folders, checkpoint, tmp_path):
    command = words("base-to-new", tmp_path / "out", checkpoint, "--data", folders[0], "--shots", "1", seeds="1")
    assert main(command) == 0
    kept = next((tmp_path / "out" / "first").glob("*.new.json"))
    right = read(kept)
    kept.write_text(json.dumps(right | {"of": "something else", "accuracy": 0.123}))
    assert main(command) == 0
    assert read(kept) == right and 0.123 not in [one["accuracy"] for one in _evaluations(tmp_path / "out")]


def _evaluations(out: Path) -> list[dict]:
    return read(out / "reproduce.json")["measured"]["evaluations"]


def test_few_shot_on_the_replicas_has_the_published_figures_beside_and_apart(root, checkpoint, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["reproduce", "dpl-fewshot", "--root", str(root), "--methods", "coop:train.epochs=1", "--seeds", "1"]
    command += ["--shots", "1,16", "--backbone", str(checkpoint), "--out", str(out)]
    assert main([*command, "--data", "dtd", "eurosat"]) == 0
    output, found = capsys.readouterr().out, read(out / "reproduce.json")
    assert [(table["title"], [*table["rows"]]) for table in found["measured"]["tables"]] == [
        ("1 shot", ["dtd", "eurosat"]), ("16 shots", ["dtd", "eurosat"])
    ]  # fmt: skip
    figures = {one["method"]: one["accuracy"] for one in found["published"]["figures"]}
    assert figures == {"zero-shot": 0.651, "coop": 0.8, "tip-adapter-f": 0.807, "PLOT++": 0.821, "clip-lora": 0.83}
    assert "published" not in json.dumps(found["measured"])
    # In the text every line that has a published number says so, or gives its source.
    for text in (output, (out / "reproduce.md").read_text().replace("\\", "")):
        for number in ("65.1", "80.0", "80.7", "82.1", "83.0"):
            lines = [line for line in text.splitlines() if number in line]
            assert lines and all(("not measured here" in line or "arXiv" in line) and f"[{number}]" in line for line in lines)
        assert text.count("CLIP ViT-B/16, not measured here") == 1
        assert "DPL gains 2.60 points" in text
    rows = list(csv.DictReader((out / "reproduce.csv").read_text().splitlines()))
    kinds = [row["kind"] for row in rows]
    assert kinds.count("measured") == 4 and kinds.count("published (not measured here)") == 5
    assert all(row["source"] and row["backbone"] == "CLIP ViT-B/16" for row in rows if row["kind"] != "measured")
    settings = read(out / "eurosat" / "coop_train.epochs=1-16shot-seed1" / "config.json")["settings"]
    assert settings["train"]["batch_size"] == 32 and settings["preset"] == "paper" and settings["root"] == str(root)


@pytest.mark.slow
def test_base_to_new_on_the_replicas_that_have_two_classes_in_each_half(root, checkpoint, tmp_path):
    data, out = ("imagenet", "caltech101", "fgvc_aircraft", "eurosat"), tmp_path / "out"
    command = ["reproduce", "base-to-new", "--root", root, "--methods", "coop:train.epochs=1", "--seeds", "1", "--shots", "1"]
    assert main([str(word) for word in (*command, "--data", *data, "--backbone", checkpoint, "--out", out)]) == 0
    assert all([*table["rows"]] == [*data] for table in read(out / "reproduce.json")["measured"]["tables"])
    for name in data:
        (run,) = (path for path in (out / name).iterdir() if (path / "metrics.json").exists())
        base, new = read(run / "metrics.json")["classes"], read(run.parent / f"{run.name}.new.json")["classes"]
        assert base - new in (0, 1) and new >= 2


@pytest.fixture(scope="module")
def cross(root, checkpoint, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("cross-dataset") / "out"
    assert main(words("cross-dataset", out, checkpoint, "--root", root, "--data", "dtd", "caltech101", "--shots", "2")) == 0
    return out


def test_transfer_to_other_data_averages_those_not_learned_on(cross: Path):
    learned, other = read(cross / "reproduce.json")["measured"]["tables"]
    assert [*learned["rows"]] == ["imagenet"] and not learned["average"] and [*other["rows"]] == ["dtd", "caltech101"]
    for label, folder in zip(METHODS, FOLDERS, strict=True):
        values = {
            data: np.array([read(cross / "imagenet" / f"{folder}-2shot-seed{seed}.on-{data}.json")["accuracy"] for seed in SEEDS])
            for data in ("dtd", "caltech101")
        }
        assert all(same(other["rows"][data][label], values[data]) for data in values)
        assert same(other["average"][label], (values["dtd"] + values["caltech101"]) / 2)
    assert sorted(path.name for path in cross.iterdir()) == ["imagenet", *sorted(FILES)]


def test_an_evaluation_is_that_of_dpl_evaluate(cross: Path, capsys):
    run = cross / "imagenet" / f"{FOLDERS[1]}-2shot-seed1"
    assert main(["evaluate", str(run), "--on", "dtd", "--json"]) == 0
    said, kept = json.loads(capsys.readouterr().out), read(run.parent / f"{run.name}.on-dtd.json")
    assert {key: kept[key] for key in said} == said


def test_domain_takes_what_belongs_to_classes_where_the_names_are_the_same(root, checkpoint, tmp_path):
    command = ["reproduce", "domain", "--root", str(root), "--methods", "linear-probe", "--seeds", "1", "--shots", "2"]
    assert main([*command, "--backbone", str(checkpoint), "--out", str(tmp_path / "out")]) == 0
    (other,) = read(tmp_path / "out" / "reproduce.json")["measured"]["tables"][1:]
    assert [*other["rows"]] == ["imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r"]
    assert other["average"]["linear-probe"]["half"] is None
    kept = read(tmp_path / "out" / "imagenet" / "linear-probe-2shot-seed1.on-imagenet_a.json")
    assert kept["classes"] == 2


def test_a_source_of_ones_own(folders, checkpoint, tmp_path):
    first, second = folders
    out = tmp_path / "out"
    assert main(words("domain", out, checkpoint, "--source", first, "--data", second, "--shots", "1", seeds="1")) == 0
    assert len(list((out / "first").glob("*.on-second.json"))) == 2
