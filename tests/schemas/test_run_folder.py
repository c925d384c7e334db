"""Reading a run folder: what is wrong is told in one line that names the file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpl.schemas.run import SaliencyEpoch
from dpl.schemas.run_folder import read_run
from dpl.utils.errors import DplError
from tests.reports.made_up import edit_history, edit_json

FILES = ["config.json", "layout.json", "metrics.json", "history.jsonl"]


def refused(run: Path, *parts: str) -> None:
    with pytest.raises(DplError) as error:
        read_run(run)
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_run_is_read_whole(run: Path) -> None:
    read = read_run(run)
    assert read.name == "digits-16shot-seed1"
    assert read.options == (0, 1, 2, 3, 4, 5, 6)
    assert [line.epoch for line in read.search] == list(range(25))
    assert len(read.train) == 60
    assert list(read.layout.image) == json.loads((run / "layout.json").read_text())["image"]


@pytest.mark.parametrize("key", ["prompt_scale", "gate"])
def test_the_prompt_scale_is_read_under_its_former_name_too(run: Path, key: str) -> None:
    edit_json(run / "metrics.json", remove=(), **{key: 0.25})
    metrics = read_run(run).metrics
    assert metrics is not None and metrics.prompt_scale == 0.25


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(run: Path, name: str) -> None:
    (run / name).unlink()
    refused(run, name, "cannot be read")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", ["{", "[]", "7", '"text"', "null", "[" * 100_000])
def test_a_malformed_file_is_named(run: Path, name: str, content: str) -> None:
    (run / name).write_text(content)
    refused(run, name)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_text_is_named(run: Path, name: str) -> None:
    (run / name).write_bytes(b"\xff\xfe\x00")
    refused(run, name, "UTF-8")


@pytest.mark.parametrize("accuracy", [1.2, -0.1, float("nan"), "high", None])
def test_an_accuracy_that_is_none_is_refused(run: Path, accuracy: object) -> None:
    edit_json(run / "metrics.json", accuracy=accuracy)
    refused(run, "metrics.json", "accuracy")


def test_a_bad_line_of_the_history_is_named_by_its_number(run: Path) -> None:
    lines = (run / "history.jsonl").read_text().splitlines()
    lines[3] = lines[3][:50]
    (run / "history.jsonl").write_text("\n".join(lines))
    refused(run, "history.jsonl line 4")


def test_a_layout_of_another_backbone_is_refused(run: Path) -> None:
    edit_json(run / "layout.json", image=[1] * 12)
    refused(run, "layout.json", "12 image layers", "config.json has 6")


def test_alphas_that_do_not_fit_the_options_are_refused(run: Path) -> None:
    settings = json.loads((run / "config.json").read_text())["settings"]
    settings["search"]["options"] = [0, 1]
    edit_json(run / "config.json", settings=settings)
    refused(run, "history.jsonl", "search epoch 0: image alphas must be 6 layers x 2 options")


def test_a_search_without_its_options_is_refused(run: Path) -> None:
    edit_json(run / "config.json", settings={})
    refused(run, "config.json", "settings.search.options")


def test_alphas_that_are_not_finite_are_refused(run: Path) -> None:
    edit_history(run / "history.jsonl", 1, lambda line: line["alphas"]["text"][2].__setitem__(1, float("nan")))
    refused(run, "history.jsonl line 1", "alphas.text.2.1")


def test_a_pruned_run_is_read_whole(pruned: Path) -> None:
    read = read_run(pruned)
    assert all(isinstance(line, SaliencyEpoch) for line in read.search) and len(read.search) == 7
    last = read.search[-1]
    assert last.layout == read.layout
    assert sum(map(sum, last.matrix.image + last.matrix.text)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda line: line["saliency"]["text"][2].__setitem__(1, float("nan")), "line 2: saliency.text.2.1"),
        (lambda line: line["saliency"]["text"][2].__setitem__(5, -0.1), "line 2: saliency.text.2.5"),
        (lambda line: line["saliency"]["text"][2].__setitem__(0, float("inf")), "line 2: saliency.text.2.0"),
        (lambda line: line["saliency"]["text"][2].__setitem__(0, "all"), "line 2: saliency.text.2.0"),
        (lambda line: line["saliency"]["text"][2].__setitem__(5, 1), "saliency.text.2: Value error, the shares of a layer must"),
        (lambda line: line["saliency"]["text"][2].pop(), "search epoch 1: text saliency must be 6 layers x 6 prompts"),
        (lambda line: line["saliency"]["text"].pop(), "search epoch 1: text saliency must be 6 layers x 6 prompts"),
        (lambda line: line["saliency"].pop("text"), "line 2: saliency.text: Field required"),
        (lambda line: line["layout"]["image"].pop(), "search epoch 1: image layout must be 6 lengths up to 6"),
        (lambda line: line["layout"]["image"].__setitem__(0, 7), "search epoch 1: image layout must be 6 lengths up to 6"),
        (lambda line: line.pop("layout"), "line 2: layout: Field required"),
        (lambda line: line.pop("saliency"), "line 2: an epoch of the search must have one of alphas, saliency"),
        (lambda line: line.update(alphas={}), "line 2: an epoch of the search must have one of alphas, saliency"),
    ],
)  # fmt: skip
def test_a_saliency_that_does_not_fit_is_refused(pruned: Path, change: Callable[[dict[str, Any]], Any], said: str) -> None:
    edit_history(pruned / "history.jsonl", 2, change)
    refused(pruned, "history.jsonl", said)


def test_a_run_with_epochs_of_both_kinds_is_refused(run: Path, pruned: Path) -> None:
    lines = (pruned / "history.jsonl").read_text().splitlines()[:1] + (run / "history.jsonl").read_text().splitlines()[1:]
    (pruned / "history.jsonl").write_text("\n".join(lines))
    refused(pruned, "history.jsonl: has search epochs with alphas and with saliency")


def test_the_last_of_repeated_epochs_counts_and_unknown_stages_are_passed_over(run: Path) -> None:
    with (run / "history.jsonl").open("a") as file:
        file.write('\n{"stage": "train", "epoch": 3, "loss": 0.125, "accuracy": 0.5}\n{"stage": "later"}\n')
    train = read_run(run).train
    assert len(train) == 60
    assert train[3].loss == 0.125


def test_a_name_is_that_of_the_folder_wherever_one_stands(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run)
    assert read_run(Path()).name == run.name
