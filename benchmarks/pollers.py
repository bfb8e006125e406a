"""Devices that wait: 10,000 open connections that poll 1,000 times a second, for a minute (`make pollers`).

In the journal 50,000 requests are PENDING; 10,000 of them belong to devices that keep a connection open and ask with
CertPoll every ten seconds. A poll is late from the moment at which it should have been sent, whatever else is under way.
SQLite with two workers, PostgreSQL with two replicas.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from statistics import median

import httpx
import uvloop

from benchmarks.crowd import PENDING, Line, connect, post
from benchmarks.filling import a_row, fill
from benchmarks.load import cpu_seconds, processes
from benchmarks.prepared import Prepared, prepare
from benchmarks.sites import POSTGRESQL, SQLITE, serving, show, site, watched
from ra.journal.records import Transaction
from ra.journal.states import State

ROWS = 50_000
POLLS_PER_SECOND = 1000
GOAL_SECONDS = 2.0
GOAL_MIB = 1024.0

_PATIENCE_SECONDS = 30.0
_CONNECTING_AT_ONCE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """Who polls: the CertPoll of each device, to the ports in turn. `processes` are those of the RA."""

    ports: tuple[int, ...]
    processes: tuple[int, ...]
    messages: Sequence[bytes]
    seconds: float


@dataclass(slots=True, kw_only=True)
class Tale:
    """What the polls were answered, and how late: seconds, unsorted. `server_cpu_seconds` is of all processes of the RA."""

    said: Counter[str] = field(default_factory=Counter)
    latencies_seconds: list[float] = field(default_factory=list)
    elapsed_seconds: float = 0.0
    own_cpu_seconds: float = 0.0
    server_cpu_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of it."""

    label: str
    connections: int
    tale: Tale
    resident_mib: float

    @property
    def p99_seconds(self) -> float:
        return sorted(self.tale.latencies_seconds)[int(len(self.tale.latencies_seconds) * 0.99)]

    @property
    def row(self) -> dict[str, object]:
        tale = self.tale
        polls = tale.said.total()
        return {
            "": self.label,
            "connections": self.connections,
            "polls": polls,
            "polls/s": round(polls / tale.elapsed_seconds),
            "p50 ms": round(median(tale.latencies_seconds) * 1000, 1),
            "p99 ms": round(self.p99_seconds * 1000, 1),
            "max ms": round(max(tale.latencies_seconds) * 1000, 1),
            "errors": polls - tale.said[PENDING],
            "cpu ms": round(tale.server_cpu_seconds / polls * 1000, 2),
            "client cpu": f"{tale.own_cpu_seconds / tale.elapsed_seconds:.0%}",
            "RSS MiB": round(self.resident_mib),
        }

    @property
    def is_good(self) -> bool:
        is_quick = self.p99_seconds < GOAL_SECONDS
        return is_quick and set(self.tale.said) == {PENDING} and self.resident_mib < GOAL_MIB


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pollers", description=__doc__.partition("\n")[0])
    parser.add_argument("-n", type=int, default=10_000, help="connections (default: 10,000)")
    parser.add_argument("--seconds", type=float, default=60.0, help="for so long (default: 60)")
    parser.add_argument("--database", choices=(SQLITE, POSTGRESQL), action="append", help="only this one")
    options = parser.parse_args()
    with site(SQLITE) as where, serving(where) as (replica,):
        ca, challenge = httpx.get(f"{replica.url}?operation=GetCACert").raise_for_status().content, where.challenge
    devices = prepare(options.n, ca, challenge)
    results = [_run(name, devices, options.seconds) for name in options.database or (SQLITE, POSTGRESQL)]
    show([each.row for each in results])
    for each in results:
        if set(each.tale.said) != {PENDING}:
            print(f"{each.label}: {dict(each.tale.said)}")
    if not all(each.is_good for each in results):
        sys.exit(f"missed: p99 within {GOAL_SECONDS} s, no error, under {GOAL_MIB:.0f} MiB")


def _run(database: str, devices: Sequence[Prepared], seconds: float) -> Result:
    replicas, workers = (2, 1) if database == POSTGRESQL else (1, 2)
    label = f"{database}, {replicas * workers} {'replicas' if replicas > 1 else 'workers'}"
    print(f"{label}: writing {max(ROWS, len(devices))} transactions", flush=True)
    with site(database) as where:
        fill(where.config, _waiting(devices))
        where.vacuum()
        with serving(where, workers=workers, replicas=replicas) as served:
            crowd = Crowd(
                ports=tuple(each.port for each in served),
                processes=tuple(process for each in served for process in processes(each.process)),
                messages=[each.cert_poll for each in devices],
                seconds=seconds,
            )
            tale, mib = watched(served, run, crowd)
    return Result(label=label, connections=len(devices), tale=tale, resident_mib=mib)


def _waiting(devices: Sequence[Prepared]) -> Iterator[Transaction]:
    """The devices' own, and as many more as there are to be."""
    now = datetime.now(UTC)  # noqa: TID251 - a program of its own, not the service
    for number, device in enumerate(devices):
        row = a_row(number, State.PENDING, now)
        yield replace(row, signer_key=device.signer_key, transaction_id=device.transaction_id.encode())
    for number in range(len(devices), ROWS):
        yield a_row(number, State.PENDING, now)


# ---------------------------------------------------------------- the devices' process
def run(crowd: Crowd) -> Tale:
    """Connects them all, has each poll in its turn, and waits for the last answer."""
    return uvloop.run(_poll(crowd))


async def _poll(crowd: Crowd) -> Tale:
    tale, lines = Tale(), await _connect(crowd)
    every = len(lines) / POLLS_PER_SECOND
    times = max(1, round(crowd.seconds / every))
    begun, own, theirs = time.perf_counter(), time.process_time(), cpu_seconds(crowd.processes)
    polling = (
        _keep_polling(
            line, post(message), tale, [begun + number / POLLS_PER_SECOND + every * turn for turn in range(times)]
        )
        for number, (line, message) in enumerate(zip(lines, crowd.messages, strict=True))
    )
    await asyncio.gather(*polling)
    tale.elapsed_seconds = time.perf_counter() - begun
    tale.own_cpu_seconds, tale.server_cpu_seconds = time.process_time() - own, cpu_seconds(crowd.processes) - theirs
    for line in lines:
        line.close()
    return tale


async def _connect(crowd: Crowd) -> list[Line]:
    """One for each device. Each has polled once, so that a worker has taken the connection."""
    turn = asyncio.Semaphore(_CONNECTING_AT_ONCE)

    async def one(number: int, message: bytes) -> Line:
        async with turn:
            line = await connect(crowd.ports[number % len(crowd.ports)])
            await line.ask(post(message), _PATIENCE_SECONDS)
            return line

    return list(await asyncio.gather(*(one(*each) for each in enumerate(crowd.messages))))


async def _keep_polling(line: Line, request: bytes, tale: Tale, moments: Sequence[float]) -> None:
    for due in moments:
        await asyncio.sleep(due - time.perf_counter())
        try:
            reply = await line.ask(request, _PATIENCE_SECONDS)
        except (OSError, TimeoutError) as error:
            tale.said[type(error).__name__] += 1
            return
        tale.said[reply.pki_status or str(reply.status)] += 1
        tale.latencies_seconds.append(time.perf_counter() - due)


if __name__ == "__main__":
    main()
