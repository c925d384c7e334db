"""What holds for every method, by one body of tests for all of them."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from dpl import DplError, evaluate_classifier, fit, load_run, load_task
from dpl.cli.arguments import parse_run
from dpl.config import PRESETS, FitRun, HeadedRun, RunConfig, SearchConfig, checked, command, preset
from dpl.data.pixels.transforms import decode
from dpl.inference import evaluate_run
from dpl.methods import METHODS
from dpl.pipeline import resume
from dpl.runs import settings_of
from tests.cases import quick_and_slow

CLASS_SPECIFIC = {"linear-probe", "tip-adapter", "tip-adapter-f"}
HEADED = [name for name, row in METHODS.items() if issubclass(row.run(), HeadedRun)]
SHOTS = 4
# One of each kind: prompts in layers, context tokens, a linear layer, a cache of images, the model's own weights.
QUICK = ("dpl", "coop", "linear-probe", "tip-adapter-f", "clip-lora")
REST = tuple(method for method in METHODS if method not in QUICK)
EVERY = pytest.mark.parametrize("method", quick_and_slow(QUICK, REST))
HEADS = pytest.mark.parametrize(
    "method", quick_and_slow([name for name in HEADED if name in QUICK], [name for name in HEADED if name in REST])
)


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
    """A finished run of each method, fitted when first asked for."""
    folder = tmp_path_factory.mktemp("methods")

    class Fitted(dict[str, Path]):
        def __missing__(self, method: str) -> Path:
            return self.setdefault(method, fit(quick(method, folder / method)))

    return Fitted()


def outcome(run: Path) -> dict[str, object]:
    """All that a run gives, without what it cost."""
    metrics = json.loads((run / "metrics.json").read_text())
    results = {key: value for key, value in metrics.items() if key not in ("seconds", "peak_memory_bytes")}
    names = ("prompts.safetensors", "head.safetensors", "explanation.json", "explanation.safetensors")
    return {"metrics": results, **{name: (run / name).read_bytes() for name in names if (run / name).exists()}}


@pytest.fixture(scope="module")
def elsewhere(runs: dict[str, Path], images: Path) -> Callable[[str], list[list[float]]]:
    """The logits of a method's run for some images, computed by another process that has nothing but the run folders."""
    script = """
import json, sys, torch, dpl
from dpl.data.pixels.transforms import decode
torch.set_num_threads(1)
items = dpl.load_task(sys.argv[1]).test
with torch.no_grad():
    models = {path: dpl.load_run(path, device="cpu") for path in sys.argv[2:]}
    logits = {path: model(decode(items, model.backbone.preprocessing)).tolist() for path, model in models.items()}
print(json.dumps(logits))
"""

    @cache
    def logits(methods: tuple[str, ...]) -> dict[str, list[list[float]]]:
        paths = [str(runs[method]) for method in methods]
        done = subprocess.run([sys.executable, "-c", script, str(images), *paths], capture_output=True, text=True, check=True)
        return {Path(path).name: rows for path, rows in json.loads(done.stdout).items()}

    return lambda method: logits(QUICK if method in QUICK else REST)[method]


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


@EVERY
def test_a_run_comes_back_in_a_new_process_with_the_same_logits(method: str, runs, elsewhere, images: Path):
    model, items = load_run(runs[method]), load_task(str(images)).test
    with torch.no_grad():
        here = model(decode(items, model.backbone.preprocessing))
    assert torch.equal(here, torch.tensor(elsewhere(method)))
    accuracy = json.loads((runs[method] / "metrics.json").read_text())["accuracy"]
    assert evaluate_classifier(model, items).accuracy == accuracy


@EVERY
def test_the_file_holds_what_is_learned_and_nothing_of_the_backbone(method: str, runs):
    model, metrics = load_run(runs[method]), json.loads((runs[method] / "metrics.json").read_text())
    with safe_open(runs[method] / "prompts.safetensors", framework="pt") as file:
        stored = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118, not a dict
    learned = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    buffers = {name: list(buffer.shape) for name, buffer in model.named_buffers()}
    assert stored == learned | buffers
    head = model.head.residual.numel() if model.head else 0
    assert sum(parameter.numel() for parameter in model.parameters()) + head == metrics["trainable_parameters"]
    assert metrics["head"]["kind"] == ("residual" if head else "text")
    assert not any(parameter.requires_grad for parameter in model.backbone.clip.parameters())
    assert metrics["method"] == method and settings_of(runs[method]).method == method


