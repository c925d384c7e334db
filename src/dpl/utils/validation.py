"""Checks of values against types, by pydantic; errors are `DplError`."""

from typing import Any, NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError

from dpl.utils.errors import DplError

T = TypeVar("T")


class Problem(NamedTuple):
    """A wrong field of a value.

    Attributes:
        place: the field, such as ("task", "name").
        message: the description of the error.
        content: the content of the field.
    """

    place: tuple[str | int, ...]
    message: str
    content: Any

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.place)) or 'content'}: {self.message}"


def first_problem(error: ValidationError) -> Problem:
    """Returns the first wrong field of a validation error."""
    first = error.errors()[0]
    return Problem(first["loc"], first["msg"], first["input"])


def validated(kind: type[T], value: Any, where: object) -> T:
    """Converts plain data, such as the content of a JSON file, to a checked instance of `kind`.

    Args:
        kind: a dataclass or a pydantic model.
        value: the data.
        where: the file that the data are from; begins the message of an error.

    Returns:
        The instance.

    Raises:
        DplError: the data do not fit; the message names `where` and the first wrong field.
    """
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise DplError(f"{where}: {first_problem(error)}") from None
