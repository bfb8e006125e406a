"""An ASGI application served by a real uvicorn on loopback, as workers serve it, in a thread of this process."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from ra.web.receive import ReceiveLimits, http_protocol

CLIENT_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Served:
    """Where it answers."""

    port: int

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=CLIENT_SECONDS)

    def exchange(self, sent: bytes) -> bytes:
        """What comes back until the server closes."""
        with self.connect() as connection:
            connection.sendall(sent)
            return read_to_end(connection)


@contextmanager
def served(app: ASGIApp, limits: ReceiveLimits) -> Iterator[Served]:
    config = uvicorn.Config(
        app,
        http=http_protocol(limits),
        loop="uvloop",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        date_header=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield Served(listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()


def read_to_end(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def read_reply(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """One answer on a connection that stays open: status, headers, body."""
    reply = http.client.HTTPResponse(connection)
    reply.begin()
    return reply.status, dict(reply.getheaders()), reply.read()
