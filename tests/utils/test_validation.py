"""Plain data become instances, or one line names the file and the first wrong field."""

from dataclasses import dataclass
from typing import Any

import pytest

from dpl.utils.errors import DplError
from dpl.utils.validation import validated


@dataclass(frozen=True)
class Part:
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Whole:
    name: str
    part: Part


def test_plain_data_become_an_instance() -> None:
    assert validated(Whole, {"name": "a", "part": {"sizes": [1, 2]}}, "a.json") == Whole("a", Part((1, 2)))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"name": "a", "part": {"sizes": [1, "x"]}}, "a.json: part.sizes.1: Input should be a valid integer"),
        ({"name": "a"}, "a.json: part: Field required"),
        ([], "a.json: content: Input should be a dictionary"),
    ],
)
def test_the_first_wrong_field_is_named_in_one_line(value: Any, message: str) -> None:
    with pytest.raises(DplError) as caught:
        validated(Whole, value, "a.json")
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
