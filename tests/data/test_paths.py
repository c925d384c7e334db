from pathlib import Path

import pytest

from dpl.data.paths import entries, folders, is_image, listed, relative_name, shown
from dpl.utils.errors import DplError


def test_endings_count_in_any_case():
    assert all(is_image(Path(name)) for name in ("a.jpg", "b.JPEG", "c.d.TiFf", "ü.webp"))
    assert not any(is_image(Path(name)) for name in ("a.txt", "jpg", ".png", "Thumbs.db", "a.png.part"))


def test_names_are_shown_on_one_printable_line():
    assert shown("a\nb\x1b[31m") == "a?b?[31m"
    assert shown(b"\xff.png".decode(errors="surrogateescape")).encode() == b"\\udcff.png"
    assert shown("naïve café 猫.png") == "naïve café 猫.png"


def test_relative_names_are_distinct_text(tmp_path):
    names = [b"\xff.png".decode(errors="surrogateescape"), b"\xfe.png".decode(errors="surrogateescape")]
    shown_names = {relative_name(tmp_path / "cat" / name, tmp_path) for name in names}
    assert len(shown_names) == 2 and all(name.encode() and name.startswith("cat/") for name in shown_names)


def test_long_lists_are_cut():
    assert listed("abc") == "a, b, c"
    assert listed("abcdefg") == "a, b, c, d, e and 2 more"


def test_hidden_files_and_zip_leftovers_are_no_entries(tmp_path):
    for name in (".git", "__MACOSX", "b", "a"):
        (tmp_path / name).mkdir()
    assert [path.name for path in entries(tmp_path)] == ["a", "b"]


def test_folders_are_the_entries_that_are_such_or_link_to_one(tmp_path):
    for name in ("b", "a", ".git"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    for name, target in (("c", "a"), ("loop", "loop"), ("nowhere", "gone"), ("link", "file")):
        (tmp_path / name).symlink_to(tmp_path / target)
    assert folders(tmp_path) == [tmp_path / name for name in "abc"]
    assert folders(tmp_path) == [path for path in entries(tmp_path) if path.is_dir()]


@pytest.mark.parametrize("listing", [entries, folders])
def test_a_folder_that_cannot_be_listed_is_named(tmp_path, listing):
    with pytest.raises(DplError, match="gone"):
        listing(tmp_path / "gone")
