import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpl.demo.wording import LONGEST, MOST_NAMES, Wording, read_wording
from dpl.utils.errors import DplError

OWN = Wording(("cat", "old_name", "x" * 300), "a photo of a {}.")


def names_of(text: str, own: Wording = OWN) -> tuple[str, ...]:
    return read_wording(text, own.template, own).names


def test_the_own_wording_stays_as_it_is_even_where_a_person_may_not_give_it():
    many = Wording(tuple(f"class_{i}" for i in range(1000)), "{} " + "y" * 300)
    for own in (OWN, many):
        assert read_wording(own.text, own.template, own) == own
        assert names_of("\r\n".join(own.names), own) == own.names


def test_a_line_is_a_class_with_its_name_cleaned_as_folders_have_it():
    assert names_of("  dog \n\nbig_red\tfox\r\ncafe\u0301\n") == ("dog", "big red?fox", "caf\u00e9")
    assert names_of("old_name\nnew_name") == ("old_name", "new name")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ("", "give at least two class names, a line each"),
        ("cat\n \n", "give at least two class names, a line each"),
        ("cat\ndog\n\nCat", "line 4: 'Cat' is in line 1 already; keep one"),
        (f"cat\n{'y' * (LONGEST + 1)}", "line 2: a class name has at most 200 characters; shorten it"),
        ("\n".join(map(str, range(MOST_NAMES + 1))), "51 class names: at most 50; leave some out"),
        ("\n" * 1000, "1001 lines of class names: at most 50 names; leave some out"),
    ],
)
def test_names_that_cannot_be_used_are_told_in_a_line(names: str, told: str):
    with pytest.raises(DplError) as error:
        names_of(names)
    assert str(error.value) == told


@pytest.mark.parametrize(
    "template", ["", "a cat", "{} and {}", "a {x} {}", "a {0}", "a {!r} {}", "}{", "a {} {", "{}" + "y" * 200]
)
def test_a_template_without_just_one_place_for_the_name_is_refused(template: str):
    with pytest.raises(DplError, match=r"^(template '.*': must have one \{\} for|the template has at most 200 characters)"):
        read_wording("a\nb", template, OWN)


def test_a_template_is_never_a_file(tmp_path):
    (tmp_path / "templates").write_text("a {}\n")
    with pytest.raises(DplError, match="must have one {}"):
        read_wording("a\nb", str(tmp_path / "templates"), OWN)


@given(st.text(st.characters(), max_size=60), st.text(st.sampled_from("a {}\n\u202e\ud800"), max_size=12))
def test_whatever_is_given_is_refused_in_a_line_or_within_the_limits(names: str, template: str):
    try:
        wording = read_wording(names, template, OWN)
    except DplError as error:
        assert "\n" not in str(error)
        return
    assert 2 <= len(wording.names) <= MOST_NAMES and all(wording.names)
    assert all("{" not in name or wording.template.format(name).count(name) for name in wording.names)
    for text in (*wording.names, wording.template):
        assert text.encode() and "\n" not in text
    assert read_wording(wording.text, wording.template, OWN) == wording
