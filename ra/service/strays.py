"""What follows when a CA has sent what it should not have: it is asked for nothing new, and the certificate is revoked.

Both stand in the journal. Every process mirrors the stops in its gates, and whoever comes first has a certificate
revoked that nobody may have; it is tried again until the CA has confirmed it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import structlog

from connectors.api import Capability, RevocationReason
from ra.errors import Unavailable
from ra.journal import stops, strays
from ra.journal.database import Journal
from ra.journal.stops import Stop
from ra.journal.strays import Stray
from ra.service.backend import Backend
from ra.service.background import Background
from ra.service.gate import Overloaded
from ra.service.issue import Issuing
from ra.service.pauses import pause
from ra.service.ports import Clock, Entropy, Metrics

IDLE_SECONDS = 1.0
"""Between two looks: so long another process may go on asking a CA that one has stopped."""

BATCH = 50
"""Certificates that are revoked in one look."""

PATIENCE_SECONDS = 5.0
"""How long a revocation waits for its turn at the CA."""

FIRST_SECONDS, LONGEST_SECONDS = 2.0, 3600.0
"""Between two attempts at one certificate, growing."""

_REMIND = timedelta(days=1)
"""How often an alarm is repeated about a certificate that this service cannot have revoked."""


class Strays:
    """Keeps every gate as the journal has it, and has certificates revoked."""

    def __init__(
        self,
        *,
        journal: Journal,
        backends: Mapping[str, Backend],
        issuing: Issuing,
        clock: Clock,
        entropy: Entropy,
        metrics: Metrics,
    ) -> None:
        self._journal = journal
        self._backends = backends
        self._issuing = issuing
        self._clock = clock
        self._metrics = metrics
        self._entropy = entropy
        self._background: Background[None] = Background()
        self._log = structlog.get_logger("ra.service.strays")

    async def run(self) -> None:
        """Looks until it is cancelled; with the database away, it waits on."""
        while True:
            try:
                await self.look()
            except Unavailable as error:
                self._log.warning("stopped connectors cannot be looked at", detail=str(error))
            await self._journal.wait_for_work(IDLE_SECONDS)

    async def look(self) -> int:
        """Once: how many certificates were taken up.

        Raises:
            Unavailable: the journal cannot be read.
        """
        now = self._clock.now()
        stopped, due = await self._journal.read(lambda c: (stops.list_stops(c), strays.due(c, now, BATCH)))
        self._mirror(stopped)
        for each in due:
            await self._take_up(each)
        return len(due)

    def _mirror(self, stopped: tuple[Stop, ...]) -> None:
        reasons = {each.connector: each.detail for each in stopped}
        for name, backend in self._backends.items():
            reason = reasons.get(name)
            if reason == backend.gate.held_because:
                continue
            backend.gate.hold(reason)
            if reason is None:
                self._log.warning("connector resumed", connector=name)
            else:
                self._log.error("connector stopped", connector=name, detail=reason)

    async def _take_up(self, stray: Stray) -> None:
        now, backend = self._clock.now(), self._backends.get(stray.connector)
        if backend is None or not backend.can(Capability.REVOKE):
            self._metrics.alarmed(stray.profile, "STRAY")
            detail = "this connector cannot revoke, or is not configured any more: revoke it at the CA"
            await self._journal.write(lambda c: strays.postpone(c, stray, now + _REMIND, detail))
            return
        until = now + backend.lease
        claimed = await self._journal.write(lambda c: strays.claim(c, stray, until))
        if claimed is not None:
            self._background.start(stray.id, self._revoke(backend, claimed))

    async def _revoke(self, backend: Backend, stray: Stray) -> None:
        try:
            permit = await backend.gate.enter(PATIENCE_SECONDS, anew=False)
        except Overloaded as error:
            await self._postpone(stray, error)
            return
        reason = RevocationReason.CESSATION_OF_OPERATION
        answer = await self._issuing.ask(backend, permit, backend.connector.revoke(stray.certificate, reason))
        if isinstance(answer, Exception):
            self._metrics.alarmed(stray.profile, "STRAY")
            await self._postpone(stray, answer)
            return
        now = self._clock.now()
        await self._journal.write(lambda c: strays.revoked(c, stray, now))

    async def _postpone(self, stray: Stray, error: Exception) -> None:
        detail = f"{type(error).__name__}: {error}"
        wait = pause(stray.attempts, self._entropy, first_seconds=FIRST_SECONDS, longest_seconds=LONGEST_SECONDS)
        until = self._clock.now() + wait
        await self._journal.write(lambda c: strays.postpone(c, stray, until, detail))

    async def drain(self) -> None:
        """Waits until the CA has said something about everything that was taken up."""
        await self._background.drain()
