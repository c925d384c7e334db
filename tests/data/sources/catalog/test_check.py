"""`dpl datasets`, where and check: what a person sees of a data set that is whole, and of one that is not."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dpl.cli.main import main
from dpl.data.load import load_task
from dpl.data.sources.catalog import CATALOG
from dpl.data.sources.catalog.check import SAMPLE, check
from dpl.data.sources.catalog.dataset import Counts

from .replicas import NAMES, SPLITS

Copy = Callable[..., Path]


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    status = main([str(word) for word in words])
    output = capsys.readouterr()
    return status, output.out, output.err


@pytest.fixture
def true_counts(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalogue with the replicas' counts, which stand for the published ones."""
    for name, row in CATALOG.items():
        task = load_task(name, root=root)
        train, val = (len(pool) if len(pool) else None for pool in (task.train, task.val))
        counts = Counts(len(task.class_names), train, None if name == "imagenet" else val, len(task.test))
        monkeypatch.setitem(CATALOG, name, replace(row, counts=counts))


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_data_set_is_well(capsys, root: Path, true_counts: None, name: str):
    status, output, errors = run(capsys, "datasets", "check", name, "--root", root)
    assert (status, errors) == (0, "") and output.endswith("no problems\n")
    assert CATALOG[name].title in output and f"classes: {len(NAMES[name])}" in output


@pytest.mark.parametrize("name", NAMES)
def test_other_counts_than_the_published_ones_are_told(capsys, root: Path, name: str):
    status, output, errors = run(capsys, "datasets", "check", name, "--root", root)
    counts = CATALOG[name].counts
    assert status == 2 and f"problem: {len(NAMES[name])} classes, not {counts.classes}" in output
    assert f"images, not {counts.test}" in output and "not as published" in errors and errors.count("\n") == 1


@pytest.mark.parametrize("name", SPLITS)
def test_a_missing_split_file_is_a_problem_with_its_place(capsys, without_splits: Path, true_counts: None, name: str):
    status, output, _ = run(capsys, "datasets", "check", name, "--root", without_splits)
    assert status == 2 and f"{without_splits / SPLITS[name][0]} is missing" in output


@pytest.mark.parametrize("name", NAMES)
def test_of_an_absent_data_set_everything_is_missing(capsys, tmp_path: Path, name: str):
    status, output, errors = run(capsys, "datasets", "check", name, "--root", tmp_path)
    row = CATALOG[name]
    places = [(tmp_path / row.folder / file).parent.resolve() / Path(file).name for file in (*row.files, *row.stand_in)]
    assert status == 2 and all(f"problem: {place} is missing" in output for place in places)
    assert f"dpl datasets where {name}" in errors


def test_missing_images_are_counted_by_part(copy: Copy, true_counts: None):
    root = copy("dtd")
    task = load_task("dtd", root=root)
    gone = [*task.train[:3], task.test[0]]
    for item in gone:
        assert isinstance(item.image, Path)
        item.image.unlink()
    checked = check(CATALOG["dtd"], root)
    assert {part.name: part.missing for part in checked.parts} == {"train": 3, "val": 0, "test": 1}
    (problem,) = checked.problems
    assert problem.startswith("4 of 30 images") and str(root / "dtd" / "images") in problem
    assert any(item.name in problem for item in gone)
    assert checked.images == checked.decoded == check(CATALOG["dtd"], root, everything=True).decoded == 26


def test_the_first_unreadable_image_is_named(copy: Copy, true_counts: None):
    root = copy("imagenet")
    task = load_task("imagenet", root=root)
    for item in (task.train[7], task.test[2]):
        assert isinstance(item.image, Path)
        item.image.write_bytes(item.image.read_bytes()[:200])
    (problem,) = check(CATALOG["imagenet"], root).problems
    assert problem.startswith("2 of 60 images") and str(task.train[7].image) in problem


def test_a_class_without_training_images_is_a_problem(copy: Copy, true_counts: None):
    root = copy("imagenet")
    for path in (root / "imagenet/images/train/n01443537").iterdir():
        path.unlink()
    (problem,) = check(CATALOG["imagenet"], root).problems
    assert "n01443537 has no images" in problem


