"""A registration authority in one process: every part is real but the clock, the metrics and, where told, the CA."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import select

from connectors.api import Connector
from ra.bootstrap.work import Work, build_work
from ra.challenge.api import Attempt, Deny, Receipt, Validator, Verdict
from ra.challenge.api import Unavailable as NotNow
from ra.challenge.combine import Checked
from ra.client.authority import CaCertificates, read_ca_certificates
from ra.journal.audit import OPENED, list_events
from ra.journal.chain import Chain
from ra.journal.database import PATIENCE_SECONDS, Journal
from ra.journal.records import Notice, Transaction
from ra.journal.sealing import JournalKey
from ra.journal.tables import transactions
from ra.keyring.files import FileDecryptor, FileSigner
from ra.policy.grant import Grant, Notify
from ra.policy.profile import Profile
from ra.scep.header import CertificateId
from ra.scep.keys import Identity
from ra.service.backend import Backend
from ra.service.describe import ca_certificate_message
from ra.service.endpoint import Directory, Endpoint
from ra.service.gate import Gate
from ra.service.pki_operation import Answer
from ra.service.returned import NONE, Deviations
from ra.service.ring import Ring
from tests.fakes import pki
from tests.fakes.clock import FakeClock

URL = "sqlite:///ra.db"
KEY = JournalKey(bytes(32))
TIMEOUT_SECONDS = 50.0
LEASE = timedelta(seconds=60)
"""How long an answer may be on its way, as it follows from TIMEOUT_SECONDS."""

CHALLENGE = "the one challenge"
FLOOR_SECONDS = 0.25

_TRANSACTIONS = select(*(transactions.c[each.name] for each in fields(Transaction))).order_by(transactions.c.created_at)


class OneChallenge:
    """Grants the one challenge; `verdict` replaces what it says."""

    def __init__(self) -> None:
        self.verdict: Verdict | None = None
        self.asked = 0

    async def check(self, attempt: Attempt) -> Verdict:
        self.asked += 1
        if self.verdict is not None:
            return self.verdict
        if attempt.challenge_password == CHALLENGE:
            return Grant(method="shared", label="first")
        return Deny(detail="no secret matches")

    async def aclose(self) -> None:
        """Nothing is held open."""


class AttendedChallenge(OneChallenge):
    """The same, and the certificate waits until it is told, which it says by `receipt`."""

    def __init__(self) -> None:
        super().__init__()
        strict = Notify(validator="shared", is_strict=True, patience=timedelta(hours=1))
        self.verdict = Grant(method="shared", label="first", notify=(strict,))
        self.receipt: Receipt = NotNow(detail="nobody is in")

    async def notify(self, _: Notice) -> Receipt:
        return self.receipt


class Counts:
    """Implements ra.service.ports.Metrics."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.alarms: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.legacy: Counter[str] = Counter()
        self.quirks: Counter[str] = Counter()
        self.gates: list[tuple[int, int, bool]] = []
        self.stopped: dict[str, bool] = {}
        self.in_flight: list[int] = []
        self.away: Counter[str] = Counter()
        self.lags: list[float] = []
        self.ends: dict[str, datetime] = {}
        self.notifications: Counter[tuple[str, str, str]] = Counter()

    def answered(self, profile: str, message_type: str, outcome: str, seconds: float) -> None:  # noqa: ARG002
        self.outcomes[outcome] += 1

    def alarmed(self, profile: str, reason: str) -> None:  # noqa: ARG002
        self.alarms[reason] += 1

    def connector_failed(self, connector: str, kind: str) -> None:  # noqa: ARG002
        self.failures[kind] += 1

    def legacy_used(self, profile: str, algorithm: str) -> None:  # noqa: ARG002
        self.legacy[algorithm] += 1

    def quirk_seen(self, profile: str, quirk: str) -> None:  # noqa: ARG002
        self.quirks[quirk] += 1

    def notified(self, validator: str, occasion: str, outcome: str) -> None:
        self.notifications[validator, occasion, outcome] += 1

    def gate_changed(self, connector: str, *, in_use: int, waiting: int, is_open: bool) -> None:  # noqa: ARG002
        self.gates.append((in_use, waiting, is_open))

    def connector_stopped(self, connector: str, *, is_stopped: bool) -> None:
        self.stopped[connector] = is_stopped

    def enrolments_changed(self, in_flight: int) -> None:
        self.in_flight.append(in_flight)

    def sent_away(self, profile: str, why: str) -> None:  # noqa: ARG002
        self.away[why] += 1

    def lagged(self, seconds: float) -> None:
        self.lags.append(seconds)

    def credential_ends(self, validator: str, at: datetime) -> None: ...

    def identity_ends(self, identity: str, at: datetime) -> None:
        self.ends[identity] = at


