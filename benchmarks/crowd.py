"""HTTP of many clients at once in one process, as cheap as it can be had; replies are looked at, not opened."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import cast

PATH = "/scep"
SUCCESS, FAILURE, PENDING = "0", "2", "3"

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_RETRY_AFTER = re.compile(rb"\r\nretry-after: *(\d+)\r\n", re.IGNORECASE)
# The attribute pkiStatus, 2.16.840.1.113733.1.9.3: a SET of one PrintableString of one character.
_PKI_STATUS = re.compile(bytes.fromhex("060a6086480186f845010903 3103 1301") + b"(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP response. `retry_after_seconds` is 0 where it does not say."""

    status: int
    retry_after_seconds: int
    body: bytes

    @property
    def pki_status(self) -> str:
        """SUCCESS, FAILURE or PENDING; empty where it is no CertRep."""
        found = _PKI_STATUS.search(self.body)
        return found[1].decode("latin-1") if found else ""


class Line(asyncio.Protocol):
    """One connection, on which one request is under way at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._answer: asyncio.Future[Reply] | None = None

    async def ask(self, request: bytes, patience_seconds: float) -> Reply:
        """Sends a request and returns its response.

        Raises:
            ConnectionError: the other end has closed.
            TimeoutError: it says nothing.
        """
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the server has closed the connection")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        async with asyncio.timeout(patience_seconds):
            return await self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # ------------------------------------------------------------ called by the event loop
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0 or self._answer is None or self._answer.done():
            return
        head = bytes(self._received[: end + 2])
        length = _LENGTH.search(head)
        assert length is not None, head
        whole = end + 4 + int(length[1])
        if len(self._received) >= whole:
            again = _RETRY_AFTER.search(head)
            body = bytes(self._received[end + 4 : whole])
            del self._received[:whole]
            self._answer.set_result(Reply(int(head[9:12]), int(again[1]) if again else 0, body))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("the server has closed the connection"))


async def connect(port: int) -> Line:
    """A connection to a port of this machine.

    Raises:
        OSError: nobody listens, or too many are open.
    """
    loop = asyncio.get_running_loop()
    _, line = await loop.create_connection(Line, "127.0.0.1", port)
    return line


def post(body: bytes) -> bytes:
    """The HTTP request of a PKIOperation."""
    head = (
        f"POST {PATH}?operation=PKIOperation HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: application/x-pki-message\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