def test_a_sample_is_spread_over_all_parts_and_everything_is_everything(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dpl.data.sources.catalog.check.SAMPLE", 7)
    seen: list[Path] = []
    monkeypatch.setattr("dpl.data.sources.catalog.check.unreadable", lambda paths: seen.extend(paths) or {})
    checked = check(CATALOG["imagenet"], root)
    assert checked.decoded == len(seen) <= 7 and checked.images == 60 and SAMPLE == 200
    assert {path.parts[-3] for path in seen} == {"train", "val"} and len({path.parent for path in seen}) > 4
    steps: list[tuple[int, int]] = []
    seen.clear()
    checked = check(CATALOG["imagenet"], root, everything=True, on_step=lambda done, total: steps.append((done, total)))
    assert checked.decoded == len(seen) == len(set(seen)) == 60 and steps == [(60, 60)]


def test_classes_of_other_sizes_than_the_others_are_told_where_all_should_be_equal(copy: Copy, true_counts: None):
    root = copy("imagenet", "imagenetv2")
    folder = root / "imagenetv2" / "imagenetv2-matched-frequency-format-val"
    (folder / "0" / "0e.jpeg").rename(folder / "1" / "2e.jpeg")
    (problem,) = check(CATALOG["imagenetv2"], root).problems
    assert problem == "test: not 2 images each in 2 classes: tench (1), goldfish (3)"


def test_a_part_that_lacks_a_class_is_told(copy: Copy):
    root = copy("dtd")
    path = root / SPLITS["dtd"][0]
    rows = json.loads(path.read_text())
    rows["val"] = [row for row in rows["val"] if row[1] != 1]
    path.write_text(json.dumps(rows))
    problems = check(CATALOG["dtd"], root).problems
    assert "val: no images of 1 of 3 classes" in problems and not any("train: no images" in problem for problem in problems)


def test_broken_annotations_are_a_problem_not_a_stop(capsys, copy: Copy):
    root = copy("dtd")
    (root / SPLITS["dtd"][0]).write_text("{")
    status, output, errors = run(capsys, "datasets", "check", "dtd", "--root", root)
    assert status == 2 and "is not JSON" in output and "not as published (1 problem" in errors


@pytest.mark.parametrize("name", NAMES)
def test_where_says_what_to_get_and_how_to_lay_it_out(capsys, name: str):
    status, output, _ = run(capsys, "datasets", "where", name)
    row = CATALOG[name]
    assert status == 0 and "https://" in output and f"dpl datasets check {name} --root ROOT" in output
    lines = [line.strip() for line in output.splitlines()]
    assert f"{row.folder}/" in lines
    for file in (*row.files, *row.stand_in, *filter(None, [row.split])):
        assert any(line.split("  ")[0] == file for line in lines), file
    assert all(any(line.startswith(file) and "only without" in line for line in lines) for file in row.stand_in)


@pytest.mark.parametrize("name", NAMES)
def test_what_where_names_is_what_the_reader_needs(root: Path, name: str):
    row = CATALOG[name]
    for file in (*row.files, *row.stand_in, *filter(None, [row.split])):
        assert (root / row.folder / file).exists(), file
    assert (root / row.folder / row.images).is_dir()


def test_the_list_says_what_is_there(capsys, copy: Copy):
    root = copy("dtd", "imagenet")
    output = run(capsys, "datasets", "--root", root)[1]
    there = {line.split()[0]: line.split()[-1] for line in output.splitlines() if line.split()[:1] and line.split()[0] in NAMES}
    assert there == {name: "yes" if name in ("dtd", "imagenet") else "no" for name in NAMES}
    plain = run(capsys, "datasets")[1]
    assert all(name in plain for name in NAMES) and "yes" not in plain.split()


@pytest.mark.parametrize("action", ["check", "where"])
def test_an_unknown_name_lists_the_known(capsys, tmp_path: Path, action: str):
    words = ["--root", tmp_path] if action == "check" else []
    status, _, errors = run(capsys, "datasets", action, "mnist", *words)
    assert status == 2 and "'mnist'" in errors and all(name in errors for name in NAMES)


def test_the_catalogue_is_light():
    code = "import sys, dpl.data.sources.catalog; print([name for name in ('torch', 'scipy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_more_images_than_published_are_told_too(root: Path):
    row = replace(CATALOG["imagenet_r"], counts=Counts(3, None, None, 5))
    assert check(row, root).problems == ("test: 6 images, not 5",)
