"""Which enrolments are let in when there are too many: what is under way already goes before what is new.

It is decided before anything is decrypted. Whoever is sent away has spent nothing but a signature check, and comes back.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ra.errors import Unavailable
from ra.journal.database import Journal
from ra.journal.transactions import knows
from ra.scep.messages import Outer
from ra.scep.names import MessageType
from ra.service.ports import Clock, Entropy, Metrics

ENROLMENTS = frozenset({MessageType.PKCS_REQ, MessageType.RENEWAL_REQ})

LOOK_SECONDS = 0.25
"""Between two looks at how late the event loop is."""

TOO_LATE_SECONDS = 2.0
"""A process that is so late takes nothing new on."""

RETRY_SECONDS = range(5, 31)
"""When those who are sent away come back: not all at once."""


class Admission:
    """Counts the enrolments of one process that are not answered yet, and watches its event loop."""

    def __init__(
        self, *, max_in_flight: int, journal: Journal, clock: Clock, entropy: Entropy, metrics: Metrics
    ) -> None:
        self._max_in_flight = max_in_flight
        self._journal = journal
        self._clock = clock
        self._entropy = entropy
        self._metrics = metrics
        self._in_flight = 0
        self._lag_seconds = 0.0
        self._looks_at: float | None = None

    @asynccontextmanager
    async def admitted(self, profile: str, outer: Outer) -> AsyncIterator[None]:
        """Lets in, and counts until it is answered, what is new while there is room, and always what the journal knows.

        Raises:
            Unavailable: it has to come back later.
        """
        if outer.header.message_type not in ENROLMENTS:
            yield
            return
        why = self._too_much()
        if why and not await self._is_known(profile, outer):
            self._metrics.sent_away(profile, why)
            raise Unavailable(_SENTENCES[why], RETRY_SECONDS[self._entropy(1)[0] % len(RETRY_SECONDS)])
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    async def watch(self) -> None:
        """Measures how late the event loop is, until it is cancelled."""
        while True:
            self._looks_at = self._clock.monotonic_seconds() + LOOK_SECONDS
            await self._clock.sleep(LOOK_SECONDS)
            self._lag_seconds = self._overdue_seconds()
            self._metrics.lagged(self._lag_seconds)

    def _too_much(self) -> str:
        if self._in_flight >= self._max_in_flight:
            return "in-flight"
        if max(self._lag_seconds, self._overdue_seconds()) > TOO_LATE_SECONDS:
            return "lag"
        return ""

    def _overdue_seconds(self) -> float:
        """How late the look is that comes next: what waits before it has not been measured yet."""
        return 0.0 if self._looks_at is None else max(0.0, self._clock.monotonic_seconds() - self._looks_at)

    async def _is_known(self, profile: str, outer: Outer) -> bool:
        signer_key = hashlib.sha256(outer.signer.spki).digest()
        return await self._journal.read(lambda c: knows(c, profile, signer_key))

    def _count(self, step: int) -> None:
        self._in_flight += step
        self._metrics.enrolments_changed(self._in_flight)


_SENTENCES = {
    "in-flight": "too many enrolments are under way in this process",
    "lag": "this process is late with what it has to do",
}
