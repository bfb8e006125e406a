"""The load client: sends prepared HTTP requests over kept-alive connections and reads the replies, as cheaply as it can.

It runs in a process of its own, parses no more of a reply than its length, and opens none: that happens after the clock
has stopped. Connections are spread evenly over the server's worker processes, whatever the kernel's accept does.
"""

from __future__ import annotations

import itertools
import os
import re
import selectors
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

READY_SECONDS = 20
CHUNK_BYTES = 65536
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
CAPABILITIES = b"GET %s?operation=GetCACaps HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Listener:
    """A port of this machine, and the process that answers there, itself or by its descendants."""

    port: int
    process: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to send, and to whom.

    Attributes:
        listeners: of the server, or of each of its replicas.
        path: of the SCEP URL.
        workers: how many processes the connections are to be spread over.
        warm_up: bodies sent before the clock starts.
        bodies: pkiMessages, each sent once.
    """

    listeners: tuple[Listener, ...]
    path: str
    workers: int
    connections: int
    warm_up: tuple[bytes, ...]
    bodies: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What came back.

    Attributes:
        replies: HTTP responses as read, in the order of `Job.bodies`.
        latencies_seconds: in the same order.
        client_cpu_seconds: of the load client itself while the clock ran.
        server_cpu_seconds: of the processes that answered; unlike a rate, it hardly depends on what else runs.
        workers: process ids that answered.
    """

    elapsed_seconds: float
    latencies_seconds: tuple[float, ...]
    replies: tuple[bytes, ...]
    client_cpu_seconds: float
    server_cpu_seconds: float
    workers: tuple[int, ...]


def run(job: Job) -> Run:
    """Warms up, then sends every body once and waits for every reply."""
    connections, workers = _connect_spread(job)
    _exchange_all(connections, [_post(job.path, body) for body in job.warm_up])
    requests = [_post(job.path, body) for body in job.bodies]
    client_cpu, server_cpu = time.process_time(), cpu_seconds(workers)
    start = time.perf_counter()
    exchanged = _exchange_all(connections, requests)
    elapsed = time.perf_counter() - start
    client_cpu, server_cpu = time.process_time() - client_cpu, cpu_seconds(workers) - server_cpu
    for connection in connections:
        connection.close()
    return Run(
        elapsed_seconds=elapsed,
        latencies_seconds=tuple(latency for latency, _ in exchanged),
        replies=tuple(reply for _, reply in exchanged),
        client_cpu_seconds=client_cpu,
        server_cpu_seconds=server_cpu,
        workers=workers,
    )


def body_of(response: bytes) -> bytes:
    """The body of a complete HTTP response.

    Raises:
        ValueError: the status is not 200.
    """
    head, _, body = response.partition(b"\r\n\r\n")
    if b" 200 " not in head.partition(b"\r\n")[0]:
        raise ValueError(response[:200].decode("latin-1"))
    return body if _content_length(head) is not None else b"".join(_chunks(body))


def _exchange_all(connections: Sequence[socket.socket], requests: Sequence[bytes]) -> list[tuple[float, bytes]]:
    """Keeps one request under way on each connection until all are answered."""
    exchanged: list[tuple[float, bytes]] = [(0.0, b"")] * len(requests)
    waiting = iter(range(len(requests)))
    with selectors.DefaultSelector() as selector:
        for connection, index in zip(connections, waiting, strict=False):
            selector.register(connection, selectors.EVENT_READ)
            under_way = _Exchange(connection, index, requests[index])
            selector.modify(connection, selectors.EVENT_READ, under_way)
        while selector.get_map():
            for key, _ in selector.select():
                if not key.data.receive():
                    continue
                exchanged[key.data.index] = (time.perf_counter() - key.data.start, bytes(key.data.received))
                following = next(waiting, None)
                if following is None:
                    selector.unregister(key.fileobj)
                else:
                    key.data.send(following, requests[following])
    return exchanged


