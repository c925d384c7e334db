"""The records of wandb (offline) and trackio equal the numbers of the run folder; neither asks for a key or uploads."""

import json
import shlex
import sqlite3
import struct
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from dpl import fit
from dpl.cli.main import main
from dpl.pipeline import resume
from dpl.prompts.layout import PromptLayout
from dpl.track.values import layout_text
from tests.track.tracked_runs import STEPS, Killed, history, metrics, settings, stop_after, words


def offline_records(file: Path) -> Iterator[Any]:
    """The records of a .wandb file: a header of 7 bytes, then a log of LevelDB's format of protocol buffers."""
    from wandb.proto import wandb_internal_pb2

    messages: Any = wandb_internal_pb2  # its classes are made at run time
    data, at, part = file.read_bytes(), 7, b""
    while at < len(data):
        if (left := 32768 - at % 32768) < 7:  # the rest of a block that has no space for another head
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        part += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield messages.Record.FromString(part)
            part = b""


def test_wandb_offline_has_the_same_and_keeps_its_id(images, checkpoint, tmp_path, own_wandb):
    import wandb

    own_wandb.setenv("WANDB_MODE", "offline")
    run, said = tmp_path / "my run", []
    with pytest.raises(Killed):
        fit(settings(images, checkpoint, run, "wandb"), on_step=stop_after(6))
    resume(run, say=said.append)
    wandb.teardown()  # as at the end of a program: the process of wandb's that writes may still be at it
    files = sorted(run.glob("wandb/offline-run-*/run-*.wandb"))
    identifier = json.loads((run / "track.json").read_text())["id"]
    assert len(files) == 2 and {file.stem for file in files} == {f"run-{identifier}"}
    read: dict[str, list[tuple[int, float]]] = {}
    for file in files:
        for record in offline_records(file):
            if record.WhichOneof("record_type") == "run":
                assert (record.run.project, record.run.display_name, record.run.run_id) == ("dpl", "my run", identifier)
                given = {item.key: json.loads(item.value_json) for item in record.run.config.update}
                assert given["train.epochs"] == 2 and given["search.options"] == "0 1 3"
            for item in record.history.item:
                if not item.nested_key[0].startswith("_"):
                    read.setdefault(item.nested_key[0], []).append((record.history.step.num, json.loads(item.value_json)))
    assert [step for step, _ in read["search/train_loss"]] == [1, 2, 3, 4]
    assert [step for step, _ in read["train/loss"]] == [5, 6, 7, 8]
    assert read["result/accuracy"] == [(STEPS, metrics(run)["accuracy"])]
    losses = [record["loss"] for record in history(run) if record["stage"] == "train"]
    assert read["train_epoch/loss"] == [(6, losses[0]), (8, losses[1])]
    assert read["layout"][0][1] == layout_text(PromptLayout.load(run / "layout.json"))
    assert [line for line in said if line.startswith("--track")] == [
        f"--track wandb: wandb sync {shlex.quote(str(run / 'wandb'))}/*run-*"
    ]


@pytest.mark.parametrize(("key", "reason"), [(None, "has no key; log in with wandb login"), ("short", "WANDB_API_KEY")])
def test_wandb_without_a_key_is_refused_before_anything_is_written(key, reason, images, checkpoint, tmp_path, own_wandb, capsys):
    if key:
        own_wandb.setenv("WANDB_API_KEY", key)
    assert main(words(images, checkpoint, tmp_path / "run", "wandb")) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("dpl: --track wandb: ") and reason in said[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("trackio") is None, reason="trackio is not installed (it holds pillow below 13)")
def test_trackio_has_the_same_in_a_folder_of_each_run(images, checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TRACKIO_SPACE_ID", "somebody/space")  # is not sent to
    for run in (tmp_path / "one",):
        with pytest.raises(Killed):
            fit(settings(images, checkpoint, run, "trackio"), on_step=stop_after(6))
        resume(run)
        with sqlite3.connect(run / "trackio" / "dpl.db") as database:
            rows = database.execute("select run_name, step, metrics from metrics order by id").fetchall()
            (config,) = database.execute("select config from configs").fetchone()
        database.close()
        assert {row[0] for row in rows} == {run.name}
        read = [(step, name, value) for _, step, text in rows for name, value in json.loads(text).items()]
        assert [step for step, name, _ in read if name == "train/loss"] == [5, 6, 7, 8]
        assert [value for _, name, value in read if name == "result/accuracy"] == [metrics(run)["accuracy"]]
        assert json.loads(config)["train.epochs"] == 2
    assert capsys.readouterr().out == ""
