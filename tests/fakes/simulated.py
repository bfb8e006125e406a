"""A simulated server on real loopback HTTP, in a thread of this process."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from ra.simulate.vault import SimulatedVault
from tests.fakes.connecting import TlsFiles


def now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - connectors under contract are given the machine's clock


def simulated_vault() -> SimulatedVault:
    return SimulatedVault(now=now, entropy=os.urandom)


@contextmanager
def listening(app: ASGIApp, tls: TlsFiles | None = None, *, asks_for_certificate: bool = True) -> Iterator[str]:
    """The URL at which it answers; with TLS files, by HTTPS alone, and to clients of their CA alone."""
    secured: dict[str, Any] = {}
    if tls is not None:
        wanted = ssl.CERT_REQUIRED if asks_for_certificate else ssl.CERT_NONE
        secured = {
            "ssl_certfile": tls.certificate,
            "ssl_keyfile": tls.key,
            "ssl_ca_certs": str(tls.ca),
            "ssl_cert_reqs": wanted,
        }
    config = uvicorn.Config(
        app, ws="none", lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1, **secured
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        port = listener.getsockname()[1]
        try:
            yield f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join()


@dataclass
class Front:
    """What listens for a whole module of tests: a server costs more to start than the application it serves."""

    url: str = ""
    app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.app is not None
        await self.app(scope, receive, send)


@contextmanager
def listening_front(tls: TlsFiles | None = None) -> Iterator[Front]:
    front = Front()
    with listening(front, tls) as url:
        front.url = url
        yield front
