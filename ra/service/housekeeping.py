"""What is done once by one worker, whichever holds the lease: forgetting what is old, sealing the audit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog

from ra.errors import Unavailable
from ra.journal import claims
from ra.journal.database import Journal
from ra.service.ports import Clock

IDLE_SECONDS = 5.0
"""Between two looks at what is to be done."""


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
    """Does the chores whose lease this worker gets. A lease is not given back: it says when the chore is due again."""

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
                await chore.do()

    async def _may_do(self, chore: Chore) -> bool:
        """Looks before it takes: a look costs no commit."""
        now = self._clock.now()
        if not await self._journal.read(lambda c: claims.is_free(c, chore.name, now)):
            return False
        return await self._journal.write(
            lambda c: claims.take_lease(c, chore.name, self._holder, now, now + chore.every)
        )
