import errno
import json
import os
from pathlib import Path

import pytest

from dpl.utils.errors import DplError
from dpl.utils.files import read_json, write_bytes, write_json


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_file_is_replaced_whole(tmp_path: Path):
    path = tmp_path / "a.json"
    write_json(path, {"b": 1})
    write_json(path, {"c": "ü"})
    assert read_json(path) == {"c": "ü"} and _names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_scraps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str):
    path = tmp_path / "a"
    write_bytes(path, b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if fails == "fsync" else (Path, "replace")), full)
    with pytest.raises(DplError, match=f"{path}: cannot be written .No space left on device.; the old state is kept"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old" and _names(tmp_path) == ["a"]


def test_an_interrupt_while_writing_leaves_no_scraps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "a", b"new")
    assert _names(tmp_path) == []


def test_nan_is_not_json(tmp_path: Path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a", {"b": float("nan")})


def test_unreadable_json_is_named(tmp_path: Path):
    (tmp_path / "a").write_text("{")
    for name in ("a", "b"):
        with pytest.raises(DplError, match=str(tmp_path / name)):
            read_json(tmp_path / name)
    assert json.loads("{}") == {}
