"""The servers that are measured: scep-ra on both databases, and Debian's micromdm scepserver; each round on fresh copies."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from benchmarks.devices import Site
from benchmarks.load import Listener
from ra.client.authority import read_ca_certificates
from ra.settings.sources import process_environment

READY_SECONDS = 30
STOP_SECONDS = 30
CHALLENGE = "benchmark-challenge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that was set up once and can be started from a fresh copy any number of times.

    Attributes:
        template: its directory before the first request.
        commands: what starts it, in the copy: one process, or one for each replica.
        urls: the SCEP URL of each.
        fresh_database: gives each round the URL of an empty database of its own; None: it lies in the directory.
        workers: how many processes answer.
        ca_key_bits: RSA; its RA key, where it has one, has 2048.
    """

    label: str
    template: Path
    commands: tuple[tuple[str, ...], ...]
    urls: tuple[str, ...]
    challenge: str
    workers: int
    ca_key_bits: int
    fresh_database: Callable[[], str] | None = None

    @property
    def path(self) -> str:
        return urlsplit(self.urls[0]).path


def scep_ra(directory: Path, *, ca_key_bits: int, workers: tuple[int, ...]) -> list[Server]:
    """scep-ra as `init` sets it up: SQLite with synchronous=FULL; the same set-up for each number of workers."""
    program = (sys.executable, "-m", "ra")
    template = directory / f"scep-ra-{ca_key_bits}"
    port = free_port()
    listen = (f"--listen=127.0.0.1:{port}", f"--admin-listen=127.0.0.1:{free_port()}")
    options = (f"--ca-key=rsa:{ca_key_bits}", "--ra-key=rsa:2048", *listen, "--yes", "--json")
    said = subprocess.run([*program, "init", str(template), *options], check=True, capture_output=True, text=True)
    answer = json.loads(said.stdout)
    return [
        Server(
            label=f"scep-ra, {count} worker{'s' * (count > 1)}, CA rsa:{ca_key_bits}",
            template=template,
            commands=((*program, "serve", "--config", "ra.toml", "--workers", str(count)),),
            urls=(answer["url"],),
            challenge=answer["challenge"],
            workers=count,
            ca_key_bits=ca_key_bits,
        )
        for count in workers
    ]


def replicated(server: Server, replicas: int, fresh_database: Callable[[], str]) -> Server:
    """The same with its journal in PostgreSQL, and so many replicas of one worker each."""
    listeners = [(f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}") for _ in range(replicas)]
    [(*serve, _)] = server.commands
    return replace(
        server,
        label=f"scep-ra, PostgreSQL, {replicas} replicas, CA rsa:{server.ca_key_bits}",
        commands=tuple((*serve, "1", f"--listen={here}", f"--admin-listen={admin}") for here, admin in listeners),
        urls=tuple(f"http://{here}{server.path}" for here, _ in listeners),
        workers=replicas,
        fresh_database=fresh_database,
    )


def scepserver(directory: Path, program: str) -> Server:
    """Debian's micromdm scepserver: one Go process that uses every core; its CA key is its RA key."""
    template = directory / "scepserver"
    template.mkdir()
    subprocess.run([program, "ca", "-init", "-depot", "depot", "-keySize", "2048"], check=True, cwd=template)
    port = free_port()
    return Server(
        label="scepserver 2.1, CA rsa:2048",
        template=template,
        commands=((program, "-depot", "depot", "-port", str(port), "-challenge", CHALLENGE, "-allowrenew", "0"),),
        urls=(f"http://127.0.0.1:{port}/scep",),
        challenge=CHALLENGE,
        workers=1,
        ca_key_bits=2048,
    )


@contextmanager
def running(server: Server) -> Iterator[tuple[Listener, ...]]:
    """Starts a server from a fresh copy of its directory and stops it again; yields who listens where."""
    copy = server.template.with_name("round")
    shutil.copytree(server.template, copy)
    environment = dict(process_environment())
    if server.fresh_database is not None:
        environment["SCEP_RA_DATABASE__URL"] = server.fresh_database()
    try:
        with ExitStack() as stack:
            yield tuple(
                stack.enter_context(_started(server, index, copy, environment)) for index in range(len(server.urls))
            )
    finally:
        shutil.rmtree(copy)


@contextmanager
def _started(server: Server, index: int, directory: Path, environment: dict[str, str]) -> Iterator[Listener]:
    log = directory / f"server-{index}.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            server.commands[index],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
        )
        try:
            _wait_until_ready(server, index, process, log)
            yield Listener(urlsplit(server.urls[index]).port or 80, process.pid)
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)


def site(server: Server) -> Site:
    """What devices learn of a running server."""
    body = httpx.get(f"{server.urls[0]}?operation=GetCACert").raise_for_status().content
    return Site(ca=read_ca_certificates(body), challenge=server.challenge)


def resident_mib(process: int) -> float:
    """Resident memory of a process."""
    for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(server: Server, index: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            httpx.get(f"{server.urls[index]}?operation=GetCACaps").raise_for_status()
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"{server.label} did not start:\n{log.read_text(errors='replace')[-2000:]}")
