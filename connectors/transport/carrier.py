"""How a request goes over the network, and its response comes back: by aiohttp.

httpx's own way (httpcore, h11, anyio) takes a call several times as much processor time (benchmarks/calls.py), which with
one to three calls for an enrolment is a good part of the whole. Its errors stay: they say what went wrong in few words.
"""

from __future__ import annotations

import select
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol

import aiohttp
import httpx
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

_LONGEST_HEADER_BYTES, _MOST_HEADERS = 65536, 1024

_FAULTS = (aiohttp.ClientError, OSError, ValueError)
"""A header or a host name that cannot be written down is a ValueError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A request.

    Attributes:
        url: absolute, percent-encoded.
        sending: called before the first byte may go out.
        most_bytes: of the body of its response.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    content: bytes | None
    sending: Callable[[], None]
    most_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A response.

    Attributes:
        headers: names in lower case; the values of one that came more than once, joined by commas (RFC 9110 §5.2).
        body: as it came, not decompressed; one that is longer than was allowed is cut off, beyond that length.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class Carrier(Protocol):
    """What brings a request to its server. Deadlines beyond the connection's are the caller's."""

    async def carry(self, request: Outgoing) -> Incoming:
        """What the server says to it; nothing is sent twice.

        Raises:
            httpx.TransportError: there is no response; its cause says why.
        """

    async def aclose(self) -> None:
        """Closes what connections are open, and opens no other; twice does no harm."""


class AiohttpCarrier:
    """Connections to any servers, directly or all by one proxy. Implements Carrier."""

    def __init__(
        self,
        tls: ssl.SSLContext,
        *,
        proxy: httpx.Proxy | None,
        connect_seconds: float,
        keep_seconds: float,
        max_connections: int,
    ) -> None:
        """Opens nothing yet.

        Args:
            tls: for servers of https.
            proxy: one of plain HTTP; None: servers are asked directly, whatever the environment says.
            connect_seconds: for the connection and the TLS handshake.
            keep_seconds: how long a connection is kept that nobody uses.
            max_connections: at the same time; a request beyond waits.
        """
        self._tls = tls
        self._proxy = str(proxy.url) if proxy else None
        self._to_proxy: dict[str, str] = {}
        if proxy is not None and proxy.auth is not None:
            self._to_proxy["Proxy-Authorization"] = aiohttp.encode_basic_auth(*proxy.auth)
        self._connect_seconds = connect_seconds
        self._keep_seconds = keep_seconds
        self._max_connections = max_connections
        self._session: aiohttp.ClientSession | None = None
        self._is_closed = False

    async def carry(self, request: Outgoing) -> Incoming:
        if self._is_closed:
            raise httpx.ConnectError("the connections to it have been closed")
        self._session = self._session or self._open()
        # Of a request by https the proxy gets the opening of the tunnel, of another the request itself.
        is_tunnelled = request.url.startswith("https:")
        try:
            response = await self._session.request(
                request.method,
                URL(request.url, encoded=True),
                headers=request.headers if is_tunnelled else {**request.headers, **self._to_proxy},
                data=request.content or None,
                allow_redirects=False,
                middlewares=(_Once(request.sending),),
                proxy=self._proxy,
                proxy_headers=self._to_proxy if is_tunnelled else None,
            )
            try:
                body = await _read(response, request.most_bytes)
            finally:
                response.release()
        except _FAULTS as error:
            raise _translated(error) from _cause(error)
        return Incoming(status=response.status, headers=_headers(response), body=body)

    async def aclose(self) -> None:
        self._is_closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        """For the running loop."""
        connector = _Connector(ssl=self._tls, limit=self._max_connections, keepalive_timeout=self._keep_seconds)
        return aiohttp.ClientSession(
            connector=connector,
            request_class=_Request,
            timeout=aiohttp.ClientTimeout(sock_connect=self._connect_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept": "*/*", "User-Agent": "scep-ra"},
            skip_auto_headers=("Accept-Encoding", "Content-Type"),
            auto_decompress=False,
            max_line_size=_LONGEST_HEADER_BYTES,
            max_field_size=_LONGEST_HEADER_BYTES,
            max_headers=_MOST_HEADERS,
        )


async def _read(response: aiohttp.ClientResponse, most_bytes: int) -> bytes:
    """The body, or as much of it as shows that it is too long: then the connection is not taken up again."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > most_bytes:
            break
    return bytes(body)


def _headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    found: dict[str, str] = {}
    for raw_name, raw_value in response.raw_headers:
        name, value = raw_name.decode("latin-1").lower(), _text(raw_value)
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _text(value: bytes) -> str:
    """As servers write what is not ASCII: a secret that one repeats has to be known again."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


class _Request(aiohttp.ClientRequest):
    """One that tells before it goes out. A proxy's CONNECT is none: it is part of making the connection."""

    sending: Callable[[], None]

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        self.sending()
        return await super().send(conn)


class _Once:
    """Around each request: what is sent again, and what is not, is decided elsewhere; aiohttp would by the method."""

    def __init__(self, sending: Callable[[], None]) -> None:
        self._sending = sending

    async def __call__(self, request: Any, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        request.sending = self._sending
        try:
            return await handler(request)
        except _FAULTS as error:
            raise _translated(error) from _cause(error)


class _Connector(aiohttp.TCPConnector):
    """Takes up no connection again on which something has come that nobody has asked for.

    What looks like an answer there would be taken for that of the next request. And a goodbye would make of a request
    that could have been sent on another connection one that is lost. `_get` is aiohttp's own affair, which is why its
    version is bounded; test_transport.py sees whether it still works.
    """

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        idle = self._conns.get(key)
        while idle and not self._is_good(*idle[0]):
            idle.popleft()[0].close()
        return await super()._get(key, traces)

    def _is_good(self, protocol: ResponseHandler, since: float) -> bool:
        if protocol.transport is None or protocol.should_close or monotonic() - since > (self._keepalive_timeout or 0):
            return False
        looking = select.poll()
        looking.register(protocol.transport.get_extra_info("socket"), select.POLLIN)
        return not looking.poll(0)


def _translated(error: Exception) -> httpx.TransportError:
    match error:
        case aiohttp.ClientHttpProxyError():
            return httpx.ProxyError(f"{error.status} {error.message}")
        case aiohttp.ClientProxyConnectionError():
            return httpx.ProxyError(str(error))
        case aiohttp.InvalidURL():
            return httpx.UnsupportedProtocol(str(error))
        case ValueError():
            return httpx.LocalProtocolError(str(error))
        case TimeoutError():
            return httpx.ConnectTimeout(str(error))
        case aiohttp.ClientConnectorError():
            return httpx.ConnectError(str(error))
        case aiohttp.ServerDisconnectedError():
            # It holds as much of the answer as came, headers and all.
            return httpx.RemoteProtocolError("the server closed the connection in place of an answer")
        case aiohttp.ClientResponseError():
            return httpx.RemoteProtocolError(" ".join(error.message.split()))
        case aiohttp.ClientPayloadError():
            return httpx.RemoteProtocolError("the server closed the connection in the middle of its answer")
        case _:
            return httpx.ReadError(str(error))


def _cause(error: Exception) -> BaseException:
    """What aiohttp wraps: its own errors are OSErrors and SSLErrors too, of a kind that says less."""
    return error.__cause__ or error
