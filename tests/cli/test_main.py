"""The commands: exit status, output and files. Most run in this process, for speed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from dpl.cli.main import COMMANDS, HELP, main

SHORT = ["--search.epochs", "1", "--train.epochs", "2", "--shots", "4", "--search.options", "0", "2"]


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    try:
        status = main([str(word) for word in words])
    except SystemExit as stop:  # tyro's own help and usage errors
        status = int(stop.code or 0)
    output = capsys.readouterr()
    return status, output.out, output.err


@pytest.fixture(scope="module")
def fitted(images: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "fitted"
    assert main(["fit", str(images), "--backbone", str(checkpoint), "--out", str(out), *SHORT]) == 0
    return out


def test_help_is_quick_and_names_every_command(capsys):
    code = "import sys, dpl, dpl.cli.main; print([m for m in ('torch', 'transformers', 'numpy', 'sklearn') if m in sys.modules])"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.stdout.strip() == "[]"
    assert run(capsys, "--help") == (0, HELP, "") == run(capsys)
    assert run(capsys, "--version")[1].startswith("dpl 0.")


@pytest.mark.parametrize("command", ["fit", "search", "compare", "reproduce", "report", "methods"])
def test_the_help_of_a_command_needs_no_model(command: str):
    code = (
        f"import sys; from dpl.cli.main import main\ntry: main(['{command}', '--help'])\nfinally: print('torch' in sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(capsys, command: str):
    status, output, _ = run(capsys, command, "--help")
    assert status == 0 and f"dpl {command}" in output and f"  {command}" in HELP


def test_every_option_of_fit_has_help(capsys):
    output = " ".join(run(capsys, "fit", "--help")[1].replace("│", " ").split())
    for words in (
        "Training images per class",
        "the method's authors published",
        "Learning rate of the alphas",
        "zero-shot teacher",
        "DATA",
    ):
        assert words in output


def test_a_run_folder_holds_what_is_promised_and_nothing_else(fitted: Path, images: Path):
    names = [
        "class_features.safetensors",
        "config.json",
        "explanation.json",
        "explanation.safetensors",
        "head.safetensors",
        "history.jsonl",
        "layout.json",
        "metrics.json",
        "prompts.safetensors",
        "report.html",
    ]
    assert sorted(path.name for path in fitted.iterdir()) == names
    metrics = json.loads((fitted / "metrics.json").read_text())
    assert 0 <= metrics["zero_shot_accuracy"] <= 1 and 0 <= metrics["accuracy"] <= 1
    assert (metrics["classes"], metrics["shots"], metrics["seed"], metrics["test_images"]) == (3, 4, 1, 18)
    layout = json.loads((fitted / "layout.json").read_text())
    assert metrics["layout_tokens"] == sum(layout["image"]) + sum(layout["text"])
    residual = 3 * 16  # of the head, for each class
    assert metrics["trainable_parameters"] == 32 * sum(layout["image"]) + 24 * sum(layout["text"]) + residual
    config = json.loads((fitted / "config.json").read_text())
    assert len(config["shots"]["train"]) == 12 and config["settings"]["train"]["epochs"] == 2
    assert all((images / name).is_file() for name in config["shots"]["train"])


def test_predict_prints_the_classes_of_files_folders_and_a_list_on_stdin(capsys, fitted, images, monkeypatch):
    one = images / "red" / "0.png"
    status, output, _ = run(capsys, "predict", fitted, one, "--top", "2")
    assert status == 0 and "red/0.png" in output and output.count("%") == 2
    status, output, _ = run(capsys, "predict", fitted, images / "red", "--json", "--top", "9")
    rows = json.loads(output)
    assert len(rows) == 20 and all(len(row["classes"]) == 3 for row in rows)
    assert sum(best["probability"] for best in rows[0]["classes"]) == pytest.approx(1, abs=1e-5)

    monkeypatch.setattr("sys.stdin", [f"{one}\n"])
    status, output, _ = run(capsys, "predict", fitted, "-", "--json")
    assert [row["image"] for row in json.loads(output)] == [str(one)]


def test_predict_leaves_unreadable_files_out_and_says_so(capsys, fitted, images, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    Image.new("RGB", (9, 9)).save(tmp_path / "good.png")
    status, output, errors = run(capsys, "predict", fitted, tmp_path / "broken.png", tmp_path / "good.png", "--json")
    assert status == 0 and len(json.loads(output)) == 1 and "left out: cannot read" in errors and "broken.png" in errors
    status, _, errors = run(capsys, "predict", fitted, tmp_path / "broken.png")
    assert status == 2 and "none of the 1 files is a readable image" in errors


def test_evaluate_repeats_the_runs_own_accuracy(capsys, fitted: Path, images: Path):
    metrics = json.loads((fitted / "metrics.json").read_text())
    result = json.loads(run(capsys, "evaluate", fitted, "--json")[1])
    for key in ("accuracy", "accuracy_interval", "zero_shot_accuracy", "test_images"):
        assert result[key] == metrics[key]
    status, output, _ = run(capsys, "evaluate", fitted)
    assert status == 0 and f"{metrics['accuracy']:.1%}" in output and str(images) in output.replace("\n", "")


def test_evaluate_takes_the_prompts_to_other_classes(capsys, fitted: Path, tmp_path: Path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for index in range(4):
            Image.new("RGB", (16, 16), (index, 9, 9)).save(tmp_path / name / f"{index}.png")
    result = json.loads(run(capsys, "evaluate", fitted, "--on", tmp_path, "--json")[1])
    assert (result["classes"], result["data"]) == (2, str(tmp_path))


def test_search_then_train_in_its_layout(capsys, images, checkpoint, tmp_path):
    common = [images, "--backbone", checkpoint, "--shots", "4"]
    status, output, errors = run(capsys, "search", *common, "--out", tmp_path / "s", "--search.epochs", "1")
    assert status == 0, errors
    assert not (tmp_path / "s" / "metrics.json").exists() and "image layout" in output
    layout = (tmp_path / "s" / "layout.json").read_text()
    for given, out in ((tmp_path / "s", "a"), (tmp_path / "s" / "layout.json", "b"), ("3", "c")):
        words = ["--layout", given, "--out", tmp_path / out, "--train.epochs", "1"]
        assert run(capsys, "train", *common, *words)[0] == 0
    assert (tmp_path / "a" / "layout.json").read_text() == (tmp_path / "b" / "layout.json").read_text() == layout
    assert json.loads((tmp_path / "c" / "layout.json").read_text()) == {"image": [3, 3], "text": [3, 3]}


def test_report_is_written_again(capsys, fitted: Path):
    before = (fitted / "report.html").read_bytes()
    (fitted / "report.html").unlink()
    assert run(capsys, "report", fitted)[1].strip() == str(fitted / "report.html")
    assert (fitted / "report.html").read_bytes() == before


def test_datasets_lists_the_built_in_tasks(capsys):
    status, output, _ = run(capsys, "datasets")
    assert status == 0 and "digits" in output and "539" in output
    assert "outlines" in output and "600" in output and "--pictures" in output


def test_datasets_draws_the_built_in_tasks(capsys, tmp_path: Path):
    page = tmp_path / "tasks.html"
    assert run(capsys, "datasets", "--pictures", page) == (0, f"{page}\n", "")
    assert "outlines" in page.read_text()
    assert run(capsys, "datasets", "--pictures", tmp_path / "tasks.pdf")[0] == 2


def test_a_run_in_bf16_says_so_and_predicts_in_either_precision(capsys, images: Path, checkpoint: Path, tmp_path: Path):
    out = tmp_path / "narrow"
    assert main(["fit", str(images), "--backbone", str(checkpoint), "--out", str(out), "--precision", "bf16", *SHORT]) == 0
    config = json.loads((out / "config.json").read_text())
    assert config["backbone"]["precision"] == "bf16" and "--precision bf16" in config["command"]
    picture = str(next(images.rglob("*.png")))
    capsys.readouterr()
    best = []
    for precision in ("fp32", "bf16"):
        status, output, _ = run(capsys, "predict", str(out), picture, "--precision", precision, "--json")
        assert status == 0
        best.append({row["name"]: row["probability"] for row in json.loads(output)[0]["classes"]})
    assert best[0] == pytest.approx(best[1], abs=0.05)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit", "NOWHERE"], "no data 'NOWHERE'"),
        (["fit", "IMAGES", "--backbone", "nothing"], "backbone nothing: is neither tiny, nor a folder"),
        (["fit", "IMAGES", "--backbone", "IMAGES"], "has no config.json; give a checkpoint folder"),
        (["fit", "IMAGES", "--shots", "0"], "--shots 0: input should be greater than or equal to 1"),
        (["fit", "IMAGES", "--train.lr", "-1"], "--train.lr -1.0: input should be greater than 0"),
        (["fit", "IMAGES", "--search.options", "0", "2", "1"], "options 0 2 1: must ascend from 0"),
        (["fit", "IMAGES", "--search.options", "0"], "options 0: must ascend from 0"),
        (["fit", "IMAGES", "--template", "a photo"], "--template 'a photo': must have one {}"),
        (["fit", "IMAGES", "--template", "{} " + "y" * 60], "shorten the class name or template"),
        (["fit", "IMAGES", "--preset", "best"], "no preset 'best': there are default, paper"),
        (["fit", "IMAGES", "--device", "warp"], "device warp: dpl computes on"),
        (["train", "IMAGES", "--layout", "nowhere"], "nowhere: cannot read the layout"),
        (["train", "IMAGES", "--layout", "TMP/short.json"], "does not fit"),
        (["fit", "--resume", "TMP"], "is not a run folder"),
        (["fit", "--resume", "TMP/none"], "no such run folder"),
        (["predict", "TMP", "IMAGES"], "is not a run folder"),
        (["predict", "FITTED", "TMP/none.png"], "none.png"),
        (["predict", "FITTED", "IMAGES", "--top", "0"], "--top 0: must be at least 1"),
        (["predict", "FITTED", "IMAGES", "--backbone", "tiny"], "was made with backbone"),
        (["evaluate", "FITTED", "--on", "NOWHERE"], "no data 'NOWHERE'"),
        (["report", "TMP"], "config.json"),
        (["paint"], "no command 'paint': there are fit, search"),
    ],
)
def test_bad_input_is_one_clear_line_and_touches_nothing(
    capsys, monkeypatch, fitted, images, checkpoint, tmp_path, words, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.json").write_text('{"image": [1], "text": [1]}')
    names = {"IMAGES": str(images), "FITTED": str(fitted), "TMP/": f"{tmp_path}/"}
    for short, path in names.items():
        words = [str(tmp_path) if word == "TMP" else word.replace(short, path) for word in words]
    if words[0] in ("fit", "train") and "--backbone" not in words and "--resume" not in words:
        words += ["--backbone", str(checkpoint)]
    status, output, errors = run(capsys, *words)
    assert status == 2 and output == ""
    assert errors.startswith("dpl: ") and errors.count("\n") == 1 and message in errors.replace(str(tmp_path), "TMP")
    assert [path.name for path in tmp_path.iterdir()] == ["short.json"]


def test_an_existing_run_is_never_overwritten_without_being_asked(capsys, fitted, images, checkpoint):
    before = {path.name: path.read_bytes() for path in fitted.iterdir()}
    words = ["fit", images, "--backbone", checkpoint, "--out", fitted, *SHORT]
    status, _, errors = run(capsys, *words)
    assert status == 2 and "holds a run already" in errors and "--overwrite" in errors and "--resume" in errors
    assert {path.name: path.read_bytes() for path in fitted.iterdir()} == before
    assert run(capsys, *words, "--overwrite")[0] == 0


def test_a_folder_of_other_things_is_never_written_to(capsys, images, checkpoint, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    status, _, errors = run(capsys, "fit", images, "--backbone", checkpoint, "--out", tmp_path, "--overwrite")
    assert status == 2 and "holds other files than a run" in errors
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(capsys, monkeypatch, images, checkpoint, tmp_path):
    losses = iter([1.0] * 2 + [float("nan")])
    cross_entropy = torch.nn.functional.cross_entropy
    with monkeypatch.context() as patch:
        patch.setattr("torch.nn.functional.cross_entropy", lambda *a: cross_entropy(*a) * next(losses))
        words = ["fit", images, "--backbone", checkpoint, "--out", tmp_path / "run", *SHORT, "--search.batch-size", "4"]
        status, _, errors = run(capsys, *words)
    assert status == 2 and "search, epoch 1, step 3" in errors and "the loss is nan; lower" in errors.splitlines()[-1]
    assert run(capsys, "fit", "--resume", tmp_path / "run")[0] == 0
