"""uvicorn's HTTP protocol with an end to how long, and how much, a client may send.

uvicorn itself lets a client take any time over its request, and send a head of any length; a few hundred of those keep
everybody else out. httptools reads a URL of at most 65,535 bytes, as its offsets have 16 bits.
"""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, Final, cast

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveLimits:
    """What a client may take, absolutely: a byte now and then extends nothing.

    Attributes:
        head_seconds: from its first byte, or from the connection, to the end of the headers.
        request_seconds: from its first byte to the end of the body.
        linger_seconds: what is still sent after a refusal is thrown away for so long, so that the refusal is read.
        url_bytes: at most 65,535.
        headers_bytes: names and values.
        unread_bytes: how much of a body is thrown away after its request has been answered.
    """

    head_seconds: float = 10.0
    request_seconds: float = 20.0
    linger_seconds: float = 2.0
    url_bytes: int = 65_535
    headers_bytes: int = 32 * 1024
    unread_bytes: int = 4 * 1024 * 1024


DEFAULT_LIMITS: Final = ReceiveLimits()


def http_protocol(limits: ReceiveLimits) -> type[asyncio.Protocol]:
    """What uvicorn's `http` setting takes. It can be pickled, as worker processes are given it."""
    # uvicorn only calls it; its annotation names the class that others hand over
    return cast("type[asyncio.Protocol]", functools.partial(LimitedHttpProtocol, limits=limits))


class _BeyondLimits(Exception):
    """Leaves a parser callback; httptools turns it, as any exception, into a parser error of its own."""


class _Stage(Enum):
    """What of a request has arrived last."""

    NOTHING = auto()
    HEAD = auto()
    BODY = auto()


class LimitedHttpProtocol(HttpToolsProtocol):
    """One connection. Its timer runs whenever something is awaited of the client and uvicorn's own does not."""

    def __init__(self, *args: Any, limits: ReceiveLimits = DEFAULT_LIMITS, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._timer: asyncio.TimerHandle | None = None
        self._stage = _Stage.NOTHING
        self._began_at = 0.0
        self._head_bytes = 0
        self._unread_bytes = 0
        self._refusal: HTTPStatus | None = None

    # ------------------------------------------------------------ called by the event loop
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._arm(self._limits.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refusal:
            return
        super().data_received(data)
        if self._stage is _Stage.HEAD:
            # httptools keeps a header to itself until it is complete, so what goes in is counted
            self._head_bytes += len(data)
            if self._head_bytes > self._limits.url_bytes + self._limits.headers_bytes:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif not (self._timer or self.timeout_keep_alive_task or self._at_work):
            self._arm(self._limits.head_seconds)  # an empty line is no request, but it has stopped uvicorn's timer

    # ------------------------------------------------------------ called by the parser
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._stage = _Stage.HEAD
        self._began_at = self.loop.time()
        self._head_bytes = 0
        self._unread_bytes = 0
        self._arm(self._limits.head_seconds)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > self._limits.url_bytes:
            self._stop(HTTPStatus.REQUEST_URI_TOO_LONG)

    def on_headers_complete(self) -> None:
        if sum(len(name) + len(value) for name, value in self.headers) > self._limits.headers_bytes:
            self._stop(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        super().on_headers_complete()
        self._stage = _Stage.BODY
        self._arm(self._began_at + self._limits.request_seconds - self.loop.time())

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        if self.cycle.response_complete:
            self._unread_bytes += len(body)
            if self._unread_bytes > self._limits.unread_bytes:
                self.transport.abort()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._stage = _Stage.NOTHING
        self._disarm()

    # ------------------------------------------------------------ the timer, and refusals
    @property
    def _at_work(self) -> bool:
        """Whether the latest request whose head was read still awaits its answer."""
        return bool(self.cycle) and not self.cycle.response_complete

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._timer = self.loop.call_later(seconds, self._expire)

    def _disarm(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        earlier_request_at_work = self._at_work and self._stage is not _Stage.BODY
        if earlier_request_at_work or self.flow.read_paused:  # it is we who keep the client waiting
            self._arm(self._limits.head_seconds)
            return
        structlog.get_logger("ra.web").info("too slow", client=self.client[0] if self.client else "unknown")
        if self._stage is _Stage.NOTHING:
            self.transport.abort()
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)

    def _stop(self, status: HTTPStatus) -> None:
        self._refusal = status
        raise _BeyondLimits

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # uvicorn's sentence; ours is the status' own
        """Called by uvicorn on any parser error, a limit's included."""
        self._refuse(self._refusal or HTTPStatus.BAD_REQUEST)

    def _refuse(self, status: HTTPStatus) -> None:
        """Answers, and reads on for a moment: to close at once would reset the connection over the unread answer."""
        self._refusal = status
        if self._at_work and self._stage is not _Stage.BODY:
            self.cycle.keep_alive = False  # the request before the bad one gets its answer, and then it ends
            return
        if self._stage is _Stage.BODY:
            if self.cycle.response_started:
                self.transport.abort()
                return
            self._abandon()
        sentence = f"{status.phrase}.\n".encode()
        self.transport.write(
            b"HTTP/1.1 %d %s\r\ncontent-type: text/plain\r\ncontent-length: %d\r\ncache-control: no-store\r\n"
            b"x-content-type-options: nosniff\r\nconnection: close\r\n\r\n%s"
            % (status, status.phrase.encode(), len(sentence), sentence)
        )
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._disarm()
        self._timer = self.loop.call_later(self._limits.linger_seconds, self.transport.abort)

    def _abandon(self) -> None:
        """Tells the application that the client is gone, and makes uvicorn drop whatever it still sends."""
        self.cycle.disconnected = True
        self.cycle.message_event.set()
