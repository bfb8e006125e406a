"""What strangers cause: refusals in a bounded table that no reply waits for, and a summary for the audit every minute.

Anybody can cause a refusal, so it costs neither a transaction nor an fsync of its own: refusals are gathered in memory
and written together, and what is too much is forgotten, oldest first. The summary counts the forgotten ones too.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from ra.errors import Unavailable
from ra.journal import audit
from ra.journal.database import Journal
from ra.journal.records import Refusal
from ra.journal.tables import refusals
from ra.journal.texts import fit_detail

FLUSH_EVERY_SECONDS = 1.0
SUMMARY_EVERY = timedelta(minutes=1)
MAX_WAITING = 1_000
MAX_KEPT = 10_000
MAX_DETAIL = 500

_INSERT = insert(refusals)
_ALL = select(*(refusals.c[each.name] for each in fields(Refusal)))
_PURGE = delete(refusals).where(
    refusals.c.seq <= select(func.max(refusals.c.seq)).scalar_subquery() - bindparam("kept")
)


@dataclass(slots=True, kw_only=True)
class _Tally:
    """Counts by profile, and by reason or operation. Both come from small fixed sets of words."""

    since: datetime
    refusals: Counter[tuple[str, str]] = field(default_factory=Counter)
    reads: Counter[tuple[str, str]] = field(default_factory=Counter)

    def event(self) -> Mapping[str, audit.Value]:
        return {
            "event": "summary",
            "since": audit.write_time(self.since),
            "refusals": _by_profile(self.refusals),
            "reads": _by_profile(self.reads),
        }


class RefusalLog:
    """Takes refusals and counts at once and writes them later."""

    def __init__(self, journal: Journal, now: Callable[[], datetime]) -> None:
        self._journal = journal
        self._now = now
        self._waiting: deque[Refusal] = deque(maxlen=MAX_WAITING)
        self._tally: _Tally | None = None

    def note(self, refusal: Refusal) -> None:
        """Remembers a refusal; never waits, never fails."""
        self._waiting.append(refusal)
        self._tallied().refusals[refusal.profile, refusal.reason] += 1

    def put_off(self, refusal: Refusal) -> None:
        """Remembers a request that was told to come back, which is no refusal; never waits, never fails."""
        self._waiting.append(refusal)

    def count(self, profile: str, operation: str) -> None:
        """Counts an answer that anybody gets, GetCACaps and GetCACert; never waits, never fails."""
        self._tallied().reads[profile, operation] += 1

    async def flush(self, *, is_last: bool = False) -> None:
        """Writes what is waiting, and the summary where its minute is over; with the database away, they wait on."""
        now, tally = self._now(), self._tally
        is_due = tally is not None and (is_last or now - tally.since >= SUMMARY_EVERY)
        summary = tally.event() if tally is not None and is_due else None
        batch = tuple(self._waiting)
        if not batch and summary is None:
            return
        self._waiting.clear()
        if is_due:
            self._tally = None
        try:
            await self._journal.write(lambda connection: _write(connection, batch, summary, now))
        except Unavailable:
            self._waiting = deque((*batch, *self._waiting), maxlen=MAX_WAITING)
            if is_due and tally is not None:
                self._put_back(tally)

    async def run(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Flushes every second until it is cancelled, and once more then."""
        try:
            while True:
                await sleep(FLUSH_EVERY_SECONDS)
                await self.flush()
        finally:
            await self.flush(is_last=True)

    def _tallied(self) -> _Tally:
        if self._tally is None:
            self._tally = _Tally(since=self._now())
        return self._tally

    def _put_back(self, tally: _Tally) -> None:
        if self._tally is not None:
            tally.refusals.update(self._tally.refusals)
            tally.reads.update(self._tally.reads)
        self._tally = tally


def list_refusals(
    connection: Connection, transaction_id: bytes | None, profile: str | None, count: int
) -> tuple[Refusal, ...]:
    """The newest of them first, no more than `count`; None stands for any. Reads only."""
    wanted = {refusals.c.transaction_id: transaction_id, refusals.c.profile: profile}
    held = [column == value for column, value in wanted.items() if value is not None]
    newest = _ALL.where(*held).order_by(refusals.c.seq.desc()).limit(count)
    return tuple(Refusal(**dict(row)) for row in connection.execute(newest).mappings())


def _write(
    connection: Connection, batch: tuple[Refusal, ...], summary: Mapping[str, audit.Value] | None, now: datetime
) -> None:
    if batch:
        connection.execute(_INSERT, [_row(each) for each in batch])
        connection.execute(_PURGE, {"kept": MAX_KEPT})
    if summary is not None:
        audit.record(connection, now, summary)


def _row(refusal: Refusal) -> dict[str, Any]:
    asked_for = None if refusal.asked_for is None else fit_detail(refusal.asked_for)
    return asdict(refusal) | {"detail": refusal.detail[:MAX_DETAIL], "asked_for": asked_for}


def _by_profile(counts: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    value: dict[str, dict[str, int]] = {}
    for (profile, what), count in sorted(counts.items()):
        value.setdefault(profile, {})[what] = count
    return value
