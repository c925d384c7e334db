"""Limits of a connection, enforced before the application sees a request."""

import asyncio
import logging
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from dpl.demo.guard import HEADERS

MOST_CONNECTIONS = 256
"""Largest number of open connections; further ones are refused with 503."""
MOST_HEADER_BYTES = 16 * 1024
"""Largest size of a request's headers."""
HEADER_SECONDS = 10
"""Largest duration of the headers' transfer, from the opening of the connection or from the first byte after an answer."""


class Connection(H11Protocol):
    """An HTTP/1.1 connection of uvicorn that closes if no request arrives in time.

    Without this limit, silent connections would use up all connections of the server.
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Starts the time for the first request, or refuses the connection if there are too many."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections; try again in a moment")
        else:
            self._start_timer()

    def data_received(self, data: bytes) -> None:
        """Reads a part of a request; the time runs while its headers are incomplete."""
        super().data_received(data)
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if is_answering:
            self._stop_timer()
        elif not self.transport.is_closing():
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the time."""
        self._stop_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuses a malformed request."""
        self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def _refuse(self, status: HTTPStatus, line: str) -> None:
        """Answers without the application, with the same security headers, and closes the connection."""
        headers = {
            "Content-Type": "text/plain; charset=utf-8",
            "Content-Length": str(len(line)),
            "Connection": "close",
            **HEADERS,
        }
        head = [f"HTTP/1.1 {status} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items())]
        self.transport.write(("\r\n".join(head) + f"\r\n\r\n{line}").encode("ascii"))
        self.transport.close()

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def keep_cancellations_out_of_the_log() -> None:
    """Stops uvicorn from printing tracebacks of requests that the end of the server interrupts."""
    logger = logging.getLogger("uvicorn.error")
    if _is_no_cancellation not in logger.filters:
        logger.addFilter(_is_no_cancellation)


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    cause = record.exc_info[1] if record.exc_info else None
    return not isinstance(cause, asyncio.CancelledError) and "graceful shutdown" not in record.getMessage()
