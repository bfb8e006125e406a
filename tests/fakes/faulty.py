"""A server on loopback between a connector and its backend, that goes wrong where certificates are asked for.

It speaks HTTP by itself, byte by byte, so that it can do what no proper server does.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from socket import SO_LINGER, SOL_SOCKET

import httpx

Answering = Callable[[httpx.Request], Awaitable[httpx.Response]]

_PIECE = b" " * (1 << 20)


@dataclass(kw_only=True)
class Exchange:
    """One request for a certificate, and the connection that it came on."""

    request: httpx.Request
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    answer: Answering

    async def work(self) -> httpx.Response:
        """Has the backend do what it is asked for."""
        response = await self.answer(self.request)
        await response.aread()
        return response

    async def send(self, status: int, body: bytes, headers: dict[str, str] | None = None, *, length: int = -1) -> None:
        """One answer; its `length` may be another than it says."""
        said = {"Content-Length": str(len(body) if length < 0 else length), "Connection": "close", **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in said.items())
        self.writer.write(f"HTTP/1.1 {status} Because\r\n{head}\r\n".encode() + body)
        await self.writer.drain()

    async def relay(self, response: httpx.Response, body: bytes | None = None, *, length: int = -1) -> None:
        """What the backend has said, its body perhaps another."""
        hop = {"content-length", "transfer-encoding", "connection", "content-encoding"}
        headers = {name: value for name, value in response.headers.items() if name.lower() not in hop}
        content = response.content if body is None else body
        await self.send(response.status_code, content, headers, length=length)

    async def silence(self) -> None:
        """Says nothing until the other side gives up."""
        await self.reader.read()

    def reset(self) -> None:
        self.writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def flood(self, megabytes: int) -> None:
        """A body that is longer than anybody wants to read."""
        await self.send(200, b"", length=megabytes << 20)
        with suppress(ConnectionError):
            for _ in range(megabytes):
                self.writer.write(_PIECE)
                await self.writer.drain()


Fault = Callable[[Exchange], Awaitable[None]]


@dataclass(kw_only=True)
class Faulty:
    """Where it listens. While there is a `fault`, it meets every request whose path has `issues_at` in it."""

    port: int = 0
    issues_at: str = ""
    answer: Answering | None = None
    fault: Fault | None = None
    met: int = 0
    _server: asyncio.Server | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def open(self, tls: ssl.SSLContext | None = None) -> None:
        """Listens, at the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Nobody listens any more."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._exchange(reader, writer)
        with suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self.answer is not None
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        length = int({name.lower(): value for name, value in headers.items()}.get("content-length", "0"))
        request = httpx.Request(
            method, f"{self.url}{target}", headers=headers, content=await reader.readexactly(length)
        )
        exchange = Exchange(request=request, reader=reader, writer=writer, answer=self.answer)
        if self.fault is not None and self.issues_at in target:
            self.met += 1
            await self.fault(exchange)
            return
        await exchange.relay(await exchange.work())


@asynccontextmanager
async def faulty_server() -> AsyncIterator[Faulty]:
    server = Faulty()
    await server.open()
    try:
        yield server
    finally:
        await server.close()