class _Exchange:
    """One request under way on one connection."""

    def __init__(self, connection: socket.socket, index: int, request: bytes) -> None:
        self.connection = connection
        self.send(index, request)

    def send(self, index: int, request: bytes) -> None:
        self.index = index
        self.received = bytearray()
        self.start = time.perf_counter()
        self.connection.sendall(request)

    def receive(self) -> bool:
        """Takes what has arrived; says whether the response is complete."""
        data = self.connection.recv(CHUNK_BYTES)
        if not data:
            raise ConnectionError("the server closed a connection in the middle of a response")
        self.received += data
        return _is_complete(self.received)


def _is_complete(response: bytearray) -> bool:
    end = response.find(b"\r\n\r\n")
    if end < 0:
        return False
    length = _content_length(response[: end + 2])
    if length is None:
        return response.endswith(b"\r\n0\r\n\r\n")
    return len(response) >= end + 4 + length


def _content_length(head: bytes | bytearray) -> int | None:
    found = CONTENT_LENGTH.search(bytes(head) + b"\r\n")
    return int(found.group(1)) if found else None


def _chunks(body: bytes) -> Iterator[bytes]:
    """RFC 9112 §7.1, without trailers: Go answers so when a body is longer than its buffer."""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        yield rest[:length]
        body = rest[length + 2 :] if length else b""


def _post(path: str, body: bytes) -> bytes:
    head = (
        f"POST {path}?operation=PKIOperation HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-pki-message\r\n"
    )
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


def _connect_spread(job: Job) -> tuple[list[socket.socket], tuple[int, ...]]:
    """Opens connections until each worker holds its share; what is too much for a worker is closed again."""
    share = job.connections // job.workers
    kept: list[socket.socket] = []
    held: Counter[int] = Counter()
    deadline = time.monotonic() + READY_SECONDS
    turns = itertools.cycle(job.listeners)
    while len(kept) < share * job.workers:
        if time.monotonic() > deadline:
            raise TimeoutError(f"connections do not spread over {job.workers} workers: {dict(held)}")
        listener = next(turns)
        connection = _open(listener, job.path)
        owner = _owner(connection, listener)
        if held[owner] >= share:
            connection.close()
            continue
        held[owner] += 1
        kept.append(connection)
    return kept, tuple(sorted(held))


def _open(listener: Listener, path: str) -> socket.socket:
    """A connection that a worker has accepted: it has answered GetCACaps on it."""
    connection = socket.create_connection(("127.0.0.1", listener.port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _exchange_all([connection], [CAPABILITIES % path.encode()])
    return connection


def _owner(connection: socket.socket, listener: Listener) -> int:
    """Which process of the server holds the other end."""
    here = f":{connection.getsockname()[1]:04X}"
    there = f":{listener.port:04X}"
    for table in ("tcp", "tcp6"):  # Go listens on both families with one socket
        for line in Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[1].endswith(there) and fields[2].endswith(here):
                return _holder(f"socket:[{fields[9]}]", listener.process)
    raise LookupError("the other end of a connection is not to be found")


def _holder(descriptor: str, server: int) -> int:
    for process in processes(server):
        if any(_link(each) == descriptor for each in Path(f"/proc/{process}/fd").iterdir()):
            return process
    raise LookupError("no process of the server holds the other end of a connection")


def processes(root: int) -> Iterator[int]:
    """A process and its descendants."""
    yield root
    for task in Path(f"/proc/{root}/task").iterdir():
        for child in (task / "children").read_text(encoding="ascii").split():
            yield from processes(int(child))


def cpu_seconds(workers: Sequence[int]) -> float:
    """User and system time of processes, all threads (proc_pid_stat(5), fields 14 and 15)."""
    ticks = 0
    for worker in workers:
        fields = Path(f"/proc/{worker}/stat").read_text(encoding="ascii").rpartition(") ")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _link(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except FileNotFoundError:
        return ""
