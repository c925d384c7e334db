"""A stand-in for the Hugging Face hub on loopback: repositories of files, as the hub's client asks for them."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest


@dataclass
class Hub:
    """What the stand-in serves, and what it was asked for."""

    repositories: dict[str, dict[str, Path]] = field(default_factory=dict)
    """By the repository's id, the folder of each revision; a folder's name is no part of it."""
    refusals: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)
    """By the repository's id, a status and headers that answer every request."""
    conversion: str | None = None
    """The revision of the conversion bot's pull request."""
    sent: dict[str, int] = field(default_factory=dict)
    """By the file's name, the bytes that were sent."""
    requests: list[str] = field(default_factory=list)

    def commit(self, repository: str, revision: str) -> str:
        """The commit of a revision: 40 hexadecimal digits."""
        return hashlib.sha1(f"{repository} {revision}".encode()).hexdigest()

    def folder(self, repository: str, revision: str) -> tuple[str, Path] | None:
        """The commit and the folder of a revision, or of a commit."""
        for name, folder in self.repositories.get(repository, {}).items():
            if revision in (name, self.commit(repository, name)):
                return self.commit(repository, name), folder
        return None


@contextmanager
def serving(hub: Hub) -> Iterator[str]:
    """Serves `hub` inside; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, with_body: bool) -> None:
            path = unquote(self.path.split("?")[0])
            hub.requests.append(path)
            parts = path.strip("/").split("/")
            parts = parts[2:] if parts[:2] == ["api", "models"] else parts
            repository, rest = "/".join(parts[:2]), parts[2:]
            if repository in hub.refusals:
                return self.reply(*hub.refusals[repository], b"", with_body)
            if repository not in hub.repositories:
                return self.reply(404, {"X-Error-Code": "RepoNotFound"}, b"", with_body)
            if rest[:1] == ["discussions"]:
                return self.discussions(with_body)
            if rest[:1] == ["resolve"]:
                name, revision = rest[-1], "/".join(rest[1:-1])
            else:
                name, revision = "", "/".join(rest[1:]) or "main"
            found = hub.folder(repository, revision)
            if found is None:
                return self.reply(404, {"X-Error-Code": "RevisionNotFound"}, b"", with_body)
            commit, folder = found
            if not name:
                siblings = [{"rfilename": path.name} for path in sorted(folder.iterdir())]
                body = json.dumps({"id": repository, "sha": commit, "siblings": siblings}).encode()
                return self.reply(200, {"Content-Type": "application/json"}, body, with_body)
            if not (folder / name).is_file():
                return self.reply(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b"", with_body)
            body = (folder / name).read_bytes()
            if with_body:
                hub.sent[name] = hub.sent.get(name, 0) + len(body)
            etag = f'"{hashlib.sha256(body).hexdigest()}"'
            return self.reply(200, {"X-Repo-Commit": commit, "ETag": etag, "Accept-Ranges": "bytes"}, body, with_body)

        def discussions(self, with_body: bool) -> None:
            number = int(hub.conversion.split("/")[-1]) if hub.conversion else 0
            author = {"name": "SFconvertbot", "type": "user"}
            about = {"title": "Adding safetensors", "status": "open", "isPullRequest": True, "num": number}
            about |= {"author": author, "createdAt": "2023-01-01T00:00:00.000Z", "repo": {"name": "a/b", "type": "model"}}
            found = {"discussions": [about] if hub.conversion else [], "count": int(bool(hub.conversion)), "start": 0}
            self.reply(200, {"Content-Type": "application/json"}, json.dumps(found).encode(), with_body)

        def reply(self, status: int, headers: dict[str, str], body: bytes, with_body: bool) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def use(patch: pytest.MonkeyPatch, address: str, cache: Path) -> None:
    """Points the hub's client at `address`, and at an empty cache."""
    patch.setattr("huggingface_hub.constants.ENDPOINT", address)
    patch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    )
    patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
