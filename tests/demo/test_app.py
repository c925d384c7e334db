"""The server as any program on the machine may ask it."""

import base64
import http.client
import io
import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from dpl.demo.demo import WIDTH, Demo

from .conftest import NAMES

Ask = Callable[..., tuple[int, dict[str, str], bytes]]


@pytest.fixture
def ask(served: Callable[[Demo], str], demo: Demo) -> Ask:
    """`ask(path, question=None, **headers)`: status, headers and content of the answer."""
    place = urlsplit(served(demo)).netloc

    def asked(path: str, question: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(place, timeout=20)
        text = question if isinstance(question, bytes) or question is None else json.dumps(question).encode()
        connection.request("GET" if text is None else "POST", path, text, headers)
        answer = connection.getresponse()
        found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        connection.close()
        return found

    return asked


def question(picture: Path, **changes: object) -> dict[str, object]:
    image = base64.b64encode(picture.read_bytes()).decode()
    words = {"names": "\n".join(NAMES), "template": "a photo of a {}."}
    return words | {"name": picture.name, "image": image, "label": None} | changes


def refusal(answer: tuple[int, dict[str, str], bytes]) -> tuple[int, str, str]:
    found = json.loads(answer[2])
    return answer[0], found["of"], found["error"]


def test_an_answer_has_both_models_with_their_pictures(ask: Ask, demo: Demo, picture: Path):
    status, _, content = ask("/answer", question(picture, label=1))
    found, expected = json.loads(content), demo.answer(picture.name, picture.read_bytes(), demo.own, 1)
    assert status == 200 and list(found["models"]) == ["zero-shot", "tuned"] == list(expected.models)
    for name, model in found["models"].items():
        like = expected.models[name]
        assert not isinstance(like, str)
        assert [(one["label"], one["name"], one["probability"]) for one in model["classes"]] == like.classes
        assert (model["label"], model["looks_for"]) == (1, "green")
        shown = Image.open(io.BytesIO(base64.b64decode(model["picture"].removeprefix("data:image/png;base64,"))))
        assert shown.size == (WIDTH, WIDTH) and shown.tobytes() == like.picture.tobytes()


def test_the_page_holds_names_as_text_and_allows_nothing_from_elsewhere(ask: Ask):
    status, headers, content = ask("/")
    page = content.decode()
    assert status == 200 and "&lt;script&gt;alert()&lt;/script&gt;" in page and "<script>" not in page
    assert "<h1>colours &amp; &lt;b&gt;more</h1>" in page and "style=" not in page and "http" not in page
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert headers["cache-control"] == "no-store" and headers["x-content-type-options"] == "nosniff" and "server" not in headers


@pytest.mark.parametrize(
    "path", ["/../serve.py", "/page.html.j2", "/%2e%2e/app.py", "//etc/passwd", "/examples/0", "/examples/-1", "/docs"]
)
def test_no_other_file_can_be_had(ask: Ask, path: str):
    status, headers, _ = ask(path)
    assert status == 404 and "content-security-policy" in headers


def test_only_the_own_page_is_answered(ask: Ask, picture: Path):
    assert ask("/", Host="rebound.example:80")[0] == 421 == ask("/", Host="[")[0]
    assert ask("/words", question(picture), Origin="http://elsewhere.example")[0] == 403 == ask("/", Origin="null")[0]
    assert "access-control-allow-origin" not in ask("/answer", question(picture))[1]


def test_words_and_images_that_cannot_be_used_are_told_apart(ask: Ask, picture: Path, tmp_path: Path):
    (tmp_path / "no.png").write_text("no image")
    cannot = "cannot read no.png as an image: not an image of a known format; replace or remove the file"
    assert refusal(ask("/answer", question(tmp_path / "no.png"))) == (422, "image", cannot)
    assert refusal(ask("/answer", question(picture, names="a"))) == (422, "words", "give at least two class names, a line each")
    assert refusal(ask("/words", {"names": "a\na", "template": "{}"}))[:2] == (422, "words")
    words = json.loads(ask("/words", {"names": "a\nb", "template": "{}"})[2])
    assert words["classes"] == 2 and words["note"].startswith("The template is for zero-shot")


@pytest.mark.parametrize(
    "broken",
    [b"", b"[1]", b"{", b'"\xff"', b'{"names": 1}', {"names": "a\nb"}, {"names": "a", "template": "{}", "run": "/etc"}],
)
def test_a_question_of_another_form_is_refused_in_a_line(ask: Ask, broken: Any):
    status, part, line = refusal(ask("/answer", broken))
    assert (status, part) == (400, "question") and line.endswith("load the page again") and "\n" not in line


def test_an_image_that_is_too_large_is_refused_without_reading_it(ask: Ask, picture: Path):
    told = 413, "image", "more than 10 MB; give a smaller file"
    large = base64.b64encode(bytes(10_000_001)).decode()
    assert refusal(ask("/answer", question(picture, image=large))) == told
    status, part, _ = refusal(ask("/answer", question(picture, image=large[:-4])))
    assert (status, part) == (422, "image")  # not too large, but zeros


def test_a_body_that_never_ends_is_cut_off(served: Callable[[Demo], str], demo: Demo):
    place = urlsplit(served(demo))
    with socket.create_connection((place.hostname, place.port), timeout=20) as connection:
        connection.sendall(f"POST /answer HTTP/1.1\r\nHost: {place.netloc}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        chunk, sent = b"100000\r\n" + b"0" * 0x100000 + b"\r\n", 0
        try:
            while sent < 40:
                connection.sendall(chunk)
                sent += 1
        except OSError:  # the server has closed the connection
            pass
        assert sent < 40 or b" 413 " in connection.recv(1000)


def test_more_questions_than_can_wait_are_refused(ask: Ask, demo: Demo, picture: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("starlette")
    from dpl.demo.app import WAITING

    go, begun = threading.Event(), threading.Semaphore(0)

    def slow(*_: object) -> None:
        begun.release()
        assert go.wait(20)

    monkeypatch.setattr(demo, "wording", slow)
    threads = [threading.Thread(target=ask, args=("/words", {"names": "", "template": ""})) for _ in range(WAITING)]
    for thread in threads:
        thread.start()
    assert all(begun.acquire(timeout=20) for _ in threads)
    told = 503, "question", "the demo has too much to do; try again in a moment"
    assert refusal(ask("/words", {"names": "", "template": ""})) == told
    monkeypatch.undo()
    go.set()
    for thread in threads:
        thread.join(20)
    assert ask("/answer", question(picture))[0] == 200
