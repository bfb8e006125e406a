"""Seals the audit from time to time, by a checkpoint that the journal's key signs; housekeeping calls it under a lease."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ra.journal.checkpoints import Known, learn, seal
from ra.journal.database import Journal
from ra.service.ports import Clock

EVERY = timedelta(minutes=1)
"""Between two checkpoints: for so long an event can be changed unseen by who writes to the database."""


class Sealing:
    """Remembers what is sealed, so that only what other workers have sealed since has to be read."""

    def __init__(self, *, journal: Journal, signer: Ed25519PrivateKey, clock: Clock, keep_days: int) -> None:
        """`keep_days` 0 keeps the audit for ever."""
        self._journal = journal
        self._signer = signer
        self._clock = clock
        self._keep = timedelta(days=keep_days)
        self._known = Known()
        self._told: frozenset[str] = frozenset()
        self._log = structlog.get_logger("ra.service.seal")

    async def seal(self) -> None:
        """Seals what is new, and removes some of what is old; logs once what cannot be read and is passed over.

        Raises:
            Unavailable: the database is away; nothing was sealed.
        """
        await self._learn()
        now = self._clock.now()
        before = now - self._keep if self._keep else None
        await self._journal.write(lambda c: seal(c, self._signer, self._known, now, before=before))
        self._tell_unreadable()

    async def _learn(self) -> None:
        """All that is new, at the first time everything: a part at a time, because a read of SQLite lets nobody else in."""
        is_more = True
        while is_more:
            is_more = await self._journal.read(lambda c: learn(c, self._known))
            await asyncio.sleep(0)

    def _tell_unreadable(self) -> None:
        for each in sorted(self._known.unreadable - self._told):
            self._log.error("a row of the audit cannot be read: see `scep-ra audit verify`", row=each)
        self._told = frozenset(self._known.unreadable)
