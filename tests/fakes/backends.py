"""A server of raw bytes on loopback: it answers each request with what comes next in its script, good HTTP or none."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

Answer = bytes | Callable[[socket.socket], None]

_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class RawServer:
    """Where it listens, and what it has received: one element for each request, head and body."""

    port: int
    received: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        return f"https://localhost:{self.port}"


def http(
    status: int, body: bytes | str = b"", *, kind: str = "application/json", headers: dict[str, str] | None = None
) -> bytes:
    """One whole answer, after which the connection is closed."""
    content = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} Because", f"Content-Length: {len(content)}", "Connection: close"]
    lines += [f"Content-Type: {kind}"] if kind else []
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


def reset(connection: socket.socket) -> None:
    """Drops the connection with a TCP reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def silence(connection: socket.socket) -> None:
    """Says nothing until the other side gives up."""
    with suppress(OSError):
        connection.recv(1)


def through(port: int) -> Answer:
    """The answer of a proxy that opens a tunnel to that port of this machine."""

    def pump(connection: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", port), _SECONDS) as beyond:
            connection.sendall(b"HTTP/1.1 200 Open\r\n\r\n")
            back = threading.Thread(target=_copy, args=(beyond, connection), daemon=True)
            back.start()
            _copy(connection, beyond)
            back.join(_SECONDS)

    return pump


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(1 << 16):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def raw_server(answers: Sequence[Answer], tls: ssl.SSLContext | None = None) -> Iterator[RawServer]:
    """Answers as many requests as there are answers, one connection each; the rest is refused."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = RawServer(listener.getsockname()[1])
        thread = threading.Thread(target=_serve, args=(listener, server, list(answers), tls), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(_SECONDS)


def _serve(listener: socket.socket, server: RawServer, answers: list[Answer], tls: ssl.SSLContext | None) -> None:
    for answer in answers:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.settimeout(_SECONDS)
        with suppress(OSError), _secured(connection, tls) as secured:
            server.received.append(_request(secured))
            if callable(answer):
                answer(secured)
            else:
                secured.sendall(answer)
    listener.close()


def _secured(connection: socket.socket, tls: ssl.SSLContext | None) -> socket.socket:
    """After a failed handshake the alert is sent, and what still comes is read: a reset would overtake the alert."""
    if tls is None:
        return connection
    spare = connection.dup()
    try:
        return tls.wrap_socket(connection, server_side=True)
    except OSError:
        spare.shutdown(socket.SHUT_WR)
        while spare.recv(1 << 16):
            pass
        raise
    finally:
        spare.close()


def _request(connection: socket.socket) -> bytes:
    read = b""
    while b"\r\n\r\n" not in read:
        piece = connection.recv(1 << 16)
        if not piece:
            return read
        read += piece
    head, _, body = read.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    expected = int(lengths[0].partition(b":")[2]) if lengths else 0
    while len(body) < expected:
        body += connection.recv(1 << 16)
    return head + b"\r\n\r\n" + body
