"""How a request of httpx goes over the network, and its response comes back: by aiohttp.

httpx's own way (httpcore, h11, anyio) takes a call several times as much processor time (benchmarks/calls.py), which with
one to three calls for an enrolment is a good part of the whole.
"""

from __future__ import annotations

import select
import ssl
from collections.abc import AsyncIterator, Callable
from time import monotonic
from types import SimpleNamespace

import aiohttp
import httpx
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

SENDING = "scep-ra.sending"
"""A request's extension: a function without arguments that is called before the first byte of it may go out."""

_LONGEST_HEADER_BYTES, _MOST_HEADERS = 65536, 1024

_FAULTS = (aiohttp.ClientError, OSError, ValueError)
"""A header or a host name that cannot be written down is a ValueError."""


class Carrier(httpx.AsyncBaseTransport):
    """Connections to any servers, directly or all by one proxy. Deadlines beyond the connection's are the caller's."""

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
            proxy: one of plain HTTP; None: servers are asked directly.
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

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """As httpx has it.

        Raises:
            httpx.TransportError: there is no response; its cause says why.
        """
        self._session = self._session or self._open()
        headers = {name.decode("ascii"): value.decode("ascii") for name, value in request.headers.raw}
        # Of a request by https the proxy gets the opening of the tunnel, of another the request itself.
        is_tunnelled = request.url.scheme == "https"
        try:
            response = await self._session.request(
                request.method,
                URL(str(request.url), encoded=True),
                headers=headers if is_tunnelled else headers | self._to_proxy,
                data=request.content or None,
                allow_redirects=False,
                trace_request_ctx=request.extensions.get(SENDING),
                proxy=self._proxy,
                proxy_headers=self._to_proxy if is_tunnelled else None,
            )
        except _FAULTS as error:
            raise _translated(error) from _cause(error)
        return httpx.Response(response.status, headers=response.raw_headers, stream=_Body(response))

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        """For the running loop."""
        watch = aiohttp.TraceConfig()
        # A proxy's CONNECT is part of making the connection.
        watch.on_connection_create_end.append(_tell)
        watch.on_connection_reuseconn.append(_tell)
        connector = _Connector(ssl=self._tls, limit=self._max_connections, keepalive_timeout=self._keep_seconds)
        return aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(sock_connect=self._connect_seconds),
            middlewares=[_once],
            trace_configs=[watch],
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            auto_decompress=False,
            max_line_size=_LONGEST_HEADER_BYTES,
            max_field_size=_LONGEST_HEADER_BYTES,
            max_headers=_MOST_HEADERS,
        )


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


class _Body(httpx.AsyncByteStream):
    """As it comes, not decompressed."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._response.content.iter_any():
                yield piece
        except _FAULTS as error:
            raise _translated(error) from _cause(error)

    async def aclose(self) -> None:
        """Gives the connection back, or closes it where the body was not read to its end."""
        self._response.release()


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """What is sent again, and what is not, is decided elsewhere: aiohttp would by itself, by the method."""
    try:
        return await handler(request)
    except _FAULTS as error:
        raise _translated(error) from _cause(error)


async def _tell(_session: aiohttp.ClientSession, context: SimpleNamespace, _values: object) -> None:
    sending: Callable[[], None] | None = context.trace_request_ctx
    if sending is not None:
        sending()


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
