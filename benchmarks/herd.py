"""A herd: 10,000 devices that enrol within a minute, before a CA that makes 100 certificates a second (`make herd`).

Devices come back as devices do: after Retry-After when they are told 503, and half a minute later when they are told
PENDING, half of them with CertPoll and half with the same request. All have to be served within five minutes, and the
CA, which keeps a book, has to have made one certificate for each. SQLite with two workers, PostgreSQL with two replicas.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

import httpx
import uvloop

from benchmarks.crowd import FAILURE, PENDING, SUCCESS, Reply, connect, post
from benchmarks.ledger.book import Book
from benchmarks.prepared import Prepared, insist_on_certificates, prepare
from benchmarks.sites import POSTGRESQL, SQLITE, serving, show, site, slow_ca, watched

ARRIVAL_SECONDS = 60.0
GOAL_SECONDS = 300.0
GOAL_MIB = 1024.0

_POLL_SECONDS = (20.0, 40.0)
_PATIENCE_SECONDS = 60.0
_EXPECTED = {SUCCESS, FAILURE, PENDING, "503"}
_OPENED = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Herd:
    """Who comes: the messages of each device, in pairs, to any of the ports."""

    ports: tuple[int, ...]
    messages: Sequence[tuple[bytes, bytes]]
    arrival_seconds: float
    give_up_seconds: float


@dataclass(slots=True, kw_only=True)
class Tale:
    """What one device has to tell: how it ended, how long that took, and what it was told on the way."""

    end: str = "unserved"
    seconds: float = 0.0
    finished_at: float = 0.0
    told: Counter[str] = field(default_factory=Counter)
    reply: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of it. `seconds` is when the last one was served, from when the first one came."""

    label: str
    tales: Sequence[Tale]
    issued: Counter[str]
    resident_mib: float

    @property
    def row(self) -> dict[str, object]:
        served = [each for each in self.tales if each.end == SUCCESS]
        waited = sorted(each.seconds for each in served) or [0.0]
        told = self._told
        return {
            "": self.label,
            "devices": len(self.tales),
            "served": len(served),
            "last served s": round(max((each.finished_at for each in served), default=0.0)),
            "p50 s": round(median(waited), 1),
            "p99 s": round(waited[int(len(waited) * 0.99)], 1),
            "PENDING": told[PENDING],
            "503": told["503"],
            "FAILURE": told[FAILURE],
            "errors": self.strange.total(),
            "issued": self.issued.total(),
            "twice": sum(count - 1 for count in self.issued.values()),
            "RSS MiB": round(self.resident_mib),
        }

    @property
    def strange(self) -> Counter[str]:
        """What no device should be told: errors, by their type, and other statuses."""
        return Counter({said: count for said, count in self._told.items() if said not in _EXPECTED})

    @property
    def _told(self) -> Counter[str]:
        return sum((each.told for each in self.tales), Counter[str]())

    @property
    def is_good(self) -> bool:
        row, count = self.row, len(self.tales)
        is_right = (row["served"], row["issued"], row["twice"]) == (count, count, 0)
        in_time = max(each.finished_at for each in self.tales) <= GOAL_SECONDS
        return is_right and in_time and self.resident_mib < GOAL_MIB


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.herd", description=__doc__.partition("\n")[0])
    parser.add_argument("-n", type=int, default=10_000, help="devices (default: 10,000)")
    parser.add_argument("--database", choices=(SQLITE, POSTGRESQL), action="append", help="only this one")
    options = parser.parse_args()
    with site(SQLITE) as where, serving(where) as (replica,):
        ca, challenge = httpx.get(f"{replica.url}?operation=GetCACert").raise_for_status().content, where.challenge
    devices = prepare(options.n, ca, challenge)
    results = [_run(name, devices, ca) for name in options.database or (SQLITE, POSTGRESQL)]
    show([each.row for each in results])
    for each in results:
        if each.strange:
            print(f"{each.label}: {dict(each.strange)}")
    if not all(each.is_good for each in results):
        sys.exit(f"missed: all served once within {GOAL_SECONDS:.0f} s, under {GOAL_MIB:.0f} MiB")


def _run(database: str, devices: Sequence[Prepared], ca: bytes) -> Result:
    replicas, workers = (2, 1) if database == POSTGRESQL else (1, 2)
    label = f"{database}, {replicas * workers} {'replicas' if replicas > 1 else 'workers'}"
    print(label, flush=True)
    with (
        site(database) as where,
        slow_ca(where, processes_that_ask=2) as book,
        serving(where, workers=workers, replicas=replicas) as served,
    ):
        herd = Herd(
            ports=tuple(each.port for each in served),
            messages=[(each.pkcs_req, each.cert_poll) for each in devices],
            arrival_seconds=ARRIVAL_SECONDS * len(devices) / 10_000,
            give_up_seconds=GOAL_SECONDS * 1.2,
        )
        tales, mib = watched(served, run, herd)
        issued = Counter(each.key for each in Book(book).entries())
    happy = [(device, tale.reply) for device, tale in zip(devices, tales, strict=True) if tale.end == SUCCESS]
    insist_on_certificates(happy[:: max(1, len(happy) // _OPENED)], ca)
    return Result(label=label, tales=tales, issued=issued, resident_mib=mib)


# ---------------------------------------------------------------- the devices' process
def run(herd: Herd) -> list[Tale]:
    """Has them all come, and waits for the last."""
    return uvloop.run(_come(herd))


async def _come(herd: Herd) -> list[Tale]:
    begun, apart = time.monotonic(), herd.arrival_seconds / len(herd.messages)
    lives = (_live(herd, number, begun + number * apart, begun) for number in range(len(herd.messages)))
    return list(await asyncio.gather(*lives))


async def _live(herd: Herd, number: int, comes_at: float, begun: float) -> Tale:
    tale, chance = Tale(), random.Random(number)  # noqa: S311 - pauses
    pkcs_req, cert_poll = map(post, herd.messages[number])
    polls, is_known = bool(number % 2), False
    await asyncio.sleep(comes_at - time.monotonic())
    while time.monotonic() < begun + herd.give_up_seconds:
        try:
            reply = await _ask(chance.choice(herd.ports), cert_poll if polls and is_known else pkcs_req)
        except (OSError, TimeoutError) as error:
            tale.told[type(error).__name__] += 1
            await asyncio.sleep(chance.uniform(*_POLL_SECONDS))
            continue
        said = reply.pki_status or str(reply.status)
        tale.told[said] += 1
        if said in {SUCCESS, FAILURE}:
            tale.end, tale.reply, tale.finished_at = said, reply.body, time.monotonic() - begun
            tale.seconds = time.monotonic() - comes_at
            break
        is_known = is_known or said == PENDING
        await asyncio.sleep(max(reply.retry_after_seconds, chance.uniform(*_POLL_SECONDS)))
    return tale


async def _ask(port: int, request: bytes) -> Reply:
    """On a connection of its own, as a device that does this once a year."""
    line = await connect(port)
    try:
        return await line.ask(request, _PATIENCE_SECONDS)
    finally:
        line.close()


if __name__ == "__main__":
    main()
