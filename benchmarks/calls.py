"""What one call of a connector costs in processor time: carried as scep-ra does it, and by httpx, in one run.

A server in another process answers every request with the same 3 kB over kept-alive connections; sixteen calls are under
way at a time, on the event loop that the RA uses. Runs take turns; the median counts.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import cast

import httpx
import uvloop

from connectors.api import Secret, Services
from connectors.transport import Call, Effect, Transport, TransportOptions
from connectors.transport.carrier import Carrier
from tests.fakes.carriers import HttpxCarrier

AT_ONCE, CALLS, ROUNDS = 16, 4_000, 3

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_BODY = b'{"data": "' + b"a" * 3000 + b'"}'
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(_BODY) + _BODY
_CALL = Call(operation="sign", effect=Effect.ISSUES, method="POST", url="v1/sign", content=b"x" * 1500)

CARRIERS: dict[str, Callable[[], Carrier | None]] = {
    "aiohttp, as scep-ra": lambda: None,
    "httpx by itself": lambda: HttpxCarrier(httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=64))),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calls", description=__doc__.partition("\n")[0])
    parser.add_argument("-n", type=int, default=CALLS, help="calls of a round (default: 4,000)")
    count = parser.parse_args().n
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    server = get_context("spawn").Process(target=_serve, args=(listening,), daemon=True)
    server.start()
    taken: dict[str, list[float]] = {label: [] for label in CARRIERS}
    for _ in range(ROUNDS):
        for label, make in CARRIERS.items():
            taken[label].append(uvloop.run(_call_all(port, make(), count)))
    server.terminate()
    print("| | cpu ms a call |\n|---|---:|")
    for label, milliseconds in taken.items():
        print(f"| {label} | {median(milliseconds):.2f} |")


async def _call_all(port: int, carrier: Carrier | None, count: int) -> float:
    """Milliseconds of processor time a call."""
    options = TransportOptions(url=f"http://127.0.0.1:{port}", max_connections=64)
    services = Services(name="lab", directory=Path(), now=_now, read_secret=Secret)
    async with Transport(options, services, carrier=carrier) as transport:

        async def call(times: int) -> None:
            for _ in range(times):
                await transport.call(_CALL)

        await asyncio.gather(*(call(10) for _ in range(AT_ONCE)))
        begun = time.process_time()
        await asyncio.gather(*(call(count // AT_ONCE) for _ in range(AT_ONCE)))
        return (time.process_time() - begun) / (count // AT_ONCE * AT_ONCE) * 1000


class _Server(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self._received = cast("asyncio.Transport", transport), b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n")
        if found and len(body) >= int(length[1] if length else 0):
            self._received = b""
            self._transport.write(_ANSWER)


def _serve(listening: socket.socket) -> None:
    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(_Server, sock=listening)
        await server.serve_forever()

    uvloop.run(serve())


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - a program of its own, not the service


if __name__ == "__main__":
    main()
