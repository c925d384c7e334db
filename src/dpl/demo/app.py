"""The demo as a web application: a page, and two questions that its script asks. Nothing is kept, and no file can be had."""

import base64
from collections.abc import Awaitable, Callable
from importlib.resources import files
from threading import BoundedSemaphore
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
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
from dpl.errors import DplError
from dpl.explain.overlay import scale
from dpl.methods import METHODS

MOST_IMAGES = 12
"""On the page at a time."""
WAITING = 8
"""Questions that wait or are answered at a time; more are refused."""
_ASSETS = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}

Endpoint = Callable[[Request], Awaitable[Response]]


def make_app(demo: Demo, hosts: frozenset[str] | None) -> Starlette:
    """The application; `hosts` are the names that a browser may know the server by, None: any (`guard`)."""
    waiting = BoundedSemaphore(WAITING)
    pictures = [example.data for example in demo.examples]

    async def example(request: Request) -> Response:
        place = request.path_params["place"]
        if place >= len(pictures):
            return PlainTextResponse("there is no such example", 404)
        return Response(pictures[place], media_type="image/png")

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
            Route("/examples/{place:int}", example),
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
    environment = Environment(loader=PackageLoader("dpl", "demo"), autoescape=True, undefined=StrictUndefined)
    summary = METHODS[demo.model.name].summary if demo.model.name in METHODS else None
    page = environment.get_template("page.html.j2")
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
    """The answer as the page's script takes it."""
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
