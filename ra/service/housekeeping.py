"""What is done once by one worker, whichever holds the lease: forgetting what is old, sealing the audit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from ra.errors import Unavailable
from ra.journal import claims
from ra.journal.database import Journal
from ra.service.ports import Clock

IDLE_SECONDS = 5.0
"""Between two looks at what is to be done."""

LONGEST = timedelta(minutes=10)
"""For so long a chore may be at work before another worker takes it for dead; less for what is done more often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chore:
    """Something to do again and again; it may be cut short at any point, and begun anew by another worker.

    Attributes:
        name: of its lease.
        every: how long after it was done it is done again.
    """

    name: str
    every: timedelta
    do: Callable[[], Awaitable[None]]


class Housekeeping:
    """Does the chores that are due and whose lease this worker gets; a lease that is given back says when it was done."""

    def __init__(self, *, journal: Journal, chores: tuple[Chore, ...], holder: UUID, clock: Clock) -> None:
        self._journal = journal
        self._chores = chores
        self._holder = holder
        self._clock = clock
        self._log = structlog.get_logger("ra.service.housekeeping")

    async def run(self) -> None:
        """Keeps house until it is cancelled; with the database away, it waits on."""
        while True:
            try:
                await self.keep()
            except Unavailable as error:
                self._log.warning("housekeeping waits", detail=str(error))
            await self._clock.sleep(IDLE_SECONDS)

    async def keep(self) -> None:
        """One round: every chore that is due, and that nobody else has taken."""
        for chore in self._chores:
            if await self._may_do(chore):
                await self._do(chore)

    async def _may_do(self, chore: Chore) -> bool:
        """Looks before it takes: a look costs no commit. Who has done it since that look has given it back later than `now`."""
        now = self._clock.now()
        if not await self._journal.read(lambda c: claims.is_due(c, chore.name, now, chore.every)):
            return False
        until = now + min(chore.every, LONGEST)
        return await self._journal.write(lambda c: claims.take_lease(c, chore.name, self._holder, now, until))

    async def _do(self, chore: Chore) -> None:
        """Where it fails it is put off until it is due again; where this worker ends, the next one begins it at once."""
        ran_at = claims.NEVER
        try:
            await chore.do()
            ran_at = self._clock.now()
        except Exception:
            ran_at = self._clock.now()
            raise
        finally:
            await self._give_back(chore, ran_at)

    async def _give_back(self, chore: Chore, ran_at: datetime) -> None:
        try:
            await self._journal.write(lambda c: claims.give_back(c, chore.name, self._holder, ran_at))
        except Unavailable as error:  # it ends by itself
            self._log.warning("a lease could not be given back", chore=chore.name, detail=str(error))
