"""Keeps other pages out of the demo, and the demo's page on this server."""

from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

HEADERS = {
    # Nothing but what this server gives: no other host, no inline script or style, no frame around the page.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

Next = Callable[[Request], Awaitable[Response]]


def guard(hosts: frozenset[str] | None) -> Callable[[Request, Next], Awaitable[Response]]:
    """Refuses what a page from elsewhere asks, also where it has its own name point here (DNS rebinding); adds `HEADERS`.

    `hosts` are the names that a browser may know the server by; None: any.
    """

    async def guarded(request: Request, call_next: Next) -> Response:
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if hosts is not None and _name(host) not in hosts:
            response: Response = PlainTextResponse("this server is for its own machine", 421)
        elif origin is not None and origin != f"{request.url.scheme}://{host}":
            response = PlainTextResponse("this server answers its own page only", 403)
        else:
            response = await call_next(request)
        response.headers.update(HEADERS)
        return response

    return guarded


def _name(host: str) -> str | None:
    """The Host header without its port, in lower case."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
