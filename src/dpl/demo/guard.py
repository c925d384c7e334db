"""Security of the demo: refuses requests of other web pages, and restricts the demo's page to this server."""

from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

HEADERS = {
    # Content of this server only: no other host, no inline script or style, no frame around the page.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

Next = Callable[[Request], Awaitable[Response]]


def guard(hosts: frozenset[str] | None) -> Callable[[Request, Next], Awaitable[Response]]:
    """Makes a middleware that refuses requests of other web pages and adds `HEADERS` to every response.

    It compares the Origin header with the Host header. The check of the Host header also stops pages whose host name resolves to
    this machine (DNS rebinding).

    Args:
        hosts: accepted host names of the server; None: all.

    Returns:
        The middleware: 421 for another host, 403 for another origin.
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
    """Returns the Host header without its port, in lower case; None if it is malformed."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
