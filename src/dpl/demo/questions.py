"""Requests of the page's script, and their limits."""

from typing import Annotated

import anyio
from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect, Request

from dpl.utils.validation import first_problem

MOST_BYTES = 10_000_000
"""Largest size of an image file."""
SECONDS = 30
"""Largest duration of a request's transfer."""
_MOST_BODY = MOST_BYTES * 4 // 3 + 1_000_000  # the image in base64, and the words


class Words(BaseModel):
    """A request with class names, one per line, and a template."""

    model_config = ConfigDict(extra="forbid", strict=True)

    names: Annotated[str, Field(max_length=1_000_000)]
    template: Annotated[str, Field(max_length=10_000)]


class Question(Words):
    """A request with an image file and its name in addition; `label` is the index of the class to explain."""

    name: Annotated[str, Field(max_length=1000)]
    image: Base64Bytes
    label: int | None


class Refused(Exception):
    """A refused request.

    `status` is the HTTP status, `part` the refused part ("words", "image" or "question"), and `line` the reason in one line.
    """

    def __init__(self, status: int, part: str, line: str) -> None:
        super().__init__(line)
        self.status, self.part, self.line = status, part, line


async def body(request: Request) -> bytes:
    """Reads the body of a request.

    Args:
        request: the request.

    Returns:
        The bytes.

    Raises:
        Refused: 413 if the body is too large, 408 if it takes too long or the client disconnects.
    """
    found = bytearray()
    if int(request.headers.get("content-length", "0")) > _MOST_BODY:
        raise too_large()
    try:
        with anyio.fail_after(SECONDS):
            async for part in request.stream():
                found += part
                if len(found) > _MOST_BODY:
                    raise too_large()
    except (TimeoutError, ClientDisconnect):
        raise Refused(408, "question", "the question did not arrive; try again") from None
    return bytes(found)


def parsed(kind: type[Words], text: bytes) -> Words:
    """Parses a request.

    Args:
        kind: the class of the request.
        text: the body, as JSON.

    Returns:
        An instance of `kind`.

    Raises:
        Refused: 400 if the body is not such a request, 413 if its image is too large.
    """
    try:
        question = kind.model_validate_json(text)
    except ValidationError as error:
        raise Refused(400, "question", f"{first_problem(error)}; load the page again") from None
    if isinstance(question, Question) and len(question.image) > MOST_BYTES:
        raise too_large()
    return question


def too_large() -> Refused:
    """Makes the refusal of a too large image, 413."""
    return Refused(413, "image", f"more than {MOST_BYTES // 1_000_000} MB; give a smaller file")
