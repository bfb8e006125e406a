"""A registration authority in one process: every part is real but the clock, the metrics and, where told, the CA."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from connectors.api import Connector
from ra.challenge.api import Attempt, Deny, Validator, Verdict
from ra.client.authority import CaCertificates, read_ca_certificates
from ra.journal.audit import list_events
from ra.journal.database import Journal
from ra.journal.refusals import RefusalLog
from ra.keyring.files import FileDecryptor, FileSigner
from ra.policy.grant import Grant
from ra.policy.profile import Profile
from ra.scep.header import CertificateId
from ra.scep.keys import Identity
from ra.service.describe import ca_certificate_message
from ra.service.endpoint import Endpoint
from ra.service.enrol import Enrolments
from ra.service.pki_operation import Answer, PkiOperation
from ra.service.poll import Polls
from ra.service.submit import Submissions
from tests.fakes import pki
from tests.fakes.clock import FakeClock

CHALLENGE = "the one challenge"
FLOOR_SECONDS = 0.25


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


class Counts:
    """Implements ra.service.ports.Metrics."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.alarms: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.legacy: Counter[str] = Counter()
        self.quirks: Counter[str] = Counter()

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


@dataclass(kw_only=True)
class Assembled:
    """The RA, and what it did."""

    journal: Journal
    endpoint: Endpoint
    validator: OneChallenge
    submissions: Submissions
    operation: PkiOperation
    clock: FakeClock
    counts: Counts = field(default_factory=Counts)

    @property
    def ca(self) -> CaCertificates:
        """What a device learns by GetCACert."""
        return read_ca_certificates(ca_certificate_message(self.endpoint)[0])

    async def answer(self, message: bytes) -> Answer:
        return await self.operation.answer(self.endpoint, message)

    async def events(self) -> list[dict[str, Any]]:
        return [dict(each.event) for each in await self.journal.read(list_events)]


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
    directory: Path, connector: Connector, ca: pki.FakeCa, *, challenge: bool = True, **rules: Any
) -> AsyncIterator[Assembled]:
    """Over a journal in `directory`; `rules` are the profile's."""
    Journal.create("sqlite:///ra.db", directory=directory)
    journal = await Journal.open("sqlite:///ra.db", directory=directory)
    clock, counts, validator = FakeClock(pki.NOW), Counts(), OneChallenge()
    submissions = Submissions(journal=journal, clock=clock, entropy=os.urandom, metrics=counts)
    admitted: Validator | None = validator if challenge else None
    yield Assembled(
        journal=journal,
        endpoint=Endpoint(
            profile=Profile(name="default", challenge_password_required=challenge, **rules),
            ca_id=1,
            connector_name="lab",
            connector=connector,
            validator=admitted,
            identities=(identity(ca),),
            ca_chain=ca.chain,
        ),
        validator=validator,
        submissions=submissions,
        operation=PkiOperation(
            enrolments=Enrolments(journal=journal, submissions=submissions, clock=clock),
            polls=Polls(journal=journal, clock=clock),
            clock=clock,
            entropy=os.urandom,
            metrics=counts,
            refusals=RefusalLog(journal),
            failure_floor_seconds=FLOOR_SECONDS,
        ),
        clock=clock,
        counts=counts,
    )
    await submissions.drain()
    if journal.is_alive:
        await journal.aclose()
