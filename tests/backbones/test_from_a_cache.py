"""The README's own command, `dpl fit photos/ --backbone openai/clip-vit-base-patch16`, from a cache of the hub, offline."""

import json
from pathlib import Path

import pytest

from dpl.cli.main import main
from tests.backbones.standins import STAND_INS, into_cache, write

NAME = "openai/clip-vit-base-patch16"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that has one repository; nothing of the network is to be had."""
    (stand_in,) = (one for one in STAND_INS if one.name == NAME)
    write(stand_in, tmp_path / "hub" / "files")
    into_cache(tmp_path / "hub" / "files", NAME, tmp_path / "hub" / "cache")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub" / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_the_readmes_command_runs_end_to_end(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def dpl(*words: str | Path) -> tuple[int, str, str]:
        status = main([*map(str, words)])
        output = capsys.readouterr()
        return status, output.out, output.err

    run, picture = tmp_path / "run", next((images / "red").iterdir())
    short = ("--shots", "2", "--search.epochs", "1", "--train.epochs", "1")
    status, _, errors = dpl("fit", images, "--backbone", NAME, *short, "--out", run)
    assert status == 0 and "pytorch_model.bin, a pickle, is read as weights alone" in errors, errors
    backbone = json.loads((run / "config.json").read_text())["backbone"]
    assert (backbone["name"], backbone["commit"]) == (NAME, "0" * 39 + "1")
    status, output, _ = dpl("predict", run, picture, "--json")
    assert status == 0 and json.loads(output)[0]["image"] == str(picture)
    status, output, _ = dpl("evaluate", run, "--json")
    assert status == 0 and json.loads(output)["accuracy"] == json.loads((run / "metrics.json").read_text())["accuracy"]
    assert dpl("explain", run, picture)[0] == 0 and (run / "explain.html").exists()
    status, _, errors = dpl("predict", run, picture, "--no-pickle")
    assert status == 2 and errors.count("\n") == 1 and "has pickled weights only" in errors
    status, output, errors = dpl("fit", images, "--backbone", "some/other", "--out", tmp_path / "other")
    assert (status, output, errors.count("\n")) == (2, "", 1)
    assert "backbone some/other: is not in the Hugging Face cache, and HF_HUB_OFFLINE is set" in errors
    assert not (tmp_path / "other").exists()
