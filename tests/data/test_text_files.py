import json
import os

import pytest

from dpl.data.text_files import read_text, unique_keys
from dpl.utils.errors import DplError


def test_a_byte_order_mark_goes_and_line_ends_stay(tmp_path):
    (tmp_path / "t").write_bytes("\ufeffä\r\nb\rc\n".encode())
    assert read_text(tmp_path / "t", "a list") == "ä\r\nb\rc\n"


@pytest.mark.parametrize(
    ("data", "wording"),
    [
        (b"a\nb\n\xff", r"t: line 3: is not UTF-8"),
        ("猫".encode()[:2], "line 1: is not UTF-8"),
        ("a".encode("utf-16"), "t: is UTF-16; save it as UTF-8"),
    ],
)
def test_what_is_not_utf8_is_told_with_the_line(tmp_path, data, wording):
    (tmp_path / "t").write_bytes(data)
    with pytest.raises(DplError, match=wording):
        read_text(tmp_path / "t", "a list")


def test_what_is_no_file_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, wording in (("gone", "no such file"), ("pipe", "is not a file"), ("loop", ""), ("y" * 300, ""), ("a\0b", "")):
        with pytest.raises(DplError, match=f"{wording}.*; give a list") as error:
            read_text(tmp_path / name, "a list")
        assert "\n" not in str(error.value) and "\0" not in str(error.value)


def test_keys_that_are_there_twice_are_refused():
    assert json.loads('{"a": 1, "b": {"a": 2}}', object_pairs_hook=unique_keys) == {"a": 1, "b": {"a": 2}}
    with pytest.raises(ValueError, match="'b' is there twice"):
        json.loads('{"a": 1, "b": 2, "b": 2}', object_pairs_hook=unique_keys)
