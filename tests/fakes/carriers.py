"""A Carrier that is one of httpx's transports: a function in the place of a server, or httpx's own way over the network."""

from __future__ import annotations

import httpx

from connectors.transport.carrier import Incoming, Outgoing


class HttpxCarrier:
    """Implements connectors.transport.carrier.Carrier."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._client = httpx.AsyncClient(transport=transport, trust_env=False)

    async def carry(self, request: Outgoing) -> Incoming:
        sent = self._client.build_request(
            request.method, request.url, headers=dict(request.headers), content=request.content
        )
        request.sending()
        response = await self._client.send(sent, stream=True)
        body = b""
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > request.most_bytes:
                break
        await response.aclose()
        return Incoming(status=response.status_code, headers=response.headers, body=body)

    async def aclose(self) -> None:
        await self._client.aclose()
