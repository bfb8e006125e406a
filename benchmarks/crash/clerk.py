"""The person in the trial: says yes or no to what waits for one, and lets time pass for what is to expire.

Works on the journal beside the service, as the commands do, from a thread of its own.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, func, select, update

from benchmarks.ledger.attended import Kind
from ra.bootstrap.clock import SystemClock
from ra.cli.opened import with_journal
from ra.errors import Unavailable
from ra.journal.database import Journal
from ra.journal.listing import Filter
from ra.journal.sealing import JournalKey
from ra.journal.states import State
from ra.journal.tables import transactions
from ra.service.operate import NotPossible, Operations

_WHO = "the clerk"
_EVERY_SECONDS = 0.2
_AT_ONCE = 100
_AWAITING = Filter(states=frozenset({State.AWAITING_APPROVAL}))
_CLOCK = SystemClock()

# A day is the shortest time to expire that can be configured.
_EXPIRE = update(transactions).where(
    transactions.c.state == State.PENDING, transactions.c.subject.contains(f"CN={Kind.LATE}-")
)
_RESTING = (State.RELEASED, State.REJECTED, State.REVOKED, State.QUARANTINED)
_UNSETTLED = (
    select(func.count())
    .select_from(transactions)
    .where(
        transactions.c.state.not_in(_RESTING),
        ~((transactions.c.state == State.EXPIRED) & transactions.c.due_at.is_(None)),
    )
)


class Clerk:
    """One for each trial."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self._is_over = threading.Event()
        self.faults: list[str] = []

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """As long as the block runs."""
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            thread.join()

    def _run(self) -> None:
        try:
            with_journal(self._config, self._work)
        except Exception as error:  # noqa: BLE001 - the edge of a thread: what it is, the report says
            self.faults.append(f"the clerk: {type(error).__name__}: {error}")

    async def _work(self, journal: Journal, key: JournalKey) -> None:
        operations = Operations(journal=journal, key=key, clock=_CLOCK, entropy=os.urandom)
        while not self._is_over.is_set():
            try:
                await _say_yes_or_no(operations)
                await journal.write(_expire)
            except Unavailable:
                pass  # somebody who was killed has held the database; it is tried again
            await asyncio.sleep(_EVERY_SECONDS)


def unsettled(config: Path) -> int:
    """How many transactions somebody has still to do something about."""

    async def count(journal: Journal, _: JournalKey) -> int:
        return await journal.read(lambda c: c.execute(_UNSETTLED).scalar_one())

    return with_journal(config, count)


async def _say_yes_or_no(operations: Operations) -> None:
    page = await operations.find(_AWAITING, None, _AT_ONCE)
    for each in page.rows:
        try:
            if f"CN={Kind.DENIED}-" in each.subject:
                await operations.deny(each.id, _WHO, "not wanted")
            else:
                await operations.approve(each.id, _WHO)
        except NotPossible:
            continue


def _expire(connection: Connection) -> None:
    connection.execute(_EXPIRE.values(expires_at=_CLOCK.now()))
