import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpl import load_task
from dpl.cli.arguments import parse_run
from dpl.cli.main import main
from dpl.config import command
from dpl.data.templates import PHOTOS, given_templates, sentences, with_templates
from dpl.pipeline import self_contained
from dpl.utils.errors import DplError


def write(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def test_texts_and_files_in_their_order(tmp_path):
    file = write(tmp_path / "t.txt", "\ufeff# art\r\na sketch of a {}.\r\n\r\n  a {} 猫 # kept\rlast {}".encode())
    assert given_templates(["first {}", file, "{}"]) == ("first {}", "a sketch of a {}.", "a {} 猫 # kept", "last {}", "{}")
    assert given_templates([]) == ()


def test_a_text_is_a_text_even_where_a_file_is_called_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("{}").write_text("a {}\nb {}", encoding="utf-8")
    assert given_templates(["{}"]) == ("{}",)


@pytest.mark.parametrize("text", ["a photo", "{} and {}", "", "a {x}", "{} {", "{{}}", "{0}", "a {}}", "\0", "y" * 5000])
def test_a_text_without_exactly_one_place_is_named(text):
    with pytest.raises(DplError, match="--template .*must have one {} for the class name") as error:
        given_templates(["a {}", text])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "wording"),
    [
        (b"a {}\n# x\nphoto\n", r"t\.txt: line 3: 'photo': must have one {}"),
        (b"", "has no templates"),
        (b"# x\n", "has no templates"),
        (b"a {}\nb {}\na {}\n", r"line 3: 'a {}': is there twice, see .*line 1"),
        (b"a {}\ncaf\xe9 {}", "line 2: is not UTF-8"),
    ],
)
def test_a_file_of_which_a_line_is_none_is_named_with_the_line(tmp_path, data, wording):
    file = write(tmp_path / "t.txt", data)
    with pytest.raises(DplError, match=wording) as error:
        given_templates([file])
    assert file in str(error.value) and "\n" not in str(error.value)


@given(st.lists(st.text(max_size=9)))
def test_what_is_taken_can_be_filled_in(words):
    try:
        templates = given_templates(words)
    except DplError as error:
        assert "\n" not in str(error)
    else:
        assert [template.format("x y") for template in templates] == [word.replace("{}", "x y") for word in words]


def test_one_replaces_the_first_and_several_are_all(tree):
    task = load_task(str(tree({"cat": 3, "dog": 3})))
    assert with_templates(task, ["a {}"]).templates == ("a {}", *PHOTOS[1:])
    assert with_templates(task, [PHOTOS[2]]).templates == (PHOTOS[2], PHOTOS[1], *PHOTOS[3:])
    assert with_templates(task, ["a {}", "b {}"]).templates == ("a {}", "b {}")


def test_templates_chosen_here_are_told_and_others_are_not(tree):
    task = load_task(str(tree({"cat": 3, "dog": 3})))
    assert "'a photo of a {}.'" in with_templates(task, []).notes[-1] and "--template" in with_templates(task, []).notes[-1]
    assert with_templates(task, ["a {}"]).notes == task.notes
    digits = load_task("digits")
    assert with_templates(digits, []) == digits


def test_the_settings_of_a_run_hold_the_texts_and_its_command_repeats_them(tmp_path):
    file = write(tmp_path / "t.txt", b"a {}\nit's {}\n")
    config = self_contained(parse_run("fit", ["digits", "--template", file, "one {}", "--shots", "2"]))
    assert config.template == ("a {}", "it's {}", "one {}") and config.shots == 2
    import shlex

    assert self_contained(parse_run("fit", shlex.split(command("fit", config))[2:])) == config


def test_a_run_is_made_with_them_and_says_so(images, checkpoint, tmp_path, capsys):
    words = ["--backbone", str(checkpoint), "--method", "zero-shot", "--ensemble", "--shots", "1"]
    file = write(tmp_path / "t.txt", b"a {}\nb {}\n")
    for name, words_more, expected in (("own", [], list(PHOTOS)), ("file", ["--template", file], ["a {}", "b {}"])):
        out = tmp_path / name
        assert main(["fit", str(images), *words, *words_more, "--out", str(out)]) == 0
        said = "".join(capsys.readouterr()).replace("\n", " ")
        config = json.loads((out / "config.json").read_text())
        assert config["task"]["templates"] == expected
        assert ("for the ensemble 7 more for photos" in " ".join(said.split())) == (not words_more)
        assert config["settings"]["template"] == ([] if not words_more else expected)


@given(st.text(max_size=9), st.text(max_size=9), st.text(max_size=9))
def test_a_class_name_is_put_in_as_it_is(before, name, after):
    template = (before + "{}" + after).replace("{}", "\0").translate({ord("{"): "", ord("}"): ""}).replace("\0", "{}", 1)
    template = template.replace("\0", "")
    assert sentences(template, [name]) == [name.join(template.split("{}"))]