@dataclass(kw_only=True)
class Assembled:
    """The RA, and what it did."""

    journal: Journal
    endpoint: Endpoint
    validator: OneChallenge
    work: Work
    clock: FakeClock
    counts: Counts = field(default_factory=Counts)

    @property
    def ca(self) -> CaCertificates:
        """What a device learns by GetCACert."""
        return read_ca_certificates(ca_certificate_message(self.endpoint)[0])

    async def answer(self, message: bytes) -> Answer:
        return await self.work.operation.answer(self.endpoint, message)

    async def sweep(self, later: timedelta = timedelta()) -> None:
        """What the sweeper does `later`, until nothing is due any more."""
        self.clock.advance(later)
        while await self.work.sweeper.sweep() + await self.work.strays.look():
            await self.work.background.drain()
            await self.work.strays.drain()

    async def transactions(self) -> list[Transaction]:
        """All of them, the oldest first."""
        rows = await self.journal.read(lambda c: c.execute(_TRANSACTIONS).mappings().all())
        return [Transaction(**dict(row)) for row in rows]

    async def events(self) -> list[dict[str, Any]]:
        """What was audited of enrolments, in its order."""
        events = [json.loads(each.event) for each in await self.journal.read(list_events)]
        return [each for each in events if each["event"] != OPENED]


@cache
def identity(ca: pki.FakeCa) -> Identity:
    """The RA's, the same after a restart."""
    certificate = ca.issue(pki.rsa_key())
    der, key_id = pki.der(certificate), None
    named = CertificateId(issuer=certificate.issuer.public_bytes(), serial=certificate.serial_number, key_id=key_id)
    return Identity(
        name="ra",
        decryptor=FileDecryptor(certificate=der, certificate_id=named, key=pki.rsa_key()),
        signer=FileSigner(certificate=der, certificate_id=named, key=pki.rsa_key()),
    )


@asynccontextmanager
async def assembled(
    directory: Path,
    connector: Connector,
    ca: pki.FakeCa,
    *,
    challenge: bool = True,
    asks: Callable[[FakeClock], Awaitable[Validator]] | None = None,
    resubmit_after: timedelta | None = None,
    known: Deviations = NONE,
    max_concurrent: int = 20,
    max_enrolments_in_flight: int = 1000,
    url: str = URL,
    patience_seconds: float = PATIENCE_SECONDS,
    validator: OneChallenge | None = None,
    clock: FakeClock | None = None,
    **rules: Any,
) -> AsyncIterator[Assembled]:
    """Over a journal, in `directory` where `url` does not say otherwise; `rules` are the profile's.

    `asks` makes another validator than the one challenge; it is called `shared` too.
    """
    Journal.create(url, directory=directory)
    journal = await Journal.open(url, directory=directory, patience_seconds=patience_seconds, companion=Chain())
    clock, counts, validator = clock or FakeClock(pki.NOW), Counts(), validator or OneChallenge()
    asked = await asks(clock) if asks else validator
    checked = Checked("shared", asked, log_error=lambda *_: None)
    backend = Backend(
        name="lab",
        connector=connector,
        ca_chain=ca.chain,
        gate=Gate("lab", max_concurrent=max_concurrent, max_waiting=100, clock=clock, metrics=counts),
        issue_timeout_seconds=TIMEOUT_SECONDS,
        resubmit_after=resubmit_after,
        known=known,
    )
    endpoint = Endpoint(
        profile=Profile(name="default", challenge_password_required=challenge, **rules),
        ca_id=1,
        backend=backend,
        validator=checked if challenge else None,
        ring=Ring.of(identity(ca)),
    )
    work = build_work(
        journal,
        KEY,
        endpoints=Directory({"default": endpoint}),
        backends={"lab": backend},
        validators={"shared": checked},
        clock=clock,
        entropy=os.urandom,
        metrics=counts,
        failure_floor_seconds=FLOOR_SECONDS,
        max_enrolments_in_flight=max_enrolments_in_flight,
    )
    yield Assembled(journal=journal, endpoint=endpoint, validator=validator, work=work, clock=clock, counts=counts)
    await work.background.drain()
    await work.deliveries.drain()
    await checked.aclose()
    if journal.is_alive:
        await journal.aclose()
