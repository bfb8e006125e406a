"""The two servers that are measured: scep-ra, and Debian's micromdm scepserver. Each round starts from a fresh copy."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from benchmarks.devices import Site
from ra.client.authority import read_ca_certificates

READY_SECONDS = 30
STOP_SECONDS = 30
CHALLENGE = "benchmark-challenge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that was set up once and can be started from a fresh copy any number of times.

    Attributes:
        template: its directory before the first request.
        command: what starts it, in the copy.
        url: the SCEP URL.
        workers: how many processes answer.
        ca_key_bits: RSA; its RA key, where it has one, has 2048.
    """

    label: str
    template: Path
    command: tuple[str, ...]
    url: str
    challenge: str
    workers: int
    ca_key_bits: int

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 80

    @property
    def path(self) -> str:
        return urlsplit(self.url).path


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
            command=(*program, "serve", "--config", "ra.toml", "--workers", str(count)),
            url=answer["url"],
            challenge=answer["challenge"],
            workers=count,
            ca_key_bits=ca_key_bits,
        )
        for count in workers
    ]


def scepserver(directory: Path, program: str) -> Server:
    """Debian's micromdm scepserver: one Go process that uses every core; its CA key is its RA key."""
    template = directory / "scepserver"
    template.mkdir()
    subprocess.run([program, "ca", "-init", "-depot", "depot", "-keySize", "2048"], check=True, cwd=template)
    port = free_port()
    return Server(
        label="scepserver 2.1, CA rsa:2048",
        template=template,
        command=(program, "-depot", "depot", "-port", str(port), "-challenge", CHALLENGE, "-allowrenew", "0"),
        url=f"http://127.0.0.1:{port}/scep",
        challenge=CHALLENGE,
        workers=1,
        ca_key_bits=2048,
    )


@contextmanager
def running(server: Server) -> Iterator[int]:
    """Starts a server from a fresh copy of its directory and stops it again; yields its process id."""
    copy = server.template.with_name("round")
    shutil.copytree(server.template, copy)
    log = copy / "server.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(server.command, cwd=copy, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)
        try:
            _wait_until_ready(server, process, log)
            yield process.pid
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)
            shutil.rmtree(copy)


def site(server: Server) -> Site:
    """What devices learn of a running server."""
    body = httpx.get(f"{server.url}?operation=GetCACert").raise_for_status().content
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


def _wait_until_ready(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            httpx.get(f"{server.url}?operation=GetCACaps").raise_for_status()
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"{server.label} did not start:\n{log.read_text(errors='replace')[-2000:]}")