@EVERY
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
    quick_and_slow(
        [(name, 1 if name == "linear-probe" else 3) for name in QUICK],
        [
            (name, after)
            for name, row in METHODS.items()
            for after in ((1, 2, 3, 4) if hasattr(row.run()(""), "train") else (1,))
            if name in REST or after in (1, 2, 4) and name != "linear-probe"
        ],
    ),
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


@EVERY
def test_other_classes_are_taken_or_refused_in_one_line(method: str, runs, tmp_path: Path, images: Path):
    other = tmp_path / "other"
    other.mkdir()
    for name, colour in (("crimson", "red"), ("grass", "green")):
        (other / name).symlink_to(images / colour, target_is_directory=True)
    if method in CLASS_SPECIFIC:
        with pytest.raises(DplError, match="belong to its own 3 classes"):
            evaluate_run(runs[method], [str(other)])
    else:
        assert evaluate_run(runs[method], [str(other)])[0]["classes"] == 2


@HEADS
def test_a_residual_head_is_added_after_training_and_comes_back(method: str, runs, quick, tmp_path: Path, images: Path):
    config = quick(method, tmp_path / "run")
    run = fit(replace(config, head="residual", shots_from=runs[method]))
    model, items = load_run(run), load_task(str(images)).test
    pixels, scale = decode(items, model.backbone.preprocessing), model.backbone.clip.logit_scale.exp()
    assert model.head is not None and model.head.residual.shape[0] == 3 and model.head.residual.abs().sum() > 0
    with torch.no_grad():
        features, logits = model.image_features(pixels), model(pixels)
        head, model.head = model.head, None
        texts = model(pixels)
    expected = head.settings.ratio * (texts + scale * features @ head.residual.T)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    (run / "head.safetensors").unlink()  # runs of before there were heads have no such file
    with torch.no_grad():
        assert torch.equal(load_run(run)(pixels), texts)
    (run / "head.safetensors").write_bytes(b"nothing")
    with pytest.raises(DplError, match="head.safetensors: does not fit the run"):
        load_run(run)


@HEADS
def test_a_text_head_is_what_the_authors_have(method: str, quick, tmp_path: Path):
    assert preset(METHODS[method].run(), "paper", "digits").head == "text"  # pyright: ignore
    run = fit(replace(quick(method, tmp_path / "run"), head="text"))
    assert not (run / "head.safetensors").exists() and load_run(run).head is None


def test_new_classes_are_classified_by_their_texts_and_own_ones_keep_the_head(quick, tmp_path: Path):
    model = load_run(fit(replace(quick("coop", tmp_path / "run"), head="residual")))
    assert model.head is not None and model.for_classes(["crimson", "grass"]).head is None
    some = model.for_classes(model.class_names[::-1][:2]).head
    assert some is not None and torch.equal(some.residual, model.head.residual.flip(0)[:2])


def test_new_classes_are_said_to_be_without_the_head(quick, tmp_path: Path, images: Path):
    run, said = fit(replace(quick("coop", tmp_path / "run"), head="residual")), []
    other = tmp_path / "other"
    other.mkdir()
    for name, colour in (("crimson", "red"), ("grass", "green")):
        (other / name).symlink_to(images / colour, target_is_directory=True)
    evaluate_run(run, [str(other)], say=said.append)
    assert any("classified by their texts alone" in note for note in said)


@pytest.mark.parametrize("shots", (1, 2))
def test_a_run_without_validation_images_has_a_head(shots: int, quick, tmp_path: Path, images: Path):
    config = replace(quick("coop", tmp_path / "first"), shots=shots)
    names = json.loads((fit(config) / "config.json").read_text())["shots"]
    (tmp_path / "shots.json").write_text(json.dumps({"train": names["train"], "val": []}))
    run = fit(replace(config, shots_from=tmp_path / "shots.json", out=tmp_path / "run"))
    head = json.loads((run / "metrics.json").read_text())["head"]
    assert head["held_out"] == (0 if shots == 1 else 6)


@EVERY
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
