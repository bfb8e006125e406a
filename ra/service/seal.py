"""Seals the audit from time to time, by a checkpoint that the journal's key signs; housekeeping calls it under a lease."""

from __future__ import annotations

from datetime import timedelta

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

    async def seal(self) -> None:
        """Seals what is new, and removes some of what is old.

        Raises:
            Unavailable: the database is away; nothing was sealed.
        """
        while await self._journal.read(lambda c: learn(c, self._known)):
            pass
        now = self._clock.now()
        before = now - self._keep if self._keep else None
        await self._journal.write(lambda c: seal(c, self._signer, self._known, now, before=before))
