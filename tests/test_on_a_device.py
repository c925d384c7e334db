"""Whole commands on a device without float64 (`tests.stand_in`): they run, and give what they give on the CPU."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dpl.optim.stage import read_history
from tests.cases import quick_and_slow

pytestmark = pytest.mark.slow

DEVICE = ["--device", "standin"]
# One command per way to compute: both searches, the prompt scale, and every kind of method.
METHODS = {
    "pruning": ["fit", "--augmentation", "protocol", "--search.epochs", "2", "--train.epochs", "2"],
    "mixture": ["search", "--search.method", "mixture", "--search.epochs", "2"],
    "linear-probe": ["fit", "--method", "linear-probe"],
    "tip-adapter-f": ["fit", "--method", "tip-adapter-f", "--train.epochs", "2"],
    "cocoop": ["fit", "--method", "cocoop", "--train.epochs", "1", "--augmentation", "none"],
    "clip-lora": ["fit", "--method", "clip-lora", "--train.epochs", "1"],
}


def words(name: str, checkpoint: Path, images: Path, out: Path, device: str) -> list[str]:
    kind, *more = METHODS[name]
    given = {"--backbone": checkpoint, "--out": out, "--shots": 2, "--device": device}
    return [kind, str(images), *more, *(str(word) for pair in given.items() for word in pair)]


@pytest.fixture(scope="module")
def small_images(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images with fewer pixels than the backbone takes, which training scales up."""
    folder = tmp_path_factory.mktemp("small")
    for file in images.rglob("*.png"):
        (folder / file.parent.name).mkdir(exist_ok=True)
        Image.open(file).resize((10, 12)).save(folder / file.parent.name / file.name)
    return folder


def in_one_process(commands: dict[str, list[str]]) -> dict[str, Any]:
    """What each command gave, by name."""
    command = [sys.executable, "-m", "tests.stand_in", json.dumps(list(commands.values()))]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return dict(zip(commands, json.loads(process.stdout), strict=True))


@pytest.fixture(scope="module")
def done(checkpoint: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of the runs, and by name what each command gave."""
    runs = tmp_path_factory.mktemp("runs")
    run, image = str(runs / "pruning"), str(images / "red" / "0.png")
    return runs, in_one_process({
        "pruning": words("pruning", checkpoint, images, runs / "pruning", "standin"),
        "evaluate": ["evaluate", run, *DEVICE, "--json"],
        "predict": ["predict", run, image, *DEVICE, "--json"],
        "explain": ["explain", run, image, "--out", str(runs / "looked.html"), *DEVICE],
        "cpu": words("pruning", checkpoint, images, runs / "cpu", "cpu"),
        "bf16": [*words("linear-probe", checkpoint, images, runs / "bf16", "standin"), "--precision", "bf16"],
        "second": words("linear-probe", checkpoint, images, runs / "second", "standin:1"),
    })  # fmt: skip


@pytest.fixture(scope="module")
def others(
    checkpoint: Path, images: Path, small_images: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """The same for the other ways to compute."""
    runs = tmp_path_factory.mktemp("others")
    commands = {name: words(name, checkpoint, images, runs / name, "standin") for name in METHODS if name != "pruning"}
    commands["cocoop"] = words("cocoop", checkpoint, small_images, runs / "cocoop", "standin")
    commands["cpu mixture"] = words("mixture", checkpoint, images, runs / "cpu mixture", "cpu")
    return runs, in_one_process(commands)


@pytest.mark.parametrize("name", ["pruning", "evaluate", "predict", "explain"])
def test_a_command_runs_without_float64_and_without_mixing_devices(done, name):
    assert done[1][name]["status"] == 0, done[1][name]["err"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in METHODS if name != "pruning"])
def test_other_ways_to_compute_run_so_too(others, name):
    assert others[1][name]["status"] == 0, others[1][name]["err"]


@pytest.mark.parametrize(
    ("given", "name", "cpu"), quick_and_slow([("done", "pruning", "cpu")], [("others", "mixture", "cpu mixture")])
)
def test_a_search_learns_what_it_learns_on_the_cpu(given, name, cpu, request):
    here, there = (read_history(request.getfixturevalue(given)[0] / folder) for folder in (name, cpu))
    assert len(here) == len(there) > 0
    for mine, theirs in zip(here, there, strict=True):
        assert mine.get("layout") == theirs.get("layout")
        loss = "train_loss" if theirs["stage"] == "search" else "loss"
        assert mine[loss] == pytest.approx(theirs[loss], rel=1e-4)


def test_a_run_is_evaluated_as_on_the_cpu(done):
    here, there = (json.loads((done[0] / name / "metrics.json").read_text()) for name in ("pruning", "cpu"))
    assert here["accuracy"] == there["accuracy"]
    assert json.loads(done[1]["evaluate"]["out"])["accuracy"] == there["accuracy"]
    heads = [json.loads((done[0] / name / "explanation.json").read_text())["attention"] for name in ("pruning", "cpu")]
    assert heads[0]["image"] == [pytest.approx(row, abs=2e-4) for row in heads[1]["image"]]


@pytest.mark.parametrize(
    "name, line",
    [("bf16", "precision bf16: the device standin does not compute in it"), ("second", "device standin:1: there is only 1")],
)
def test_what_the_device_cannot_do_is_one_line(done, name, line):
    assert done[1][name]["status"] == 2
    assert done[1][name]["err"].startswith(f"dpl: {line}")
    assert done[1][name]["err"].count("\n") == 1


def test_the_line_at_the_start_says_where_it_computes(done):
    assert "computes on standin:0 in fp32 (precision by auto)" in done[1]["pruning"]["out"] + done[1]["pruning"]["err"]
