"""SCEP's HTTP, from the client's side: operations out, bodies back (RFC 8894 §4.1)."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import quote, urlsplit

import httpx

from ra.client.errors import BadArgument, BadReply, HttpRefused, Unreachable

MAX_REPLY_BYTES = 4 * 1024 * 1024
"""More than any reply but a very large CRL; what is larger is not read."""

_OK = 200
_SHOWN_CHARACTERS = 200


class Exchange:
    """One SCEP URL. It may carry a query of its own (`?ca_id=1`); the operation is appended to it.

    Raises:
        BadArgument: it is no URL of http or https.
    """

    def __init__(self, url: str, http: httpx.Client) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise BadArgument(f"{url!r} is no SCEP URL; write one like http://ra.example.org/scep.")
        self._url = f"{url}{'&' if '?' in url else '?'}operation="
        self._http = http

    def get(self, operation: str) -> bytes:
        """The body of the answer.

        Raises:
            Unreachable: there was no whole answer.
            HttpRefused: it was not 200.
        """
        return self._send(self._http.build_request("GET", self._url + operation))

    def pki_operation(self, message: bytes, *, post: bool) -> bytes:
        """Sends a pkiMessage, DER: binary by POST, or base64 and percent-escaped by GET. Raises as `get` does."""
        if post:
            headers = {"Content-Type": "application/x-pki-message"}
            request = self._http.build_request("POST", f"{self._url}PKIOperation", content=message, headers=headers)
        else:
            text = quote(b64encode(message).decode("ascii"), safe="")
            request = self._http.build_request("GET", f"{self._url}PKIOperation&message={text}")
        return self._send(request)

    def _send(self, request: httpx.Request) -> bytes:
        try:
            response = self._http.send(request, stream=True)
            try:
                body = _read(response)
            finally:
                response.close()
        except httpx.TransportError as fault:
            reason = str(fault).rstrip(".") or type(fault).__name__
            if (
                "WRONG_VERSION_NUMBER" in reason or "RECORD_LAYER_FAILURE" in reason
            ):  # OpenSSL's words for no TLS at all
                reason = "the server speaks plain HTTP there, and no HTTPS"
            raise Unreachable(f"{request.url.netloc.decode()} could not be asked: {reason}.") from fault
        if response.status_code != _OK:
            raise HttpRefused(response.status_code, _first_line(body), _retry_after_seconds(response))
        return body


def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    for piece in response.iter_bytes():
        body += piece
        if len(body) > MAX_REPLY_BYTES:
            raise BadReply(f"The answer is longer than {MAX_REPLY_BYTES} bytes and was not read.")
    return bytes(body)


def _first_line(body: bytes) -> str:
    """What a server says, fit to be shown: one line, no control characters."""
    line = body.decode("utf-8", "replace").strip().partition("\n")[0]
    return "".join(each for each in line[:_SHOWN_CHARACTERS] if each.isprintable()) or "no text"


def _retry_after_seconds(response: httpx.Response) -> int | None:
    value = response.headers.get("Retry-After", "")
    return int(value) if value.isascii() and value.isdigit() else None
