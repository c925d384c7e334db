"""Nested settings as one table."""

from dpl.utils.nested import flat


def test_names_are_those_on_the_way():
    assert flat({"a": 1, "b": {"c": [2], "d": {"e": None}}}) == {"a": 1, "b.c": [2], "b.d.e": None}
    assert flat({"a": {"b": 1}}, "_") == {"a_b": 1}


def test_what_is_empty_leaves_nothing():
    assert flat({"a": {}, "b": {"c": {}}}) == {} == flat({})
