"""A whole RA for a benchmark: set up with `scep-ra init`, over either database, served as it is served in earnest."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import httpx
import psycopg

from benchmarks.ledger import steady
from benchmarks.ledger.ca import BOOK
from benchmarks.ledger.declared import declare
from benchmarks.load import processes
from benchmarks.servers import free_port, resident_mib
from ra.settings.sources import process_environment
from tests.fakes.postgres import installed, running_postgres

S = TypeVar("S")
T = TypeVar("T")

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "bench"
SQLITE, POSTGRESQL = "sqlite", "postgresql"
POSTGRES_SETTINGS = {"listen_addresses": ""}
"""All else as it comes: every commit is durable."""

READY_SECONDS = 60.0
STOP_SECONDS = 60.0

_SAMPLE_SECONDS = 0.5

_SQLITE_URL = "sqlite:///ra.db"
_INTERNAL = '''\
type = "internal"                       # a CA of its own: ca.pem, ca.key
key_passphrase = "file:ca.passphrase"'''
_RA = (sys.executable, "-m", "ra")


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """An RA that is set up. `database` is its URL."""

    config: Path
    challenge: str
    database: str

    def change(self, changes: Mapping[str, str]) -> None:
        """Replaces parts of the configuration file, each of which must be there."""
        text = self.config.read_text("utf-8")
        for old, new in changes.items():
            assert old in text, f"{old!r} is not in {self.config}"
            text = text.replace(old, new)
        self.config.write_text(text, "utf-8")

    def vacuum(self) -> None:
        """Has PostgreSQL do at once what its autovacuum does in the first minutes after so many rows."""
        if self.database != _SQLITE_URL:
            with psycopg.connect(self.database, autocommit=True) as connection:
                connection.execute("VACUUM ANALYZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One `scep-ra serve`. `ready_seconds`: from its start until /readyz said yes."""

    process: int
    port: int
    ready_seconds: float

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/scep"

    @property
    def resident_mib(self) -> float:
        """Of the supervisor and its workers."""
        return sum(map(resident_mib, processes(self.process)))


@contextmanager
def site(database: str) -> Iterator[Site]:
    """A fresh RA with an empty journal, `database` being SQLITE or POSTGRESQL; gone again afterwards.

    Keys, certificates and challenge are those of one origin, so that what devices send can be made once for several.
    """
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="site-", dir=_origin().parent))) / "ra"
        shutil.copytree(_origin(), place)
        declare(place)
        challenge = (place / "challenge.txt").read_text("utf-8").strip()
        made = Site(config=place / "ra.toml", challenge=challenge, database=_SQLITE_URL)
        if database == POSTGRESQL:
            programs = installed()
            if programs is None:
                raise FileNotFoundError("PostgreSQL is not installed; --database sqlite does without it")
            url = stack.enter_context(running_postgres(programs, POSTGRES_SETTINGS)).empty()
            made.change({f'url = "{_SQLITE_URL}"': f'url = "{url}"'})
            made = replace(made, database=url)
        yield made


@cache
def _origin() -> Path:
    """What `init` made in the first of all runs."""
    origin = CACHE / "origin"
    if not origin.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        options = ("--ca-key=ec:p256", "--ra-key=rsa:2048", "--yes", "--json")
        subprocess.run([*_RA, "init", str(origin), *options], check=True, stdout=subprocess.DEVNULL)
    return origin


@contextmanager
def serving(where: Site, *, workers: int = 1, replicas: int = 1) -> Iterator[list[Replica]]:
    """So many `scep-ra serve` over one journal, each with so many workers."""
    with ExitStack() as stack:
        yield [stack.enter_context(_serving(where, workers)) for _ in range(replicas)]


@contextmanager
def _serving(where: Site, workers: int) -> Iterator[Replica]:
    here = where.config.parent
    port, admin_port = free_port(), free_port()
    listen = (f"--listen=127.0.0.1:{port}", f"--admin-listen=127.0.0.1:{admin_port}")
    command = (*_RA, "serve", "--config", str(where.config), "--workers", str(workers), *listen)
    log = here / f"{port}.log"
    with log.open("wb") as sink:
        begun = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=_environment(here))
        try:
            _wait(f"http://127.0.0.1:{admin_port}/readyz", process, log)
            yield Replica(process=process.pid, port=port, ready_seconds=time.monotonic() - begun)
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)


@contextmanager
def slow_ca(where: Site, *, processes_that_ask: int) -> Iterator[Path]:
    """A CA in a process of its own, 0.2 s for each certificate and 20 at once, in place of the internal one; its book."""
    here, port = where.config.parent, free_port()
    share = steady.SLOTS // processes_that_ask
    where.change({_INTERNAL: f'type = "ledger"\nurl = "http://127.0.0.1:{port}"\nmax_concurrent = {share}'})
    with (here / "ca.log").open("wb") as sink:
        command = [sys.executable, "-m", "benchmarks.ledger.steady", str(here), str(port)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=_environment(here))
        try:
            _wait(f"http://127.0.0.1:{port}/fired", process, here / "ca.log")
            yield here / BOOK
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)


def watched(served: Sequence[Replica], work: Callable[[S], T], argument: S) -> tuple[T, float]:
    """What the work makes of its argument, in a process of its own, and the most memory the RA had meanwhile, in MiB."""
    most = 0.0
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        working = pool.submit(work, argument)
        while not working.done():
            most = max(most, sum(each.resident_mib for each in served))
            time.sleep(_SAMPLE_SECONDS)
        return working.result(), most


def _environment(directory: Path) -> dict[str, str]:
    """With what `declare` has written, and with this package, for whoever starts there."""
    return {**process_environment(), "PYTHONPATH": f"{directory}:{CACHE.parents[1]}"}


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(url).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.02)
    raise RuntimeError(f"scep-ra did not start:\n{log.read_text(errors='replace')[-2000:]}")


def show(rows: Sequence[Mapping[str, object]]) -> None:
    """Prints a table in Markdown, numbers to the right."""
    columns = list(rows[0])
    is_number = {name: all(isinstance(row[name], int | float) for row in rows) for name in columns}
    print(f"\n| {' | '.join(columns)} |")
    print(f"|{'|'.join('---:' if is_number[name] else '---' for name in columns)}|")
    for row in rows:
        print(f"| {' | '.join(f'{row[name]}' for name in columns)} |")
