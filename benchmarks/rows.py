"""How a journal of 100,000 transactions behaves: how soon the RA is ready, and how long a search takes (`make rows`).

The rows are written in bulk, with their audit. Then the RA is started, and while it serves the journal is searched as
`scep-ra transactions` and `scep-ra certs` do.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median

from benchmarks.filling import APART, fill, mixed
from benchmarks.sites import POSTGRESQL, SQLITE, Site, serving, show, site
from ra.bootstrap.clock import SystemClock
from ra.bootstrap.journal import opened
from ra.journal.listing import Cursor, Filter, Listed
from ra.journal.states import State
from ra.service.operate import NotFound, Operations
from ra.settings.load import load

READY_GOAL_SECONDS = 5.0
SEARCH_GOAL_MILLISECONDS = 50.0

_TRIES = 41
_PAGE = 50

Look = Callable[[Operations], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one database showed: sorted milliseconds, by what was looked for."""

    database: str
    ready_seconds: float
    milliseconds: Mapping[str, list[float]]

    @property
    def is_good(self) -> bool:
        worst = max(map(p95, self.milliseconds.values()))
        return self.ready_seconds <= READY_GOAL_SECONDS and worst <= SEARCH_GOAL_MILLISECONDS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rows", description=__doc__.partition("\n")[0])
    parser.add_argument("-n", type=int, default=100_000, help="transactions (default: 100,000)")
    parser.add_argument("--database", choices=(SQLITE, POSTGRESQL), action="append", help="only this one")
    options = parser.parse_args()
    results = [_measure(name, options.n) for name in options.database or (SQLITE, POSTGRESQL)]
    show([{"database": each.database, "ready s": round(each.ready_seconds, 1)} for each in results])
    show([_row(what, results) for what in results[0].milliseconds])
    if not all(each.is_good for each in results):
        sys.exit(f"missed: ready within {READY_GOAL_SECONDS} s, each search within {SEARCH_GOAL_MILLISECONDS} ms (p95)")


def p95(milliseconds: list[float]) -> float:
    """Of sorted values."""
    return milliseconds[int(len(milliseconds) * 0.95)]


def _row(what: str, results: list[Result]) -> dict[str, object]:
    row: dict[str, object] = {"looked for": what}
    for each in results:
        taken = each.milliseconds[what]
        row |= {f"{each.database} p50 ms": round(median(taken), 1), f"{each.database} p95 ms": round(p95(taken), 1)}
    return row


def _measure(database: str, count: int) -> Result:
    with site(database) as where:
        print(f"{database}: writing {count} transactions", flush=True)
        fill(where.config, mixed(count))
        where.vacuum()
        with serving(where) as (replica,):
            taken = asyncio.run(_look(where, count))
            return Result(database=database, ready_seconds=replica.ready_seconds, milliseconds=taken)


async def _look(where: Site, count: int) -> dict[str, list[float]]:
    async with opened(load(where.config)) as (journal, key):
        operations = Operations(journal=journal, key=key, clock=SystemClock(), entropy=os.urandom)
        page = await operations.find(Filter(states=frozenset({State.RELEASED})), None, 1)
        looks = _looks(count, page.rows[0])
        return {what: sorted([await _time(look, operations) for _ in range(_TRIES)]) for what, look in looks.items()}


def _looks(count: int, known: Listed) -> dict[str, Look]:
    """What an operator looks for; `known` is the newest certificate."""
    now = datetime.now(UTC)  # noqa: TID251 - a program of its own, not the service
    middle = Cursor(created_at=now - APART * (count // 2), id=known.id)
    everything = Filter(
        states=frozenset({State.RELEASED}),
        profile="default",
        connector="lab",
        subject="nothing",
        since=now - APART * count,
    )
    return {
        "the newest": _finding(Filter()),
        "from the middle on": _finding(Filter(), middle),
        "what waits for a person": _finding(Filter(states=frozenset({State.AWAITING_APPROVAL, State.QUARANTINED}))),
        "a state that nothing is in": _finding(Filter(states=frozenset({State.UNKNOWN}))),
        "a part of one subject": _finding(Filter(subject="DEVICE-000017")),
        "a part that no subject has": _finding(Filter(subject="nothing")),
        "five conditions, never met": _finding(everything),
        "what ends in an hour": _finding(Filter(not_after_since=now, not_after_until=now + timedelta(hours=1))),
        "a serial number": _finding(Filter(serials=(known.serial or "",))),
        "a transactionID": _finding(Filter(transaction_id=known.transaction_id)),
        "possible orphans": _finding(Filter(may_be_orphan=True)),
        "how an id begins": lambda operations: operations.identify(known.id.hex[:12]),
        "an id that is wrong": _missing,
        "all about the newest": lambda operations: operations.show(known.id),
    }


def _finding(which: Filter, after: Cursor | None = None) -> Look:
    return lambda operations: operations.find(which, after, _PAGE)


async def _missing(operations: Operations) -> None:
    with suppress(NotFound):
        await operations.identify("0f8c2a4e5a0b")


async def _time(look: Look, operations: Operations) -> float:
    begun = time.perf_counter()
    await look(operations)
    return (time.perf_counter() - begun) * 1000


if __name__ == "__main__":
    main()
