"""Clients that misuse a connection: silent, endless, malformed, interrupted."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dpl.demo.demo import Demo

pytest.importorskip("uvicorn", reason="the extra demo is not installed; make test installs it")

Connect = Callable[[], socket.socket]


@pytest.fixture
def connect(served: Callable[[Demo], str], demo: Demo) -> Iterator[Connect]:
    with ExitStack() as stack:
        yield connecting(served(demo), stack)


def connecting(address: str, stack: ExitStack) -> Connect:
    host, port = urlsplit(address).hostname, urlsplit(address).port
    return lambda: stack.enter_context(socket.create_connection((host, port), timeout=20))


def everything(connection: socket.socket) -> bytes:
    """All that the server sends until it closes the connection."""
    found = b""
    while part := connection.recv(65536):
        found += part
    return found


GET = b"GET /page.css HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


def test_silent_connections_are_closed_and_keep_nobody_out(connect: Connect, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dpl.demo.connection.HEADER_SECONDS", 2)
    silent = [connect() for _ in range(100)]
    asking = connect()
    asking.sendall(GET)
    assert everything(asking).startswith(b"HTTP/1.1 200")
    assert all(everything(connection) == b"" for connection in silent)


def test_headers_that_come_byte_by_byte_are_cut_off(connect: Connect, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dpl.demo.connection.HEADER_SECONDS", 1)
    slow, begun = connect(), time.monotonic()
    with pytest.raises(OSError):
        for byte in GET * 100:
            slow.sendall(bytes([byte]))
            time.sleep(0.05)
    assert time.monotonic() - begun < 10


def test_too_many_connections_and_malformed_requests_are_refused_with_the_security_headers(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
):
    malformed = connect()
    malformed.sendall(b"no request\r\n\r\n")
    monkeypatch.setattr("dpl.demo.connection.MOST_CONNECTIONS", 2)
    kept = [connect() for _ in range(2)]
    time.sleep(0.2)
    for connection, status in ((malformed, b"400 Bad Request"), (connect(), b"503 Service Unavailable")):
        answer = everything(connection)
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert b"Content-Security-Policy: default-src 'none'" in answer and b"X-Content-Type-Options: nosniff" in answer
    assert len(kept) == 2


def test_an_endless_header_is_refused(connect: Connect):
    endless = connect()
    sent = 0
    with pytest.raises(OSError):
        endless.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
        for _ in range(1000):
            sent += endless.send(b"x" * 65536)
            time.sleep(0.001)
    assert sent < 20_000_000


def test_pipelined_requests_are_answered_in_turn(connect: Connect):
    many = connect()
    many.sendall(GET.replace(b"close", b"keep-alive") * 50 + GET)
    assert everything(many).count(b"HTTP/1.1 200") == 51


@pytest.mark.parametrize("place", ["9" * 5000, "-1", "x", "%00"])
def test_an_example_that_is_none_is_not_found(served: Callable[[Demo], str], demo: Demo, place: str):
    with pytest.raises(urllib.request.HTTPError) as refused:
        urllib.request.urlopen(f"{served(demo)}/examples/{place}", timeout=20)
    with refused.value as answer:
        assert answer.code == 404


@pytest.mark.slow
def test_ctrl_c_during_an_upload_prints_no_traceback(run: Path, checkpoint: Path):
    words = [sys.executable, "-m", "dpl", "demo", str(run), "--port", "0", "--backbone", str(checkpoint)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        try:
            assert process.stdout is not None
            with ExitStack() as stack:
                uploading = connecting(process.stdout.readline().split()[0], stack)()
                uploading.sendall(b"POST /answer HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\nsome")
                time.sleep(0.5)
                process.send_signal(signal.SIGINT)
                _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130 and errors.strip().splitlines() == ["dpl: stopped"]
