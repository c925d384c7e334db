"""The demo as a web application: a page, and two endpoints for its script. It stores no images and serves no user's files."""

import base64
from collections.abc import Awaitable, Callable
from importlib.resources import files
from threading import BoundedSemaphore
from typing import Any

from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from dpl.demo.demo import Answer, Demo, Prediction, png
from dpl.demo.guard import guard
from dpl.demo.questions import MOST_BYTES, Question, Refused, Words, body, parsed
from dpl.demo.wording import Wording
from dpl.methods import METHODS
from dpl.reports.overlay import scale
from dpl.utils.errors import DplError
from dpl.utils.templates import environment

MOST_IMAGES = 12
"""Largest number of images on the page."""
WAITING = 8
"""Largest number of questions that wait or are being answered; further ones are refused."""
_ASSETS = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}

Endpoint = Callable[[Request], Awaitable[Response]]


def make_app(demo: Demo, hosts: frozenset[str] | None) -> Starlette:
    """Makes the application.

    Args:
        demo: the run and its models.
        hosts: accepted host names of the server; None: all (`guard`).

    Returns:
        The application.
    """
    waiting = BoundedSemaphore(WAITING)
    pictures = {str(place): example.data for place, example in enumerate(demo.examples)}

    async def example(request: Request) -> Response:
        picture = pictures.get(request.path_params["place"])
        if picture is None:
            return PlainTextResponse("there is no such example", 404)
        return Response(picture, media_type="image/png")

    def answering(kind: type[Words], answer: Callable[[Demo, Any], dict[str, Any]]) -> Endpoint:
        async def answered(request: Request) -> Response:
            try:
                text = await body(request)
                if not waiting.acquire(blocking=False):
                    raise Refused(503, "question", "the demo has too much to do; try again in a moment")
                try:
                    return JSONResponse(await run_in_threadpool(lambda: answer(demo, parsed(kind, text))))
                finally:
                    waiting.release()
            except Refused as refused:
                return JSONResponse({"error": refused.line, "of": refused.part}, refused.status)

        return answered

    fixed = [_fixed(f"/{name}", (files("dpl.demo") / name).read_bytes(), kind) for name, kind in _ASSETS.items()]
    return Starlette(
        routes=[
            _fixed("/", _page(demo).encode(), "text/html"),
            _fixed("/scale.png", png(scale(160, 10)), "image/png"),
            *fixed,
            Route("/examples/{place}", example),
            Route("/words", answering(Words, _words), methods=["POST"]),
            Route("/answer", answering(Question, _answer), methods=["POST"]),
        ],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=guard(hosts))],
    )


def _fixed(path: str, content: bytes, kind: str) -> Route:
    async def given(request: Request) -> Response:
        return Response(content, media_type=kind)

    return Route(path, given)


def _page(demo: Demo) -> str:
    summary = METHODS[demo.model.name].summary if demo.model.name in METHODS else None
    page = environment("demo").get_template("page.html.j2")
    return page.render(demo=demo, summary=summary, most_bytes=MOST_BYTES, most_images=MOST_IMAGES)


def _wording(demo: Demo, words: Words) -> Wording:
    try:
        return demo.wording(words.names, words.template)
    except DplError as error:
        raise Refused(422, "words", str(error)) from None


def _words(demo: Demo, words: Words) -> dict[str, Any]:
    wording = _wording(demo, words)
    return {"classes": len(wording.names), "note": demo.note(wording)}


def _answer(demo: Demo, question: Question) -> dict[str, Any]:
    """Answers a question as JSON for the page's script."""
    wording = _wording(demo, question)
    try:
        answer: Answer = demo.answer(question.name, question.image, wording, question.label)
    except DplError as error:
        raise Refused(422, "image", str(error)) from None
    models = {
        name: {"note": found} if isinstance(found, str) else _shown(found, wording.names) for name, found in answer.models.items()
    }
    return {"picture": _url(answer.picture), "models": models}


def _shown(prediction: Prediction, names: tuple[str, ...]) -> dict[str, Any]:
    classes = [{"label": label, "name": name, "probability": share} for label, name, share in prediction.classes]
    looked_for = {"label": prediction.label, "looks_for": names[prediction.label], "picture": _url(prediction.picture)}
    return {"classes": classes, **looked_for}


def _url(picture: Image.Image) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(picture)).decode()}"
