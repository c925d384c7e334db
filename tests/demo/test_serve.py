"""`dpl demo` as a person starts and stops it."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from dpl.cli.main import main
from dpl.demo.listening import listen
from tests.demo.test_app import question

# A program that may listen, and connects to nothing: what it tries ends it.
ALONE = """
import os, socket, sys
found = socket.getaddrinfo
def ended(*words, **_):
    os.write(2, f"asked for {words}".encode())
    os._exit(9)
socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = ended
socket.getaddrinfo = lambda host, *rest, **more: found(host, *rest, **more) if host == "127.0.0.1" else ended(host)
from dpl.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def needed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("starlette", "uvicorn"):
        pytest.importorskip(name, reason="the extra demo is not installed; make test installs it")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # the command sets it, for this process too


def test_it_says_where_it_is_answers_asks_no_other_machine_and_ends_at_ctrl_c(
    run: Path, checkpoint: Path, picture: Path, tmp_path: Path
):
    words = ["demo", str(run), "--port", "0", "--backbone", str(checkpoint)]
    environment = {name: value for name, value in os.environ.items() if "HUB" not in name} | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", ALONE, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("http://127.0.0.1:") and line.endswith("  (Ctrl-C stops it)\n")
            data = json.dumps(question(picture)).encode()
            with urllib.request.urlopen(f"{line.split()[0]}/answer", data, timeout=30) as answer:
                assert list(json.load(answer)["models"]) == ["zero-shot", "tuned"]
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, output, errors.strip().splitlines()[-1]) == (130, "", "dpl: stopped")
    assert "Traceback" not in errors and not list(tmp_path.iterdir())


def told(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main(["demo", *map(str, words)]) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1
    return output.err


def test_what_cannot_be_served_is_told_in_a_line(capsys, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert told(capsys, tmp_path / "none", "--port", 0) == f"dpl: {tmp_path / 'none'}: no such run folder\n"
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        assert "is in use by another program" in told(capsys, run, "--port", port)
    monkeypatch.setattr("dpl.demo.serve.find_spec", lambda name: None)
    missing = "dpl demo needs the package starlette, which is not installed: pip install 'differentiable-prompt-learning[demo]'"
    assert told(capsys, run) == f"dpl: {missing}\n"


def test_another_address_than_loopback_is_warned_of(capsys, run: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: None)
    assert main(["demo", str(run), "--port", "0", "--host", "0.0.0.0", "--backbone", str(checkpoint)]) == 0
    warning = "warning: with --host 0.0.0.0 everyone who can reach this machine can use the demo; there is no password"
    assert warning in capsys.readouterr().err
    assert main(["demo", str(run), "--port", "0", "--backbone", str(checkpoint)]) == 0
    assert "warning" not in capsys.readouterr().err
