"""A process that keeps the RA's own identity: real but for the CA, which does as it is told, and the clock."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any
from uuid import uuid4

from cryptography.hazmat.primitives.serialization import load_der_public_key

from connectors.api import Capability, Health, Issued, IssueRequest, IssueResult, NoCapabilities
from connectors.keyfiles import PrivateKey
from ra.journal import audit, ra_keys
from ra.journal.chain import Chain
from ra.journal.database import Journal
from ra.journal.ra_keys import RaKey
from ra.journal.sealing import JournalKey
from ra.service.backend import Backend
from ra.service.certification import Managed
from ra.service.gate import Gate
from ra.service.identity import Wish
from ra.service.keeper import Keeper
from ra.service.ring import Holding
from tests.fakes import pki
from tests.fakes.assembled import Counts
from tests.fakes.clock import FakeClock

KEY = JournalKey(bytes(range(32)))
SHOW_AFTER = timedelta(seconds=30)
RENEW_BEFORE = timedelta(days=30)

_NUMBERS = cycle(range(10, 14))
"""Of keys that are made once for a test run: no test needs more of them at once."""


@dataclass
class OwnCa(NoCapabilities):
    """Issues what it is asked for, unless it is told what to say instead; an error is raised. Each is said once."""

    clock: FakeClock
    capabilities: frozenset[Capability] = frozenset({Capability.RA_CERTIFICATE, Capability.POLL})
    ca: pki.FakeCa = field(default_factory=pki.root)
    instead: list[IssueResult | Exception] = field(default_factory=list)
    requests: list[IssueRequest] = field(default_factory=list)
    polled: list[str] = field(default_factory=list)
    found: list[IssueRequest] = field(default_factory=list)
    longest: timedelta = timedelta(days=3650)
    ahead: timedelta = timedelta()

    async def issue(self, request: IssueRequest) -> IssueResult:
        self.requests.append(request)
        return self._said() or self._issued(request)

    async def poll(self, reference: str, request: IssueRequest) -> IssueResult:
        self.polled.append(reference)
        return self._said() or self._issued(request)

    async def find_issued(
        self,
        request: IssueRequest,
        since: datetime,  # noqa: ARG002
        others: frozenset[int] = frozenset(),  # noqa: ARG002
    ) -> Issued | None:
        self.found.append(request)
        return self._issued(request)

    async def ca_chain(self) -> tuple[bytes, ...]:
        return self.ca.chain

    async def health(self) -> Health:
        return Health(ready=True, detail="")

    async def aclose(self) -> None:
        """Nothing is held open."""

    def _said(self) -> IssueResult | None:
        if not self.instead:
            return None
        said = self.instead.pop(0)
        if isinstance(said, Exception):
            raise said
        return said

    def _issued(self, request: IssueRequest) -> Issued:
        key = load_der_public_key(request.contents.spki)
        now = self.clock.now() + self.ahead
        certificate = self.ca.issue(
            _Public(key),  # type: ignore[arg-type]  # a CA knows the public key alone
            name=request.contents.subject[0][0].value,
            extended=pki.extended_key_usage(*request.contents.extended_key_usage),
            not_before=now,
            not_after=now + min(self.longest, request.contents.validity),
        )
        return Issued(certificate=pki.der(certificate), chain=self.ca.chain, reference="1")


@dataclass(frozen=True)
class _Public:
    """What is certified, where a private key is expected of which the public half is wanted alone."""

    key: Any

    def public_key(self) -> PrivateKey:
        key: PrivateKey = self.key
        return key


@dataclass(kw_only=True)
class Keeping:
    """One process."""

    journal: Journal
    clock: FakeClock
    ca: OwnCa
    keeper: Keeper
    holding: Holding
    counts: Counts

    @property
    def serials(self) -> list[int]:
        """Of what is in use; the first is shown."""
        return [each.signer.certificate_id.serial for each in self.holding.identities]

    async def round(self, later: timedelta = timedelta()) -> list[int]:
        """What a process does `later`; returns `serials`."""
        self.clock.advance(later)
        await self.keeper.look()
        await self.keeper.keep()
        return self.serials

    async def keys(self) -> tuple[RaKey, ...]:
        return await self.journal.read(ra_keys.list_keys)

    async def audited(self) -> Counter[str]:
        """How many events of each kind, of those that tell of the RA's keys."""
        kinds = [each.read()["event"] for each in await self.journal.read(audit.list_events)]
        return Counter(each for each in kinds if each.startswith("ra-"))


@asynccontextmanager
async def keeping(
    url: str,
    *,
    clock: FakeClock | None = None,
    ca: OwnCa | None = None,
    overlap: timedelta | None = None,
    is_alone: bool = True,
    validity: timedelta = timedelta(days=730),
) -> AsyncIterator[Keeping]:
    """A process over that journal; several may be over one, with one clock and one CA."""
    journal = await Journal.open(url, directory=Path(), companion=Chain())
    clock = clock or FakeClock(pki.NOW)
    ca, counts = ca or OwnCa(clock), Counts()
    backend = Backend(
        name="lab",
        connector=ca,
        ca_chain=ca.ca.chain,
        gate=Gate("lab", max_concurrent=1, max_waiting=1, clock=clock, metrics=counts),
        issue_timeout_seconds=50,
    )
    managed = Managed(
        wish=Wish(name="ra", profile="default", validity=validity),
        backend=backend,
        renew_before=RENEW_BEFORE,
        show_after=SHOW_AFTER,
        overlap=overlap,
        is_alone=is_alone,
    )
    holding = Holding(name="ra")
    keeper = Keeper(
        journal=journal,
        key=KEY,
        managed=(managed,),
        holdings={"ra": holding},
        holder=uuid4(),
        clock=clock,
        entropy=os.urandom,
        metrics=counts,
        make_key=lambda _: pki.rsa_key(next(_NUMBERS)),
    )
    try:
        yield Keeping(journal=journal, clock=clock, ca=ca, keeper=keeper, holding=holding, counts=counts)
    finally:
        await journal.aclose()
