"""How an answer is put on the wire, and how a request's body is read off it.

Starlette's own responses are not used for devices: they add a charset to text, which some clients compare (Q22).
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.types import Receive, Scope, Send

from ra.errors import RaError, Unavailable
from ra.scep.errors import BadQuery, TooLarge, Unreadable

TEXT = "text/plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpReply:
    """One whole answer; `media_type` is sent as it stands."""

    body: bytes
    media_type: str = TEXT
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()

    async def write(self, send: Send) -> None:
        """Always with a Content-Length: IIS-style front ends and HTTP/1.0 clients know no chunks (Q21)."""
        headers = [
            (b"content-type", self.media_type.encode("ascii")),
            (b"content-length", b"%d" % len(self.body)),
            *self.headers,
        ]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


class HttpRefusal(RaError):
    """A request that is refused before it is SCEP: a status and one sentence for whoever sent it."""

    def __init__(self, status: int, sentence: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = headers


class HungUp(RaError):
    """The client has gone before its request was complete; there is nobody to answer."""


def say(status: int, sentence: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> HttpReply:
    """One sentence as plain text."""
    return HttpReply(status=status, body=sentence.encode() + b"\n", headers=headers)


def reply_to(error: Exception) -> HttpReply:
    """What an error looks like over HTTP: a status and a fixed sentence, never what the device sent."""
    match error:
        case HttpRefusal():
            return say(error.status, str(error), error.headers)
        case TooLarge():
            return say(413, "The message is larger than this server reads.")
        case BadQuery():
            return say(400, f"This is no request of SCEP: {error}.")
        case Unreadable():
            return say(400, "This is no message of SCEP: nothing in it says whom to answer.")
        case Unavailable():
            retry_after = (b"retry-after", b"%d" % error.retry_after_seconds)
            return say(503, "This cannot be answered now; try again later.", (retry_after,))
        case _:
            return say(500, "The server failed; its log says where.")


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of that name, which is given in lower case."""
    return next((value for key, value in scope["headers"] if key == name), None)


async def read_body(scope: Scope, receive: Receive, max_bytes: int) -> bytes:
    """The body as it was sent, whatever its Content-Type says or does not say (Q18).

    Raises:
        TooLarge: it is, or announces itself, longer than `max_bytes`; no more than that is ever held.
        HttpRefusal: it is compressed: nothing is inflated on behalf of a stranger.
        HungUp: the client went away.
    """
    if (header(scope, b"content-encoding") or b"identity").strip().lower() != b"identity":
        raise HttpRefusal(415, "Send the message as it is, without a Content-Encoding.")
    announced = header(scope, b"content-length") or b"0"
    if announced.isdigit() and int(announced[:20]) > max_bytes:
        raise TooLarge(f"a body of {announced[:20].decode()} bytes is announced")
    body = bytearray()
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise HungUp("the client went away before its request was complete")
        body += event.get("body", b"")
        if len(body) > max_bytes:
            raise TooLarge(f"the body is longer than {max_bytes} bytes")
        if not event.get("more_body", False):
            return bytes(body)
