from hypothesis import given
from hypothesis import strategies as st

from dpl.utils.text import printable


@given(st.text(st.characters()))
def test_a_page_can_hold_it_and_what_it_could_hold_stays(text: str):
    clean = printable(text)
    assert len(clean) == len(text) and printable(clean) == clean
    clean.encode()
    kept = [
        own in "\t\n\r" or not (own < " " or "\x7f" <= own < "\xa0" or "\ud800" <= own < "\ue000" or own in "\ufffe\uffff")
        for own in text
    ]
    assert all((new == old) if keep else new == "\ufffd" for new, old, keep in zip(clean, text, kept, strict=True))


def test_lists_and_dictionaries_are_gone_through():
    assert printable({"a\x00": ["b\x01", 1, None]}) == {"a\ufffd": ["b\ufffd", 1, None]}
