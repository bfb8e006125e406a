"""The outermost ASGI layer of both applications.

It adds the headers every answer has, writes one log line a request, and keeps the fault of one request from the others.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ra.errors import Unavailable
from ra.service.ports import Clock
from ra.web.replies import reply_to
from ra.web.services import WebMetrics

LINE: Final = "scep_ra.line"
"""Key of the scope under which a handler leaves what the log line is to say: a dict of words to values."""

NOBODY_TO_ANSWER = 499
"""What log and metrics have for a status when the client hung up before there was one."""

# RFC 8894 §4.1: a cache that replays an answer to GET PKIOperation breaks enrolment.
_EVERY_ANSWER = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]


def log_line(scope: Scope) -> dict[str, Any]:
    """What the log will say of this request; `operation` is also counted and comes from a fixed set of words."""
    line: dict[str, Any] = scope.setdefault(LINE, {})
    return line


class Edge:
    """Wraps an ASGI application. `quiet` logs requests for debugging only, as probes come by the second."""

    def __init__(self, app: ASGIApp, *, clock: Clock, metrics: WebMetrics, quiet: bool = False) -> None:
        self._app = app
        self._clock = clock
        self._metrics = metrics
        self._log = structlog.get_logger("ra.web")
        self._level = "debug" if quiet else "info"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = self._clock.monotonic_seconds()
        line = log_line(scope)
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], *_EVERY_ANSWER]}
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception as error:  # noqa: BLE001  # a fault in one request must not end the others
            self._metrics.fault()
            self._log.error("fault", operation=line.get("operation", "other"), exc_info=error)
            if not status:
                await reply_to(error).write(send_with_headers)
        except asyncio.CancelledError:
            # The server stops and waits no longer: nobody is above to be told. Work that was begun goes on without the
            # request, and a device that comes back finds what has become of it.
            line["outcome"] = "unavailable"
            if not status:
                await reply_to(Unavailable("the server stops")).write(send_with_headers)
        status = status or NOBODY_TO_ANSWER
        if status == 404:  # noqa: PLR2004  # a path that is served may say what it is in its own words
            line["path"] = scope["path"]
        self._metrics.http_answered(line.setdefault("operation", "other"), status)
        seconds = self._clock.monotonic_seconds() - started
        client = (scope.get("client") or ("unknown",))[0]
        getattr(self._log, self._level)(
            "request",
            method=scope["method"],
            status=status,
            client=client,
            milliseconds=round(seconds * 1000, 1),
            **line,
        )
