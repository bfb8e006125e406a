"""The one-time secrets that devices present, minted in the trial's own journal as they are needed."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from ra.bootstrap.clock import SystemClock
from ra.cli.opened import with_journal
from ra.journal.database import Journal
from ra.journal.sealing import JournalKey
from ra.service.mint import Mint, Terms, Wish

CHALLENGE = "once"
_TERMS = Terms(method=CHALLENGE, profile=None, ttl=timedelta(days=1), length=26)
_BATCH = 500


class Secrets:
    """A store that fills itself again. Not for several threads at once."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self._left: list[str] = []

    def take(self) -> str:
        """A secret that nobody has had."""
        if not self._left:
            self._left = with_journal(self._config, _mint)
        return self._left.pop()


async def _mint(journal: Journal, key: JournalKey) -> list[str]:
    mint = Mint(journal=journal, key=key, clock=SystemClock(), entropy=os.urandom)
    minted = await mint.create(_TERMS, [Wish(label="crash")] * _BATCH, "the crash harness")
    return [each.secret.reveal() for each in minted]
