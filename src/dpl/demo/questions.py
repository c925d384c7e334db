"""What the page's script asks, and the limits of a question."""

from typing import Annotated

import anyio
from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect, Request

MOST_BYTES = 10_000_000
"""Of an image file."""
SECONDS = 30
"""That a question may take to arrive."""
_MOST_BODY = MOST_BYTES * 4 // 3 + 1_000_000  # the image in base64, and the words


class Words(BaseModel):
    """The class names, a line each, and the template."""

    model_config = ConfigDict(extra="forbid", strict=True)

    names: Annotated[str, Field(max_length=1_000_000)]
    template: Annotated[str, Field(max_length=10_000)]


class Question(Words):
    """An image file with its name, under these words; `label` is the class to look for, by its place."""

    name: Annotated[str, Field(max_length=1000)]
    image: Base64Bytes
    label: int | None


class Refused(Exception):
    """The status of the answer, what is refused ("words", "image" or "question"), and one line that says why."""

    def __init__(self, status: int, part: str, line: str) -> None:
        super().__init__(line)
        self.status, self.part, self.line = status, part, line


async def body(request: Request) -> bytes:
    """The request's body; `Refused` where it is too long, or takes too long."""
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
    """The JSON in `text` as a `kind`; `Refused` where it is none, or its image too large."""
    try:
        question = kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "question"
        raise Refused(400, "question", f"{field}: {first['msg']}; load the page again") from None
    if isinstance(question, Question) and len(question.image) > MOST_BYTES:
        raise too_large()
    return question


def too_large() -> Refused:
    """That an image file is."""
    return Refused(413, "image", f"more than {MOST_BYTES // 1_000_000} MB; give a smaller file")
