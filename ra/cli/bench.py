"""`scep-ra bench`: enrols many devices at one URL and tells how long it took.

It checks every certificate it gets, in the same process that sends: enough to find out what a server can take from
afar, and to see it stumble. What scep-ra itself can do is measured by benchmarks/enrolment.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from connectors.keyfiles import PrivateKey, make_key
from ra.cli.client import Fingerprint, KeyType, Legacy, Peer, TlsCa, Url
from ra.cli.output import FAILED, AsJson, show
from ra.client.client import Enrolled, ScepClient
from ra.client.csr import read_subject, write_csr
from ra.client.errors import ClientError

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One device's enrolment. `failure` is empty where it holds a certificate."""

    seconds: float
    failure: str = ""


def command(
    url: Url,
    *,
    challenge: Annotated[str | None, typer.Option("--challenge", help="The challenge password.")] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Devices.")] = 100,
    connections: Annotated[int, typer.Option("--connections", "-c", min=1, max=256, help="At the same time.")] = 8,
    key_type: KeyType = "rsa:2048",
    ca_fingerprint: Fingerprint = None,
    tls_ca: TlsCa = None,
    legacy: Legacy = False,
    as_json: AsJson = False,
) -> None:
    """Enrol many devices and measure. Keys are made beforehand."""
    peer = Peer(url=url, fingerprint=ca_fingerprint, legacy=legacy, tls_ca=tls_ca)
    with ExitStack() as stack:
        # An unreachable server is told before any key is made.
        clients = [_ready(stack.enter_context(peer.connect())) for _ in range(connections)]
        advance = stack.enter_context(_progress(count))
        keys = _each(lambda _: make_key(key_type), range(count), connections, advance("keys"))
        enrol = _Enroller(clients, challenge)
        started = time.perf_counter()
        attempts = _each(enrol, keys, connections, advance("devices"))
        seconds = time.perf_counter() - started
    value = summary(attempts, seconds)
    if as_json:
        show(value, "", as_json=True)
    else:
        Console().print(_table(value))
    if value["failed"]:
        raise typer.Exit(FAILED)


def _ready(scep: ScepClient) -> ScepClient:
    """The client, after it has asked what every client asks first."""
    scep.caps()
    scep.ca_certificates()
    return scep


class _Enroller:
    """Enrols one key, over whichever connection is free."""

    def __init__(self, clients: Sequence[ScepClient], challenge: str | None) -> None:
        self._challenge = challenge
        self._free: SimpleQueue[ScepClient] = SimpleQueue()
        for each in clients:
            self._free.put(each)

    def __call__(self, key: PrivateKey) -> Attempt:
        csr = write_csr(key, read_subject("CN=bench"), challenge_password=self._challenge)
        scep = self._free.get()
        started = time.perf_counter()
        try:
            failure = "" if isinstance(scep.enrol(key, csr), Enrolled) else "PENDING"
        except ClientError as error:
            failure = str(error)
        finally:
            self._free.put(scep)
        return Attempt(seconds=time.perf_counter() - started, failure=failure)


def summary(attempts: Sequence[Attempt], seconds: float) -> dict[str, Any]:
    """What is told of a run that took so long in all."""
    good = sorted(each.seconds * 1000 for each in attempts if not each.failure)
    return {
        "devices": len(attempts),
        "failed": len(attempts) - len(good),
        "seconds": round(seconds, 3),
        "per_second": round(len(good) / seconds, 1),
        "milliseconds": {f"p{each}": _percentile(good, each) for each in (50, 95, 99)},
        "failures": sorted({each.failure for each in attempts if each.failure}),
    }


def _percentile(ascending: Sequence[float], percent: int) -> float:
    return round(ascending[len(ascending) * percent // 100], 1) if ascending else 0.0


def _table(value: dict[str, Any]) -> Table:
    table = Table("measured", "value", title="Enrolment")
    table.add_row("devices", f"{value['devices']}, {value['failed']} failed")
    table.add_row("certificates a second", str(value["per_second"]))
    for name, milliseconds in value["milliseconds"].items():
        table.add_row(f"{name}, milliseconds", str(milliseconds))
    for failure in value["failures"]:
        table.add_row("failure", failure)
    return table


def _each(work: Callable[[T], R], items: Sequence[T], threads: int, advance: Callable[[], None]) -> list[R]:
    with ThreadPoolExecutor(threads) as pool:
        results = []
        for result in pool.map(work, items):
            advance()
            results.append(result)
        return results


@contextmanager
def _progress(count: int) -> Iterator[Callable[[str], Callable[[], None]]]:
    """A bar on stderr where somebody watches, one line for each name that is asked for."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:

        def line(name: str) -> Callable[[], None]:
            task = progress.add_task(name, total=count)
            return lambda: progress.advance(task)

        yield line
