import io
from pathlib import Path

import pytest

from dpl.data.image_paths import collect_images
from dpl.utils.errors import DplError


def test_files_and_folders_in_the_order_given_each_once(draw, tmp_path):
    first = draw(tmp_path / "z.png")
    inner = [draw(tmp_path / "folder" / name) for name in ("a.JPG", "b.png", "sub dir/ü.webp")]
    draw(tmp_path / "folder" / ".hidden.png")
    (tmp_path / "folder" / "notes.txt").write_text("no image")
    found = collect_images([str(first), str(tmp_path / "folder"), str(inner[0])])
    assert found == [first, *inner]


def test_a_file_named_by_hand_is_taken_whatever_its_ending(draw, tmp_path):
    path = draw(tmp_path / "a.png").rename(tmp_path / "a.upload")
    assert collect_images([str(path)]) == [path]


def test_a_dash_reads_the_list_on_standard_input(draw, tmp_path, monkeypatch):
    paths = [draw(tmp_path / name) for name in ("a b.png", "c.png")]
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{paths[1]}\n\n{paths[0]}\r\n"))
    assert collect_images(["-"]) == [paths[1], paths[0]]


def test_a_loop_of_links_ends(draw, tmp_path):
    path = draw(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert collect_images([str(tmp_path / "in")]) == [path]


def test_what_is_missing_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    problems = {tmp_path / "no.png": "no such", tmp_path / "empty": "no images", Path("y" * 5000): "cannot read"}
    for path, problem in problems.items():
        with pytest.raises(DplError, match=problem) as error:
            collect_images([str(path)])
        assert str(path) in str(error.value)


def test_no_paths_at_all_is_an_error(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("\n \n"))
    with pytest.raises(DplError, match="standard input"):
        collect_images(["-"])
    with pytest.raises(DplError, match="no images given"):
        collect_images([])
