"""What holds for every method, by one body of tests for all of them."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from dpl import DplError, evaluate_classifier, fit, load_run, load_task
from dpl.apply import evaluate_run
from dpl.arguments import parse_run
from dpl.config import PRESETS, FitRun, RunConfig, SearchConfig, checked, command, preset
from dpl.data.transforms import decode
from dpl.methods import METHODS
from dpl.pipeline import resume
from dpl.runs import settings_of

CLASS_SPECIFIC = {"linear-probe", "tip-adapter", "tip-adapter-f"}
SHOTS = 4


class Killed(BaseException):
    """Not an Exception: nothing may catch it, as nothing catches kill -9."""


@pytest.fixture(scope="module")
def quick(images: Path, checkpoint: Path) -> Callable[[str, Path], RunConfig]:
    """A run of a method that takes two epochs of two steps."""

    def settings(method: str, out: Path) -> RunConfig:
        kind = METHODS[method].run()
        config = replace(preset(kind, "default", str(images), SHOTS), backbone=str(checkpoint), out=out)
        if isinstance(config, FitRun):
            config = replace(config, search=SearchConfig(epochs=1, batch_size=6, options=(0, 1, 2), budget=1.0))
        if config.optimization:
            config = replace(config, train=replace(config.optimization, epochs=2, batch_size=6))  # pyright: ignore
        return config

    return settings


@pytest.fixture(scope="module")
def runs(quick, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("methods")
    return {method: fit(quick(method, folder / method)) for method in METHODS}


def outcome(run: Path) -> dict[str, object]:
    """All that a run gives, without what it cost."""
    metrics = json.loads((run / "metrics.json").read_text())
    results = {key: value for key, value in metrics.items() if key not in ("seconds", "peak_memory_bytes")}
    names = ("prompts.safetensors", "explanation.json", "explanation.safetensors")
    return {"metrics": results, **{name: (run / name).read_bytes() for name in names}}


@pytest.fixture(scope="module")
def elsewhere(runs: dict[str, Path], images: Path) -> dict[str, list[list[float]]]:
    """The logits of every run for some images, computed by another process that has nothing but the run folders."""
    script = """
import json, sys, torch, dpl
from dpl.data.transforms import decode
torch.set_num_threads(1)
items = dpl.load_task(sys.argv[1]).test
with torch.no_grad():
    models = {path: dpl.load_run(path, device="cpu") for path in sys.argv[2:]}
    logits = {path: model(decode(items, model.backbone.image_size)).tolist() for path, model in models.items()}
print(json.dumps(logits))
"""
    paths = [str(run) for run in runs.values()]
    done = subprocess.run([sys.executable, "-c", script, str(images), *paths], capture_output=True, text=True, check=True)
    return {Path(path).name: rows for path, rows in json.loads(done.stdout).items()}


@pytest.mark.parametrize("method", METHODS)
def test_a_name_finds_a_class_of_that_name_and_its_settings(method: str):
    row = METHODS[method]
    assert row.load().name == method and row.run().__dataclass_fields__["method"].default == method and row.summary


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("method", METHODS)
def test_every_preset_is_in_range_and_can_be_repeated_from_its_command(method: str, name: str):
    kind = METHODS[method].run()
    for config in (
        preset(kind, name, "digits", 1),
        preset(kind, name, "imagenet", 4, "base"),
        preset(kind, name, "eurosat", 16, "new"),
    ):
        assert checked(config) == config
        assert parse_run("fit", command("fit", config).split()[2:]) == config


@pytest.mark.parametrize("method", METHODS)
def test_a_run_comes_back_in_a_new_process_with_the_same_logits(method: str, runs, elsewhere, images: Path):
    model, items = load_run(runs[method]), load_task(str(images)).test
    with torch.no_grad():
        here = model(decode(items, model.backbone.image_size))
    assert torch.equal(here, torch.tensor(elsewhere[method]))
    accuracy = json.loads((runs[method] / "metrics.json").read_text())["accuracy"]
    assert evaluate_classifier(model, items).accuracy == accuracy


@pytest.mark.parametrize("method", METHODS)
def test_the_file_holds_what_is_learned_and_nothing_of_the_backbone(method: str, runs):
    model, metrics = load_run(runs[method]), json.loads((runs[method] / "metrics.json").read_text())
    with safe_open(runs[method] / "prompts.safetensors", framework="pt") as file:
        stored = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118, not a dict
    learned = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    buffers = {name: list(buffer.shape) for name, buffer in model.named_buffers()}
    assert stored == learned | buffers
    assert sum(parameter.numel() for parameter in model.parameters()) == metrics["trainable_parameters"]
    assert not any(parameter.requires_grad for parameter in model.backbone.clip.parameters())
    assert metrics["method"] == method and settings_of(runs[method]).method == method


@pytest.mark.parametrize("method", METHODS)
def test_training_changes_what_is_learned(method: str, runs, quick, tmp_path: Path):
    model, config = load_run(runs[method]), quick(method, tmp_path / "run")
    if config.optimization is None:
        assert not (runs[method] / "history.jsonl").exists()
        return
    records = [json.loads(line) for line in (runs[method] / "history.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records if record["stage"] == "train"] == [0, 1]
    other = load_run(fit(replace(config, train=replace(config.optimization, lr=1e-9, warmup_epochs=0))))
    assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    ("method", "stop_after"),  # what has no steps is stopped in its evaluation
    [(name, after) for name, row in METHODS.items() for after in ((1, 2, 3, 4) if hasattr(row.run()(""), "train") else (1,))],
)
def test_a_run_that_was_killed_goes_on_to_the_same_end(method: str, stop_after: int, runs, quick, tmp_path: Path):
    config = quick(method, tmp_path / "run")
    steps = iter(range(1, 99))

    def stop(stage: str, *_: object) -> None:
        if stage != "search" and next(steps) == stop_after:
            raise Killed

    with pytest.raises(Killed):
        fit(config, on_step=stop)
    assert outcome(resume(tmp_path / "run")) == outcome(runs[method])


@pytest.mark.parametrize("method", METHODS)
def test_other_classes_are_taken_or_refused_in_one_line(method: str, runs, tmp_path: Path, images: Path):
    other = tmp_path / "other"
    other.mkdir()
    for name, colour in (("crimson", "red"), ("grass", "green")):
        (other / name).symlink_to(images / colour, target_is_directory=True)
    if method in CLASS_SPECIFIC:
        with pytest.raises(DplError, match="belongs to its own 3 classes"):
            evaluate_run(runs[method], [str(other)])
    else:
        assert evaluate_run(runs[method], [str(other)])[0]["classes"] == 2


@pytest.mark.parametrize("method", METHODS)
def test_the_frozen_model_stays_what_it_was(method: str, runs):
    model = load_run(runs[method])
    before = {name: weight.clone() for name, weight in model.backbone.clip.state_dict().items()}
    pixels = torch.zeros(2, 3, model.backbone.image_size, model.backbone.image_size, dtype=torch.uint8)
    with torch.no_grad():
        plain = model.backbone.image_features(pixels.float())
        model(pixels)
        assert torch.equal(model.backbone.image_features(pixels.float()), plain)
    after = model.backbone.clip.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
