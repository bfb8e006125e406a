"""Requests that were refused before anything was committed: a bounded table that no reply waits for.

Anybody can cause a refusal, so it costs neither a transaction nor an fsync of its own: refusals are gathered in memory
and written together, and what is too much is forgotten, oldest first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import asdict

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from ra.errors import Unavailable
from ra.journal.database import Journal
from ra.journal.records import Refusal
from ra.journal.tables import refusals

FLUSH_EVERY_SECONDS = 1.0
MAX_WAITING = 1_000
MAX_KEPT = 10_000
MAX_DETAIL = 500

_INSERT = insert(refusals)
_PURGE = delete(refusals).where(
    refusals.c.seq <= select(func.max(refusals.c.seq)).scalar_subquery() - bindparam("kept")
)


class RefusalLog:
    """Takes refusals at once and writes them later."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._waiting: deque[Refusal] = deque(maxlen=MAX_WAITING)

    def note(self, refusal: Refusal) -> None:
        """Remembers a refusal; never waits, never fails."""
        self._waiting.append(refusal)

    async def flush(self) -> None:
        """Writes what is waiting; with the database away, it waits on."""
        if not self._waiting:
            return
        batch = tuple(self._waiting)
        self._waiting.clear()
        try:
            await self._journal.write(lambda connection: _insert(connection, batch))
        except Unavailable:
            self._waiting = deque((*batch, *self._waiting), maxlen=MAX_WAITING)

    async def run(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Flushes every second until it is cancelled, and once more then."""
        try:
            while True:
                await sleep(FLUSH_EVERY_SECONDS)
                await self.flush()
        finally:
            await self.flush()


def _insert(connection: Connection, batch: tuple[Refusal, ...]) -> None:
    connection.execute(_INSERT, [asdict(each) | {"detail": each.detail[:MAX_DETAIL]} for each in batch])
    connection.execute(_PURGE, {"kept": MAX_KEPT})
