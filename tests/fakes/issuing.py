"""A CA that issues what was approved, and may be told to fail, to wait, or to be wrong."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import load_der_public_key

from connectors.api import (
    Capability,
    Health,
    Issued,
    IssueRequest,
    IssueResult,
    NoCapabilities,
    RevocationReason,
)
from connectors.contents import extensions, subject_name
from tests.fakes import pki


class IssuingCa(NoCapabilities):
    """Remembers what it was asked. `answer` replaces its next answers; it waits until `may_answer` is set.

    `found`, `polled` and `revocation` replace what it says to the other questions: an exception is raised. It finds what
    `keep_issued` told it to have issued, behind `others_found`, which stand before it for who does not put them aside.
    """

    def __init__(self, ca: pki.FakeCa, *capabilities: Capability) -> None:
        self.capabilities = frozenset({Capability.EXPLICIT_CONTENTS, *capabilities})
        self.requests: list[IssueRequest] = []
        self.answer: object = None
        self.found: object = None
        self.others_found: list[Issued] = []
        self.puts_aside = True
        self.polled: object = None
        self.polls: list[str] = []
        self.revocation: Exception | None = None
        self.revoked: list[tuple[bytes, RevocationReason]] = []
        self.serial_offset = 0
        self.serial: int | None = None
        self.state: Health | Exception = Health(ready=True, detail="")
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self._ca = ca

    async def issue(self, request: IssueRequest) -> IssueResult:
        self.requests.append(request)
        self.asked.set()
        await self.may_answer.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return cast("IssueResult", self.answer or self._issued(request))

    def keep_issued(self) -> None:
        """It had issued what it was asked for last, and the answer was lost."""
        self.found = self._issued(self.requests[-1])

    async def find_issued(
        self,
        request: IssueRequest,  # noqa: ARG002
        since: datetime,  # noqa: ARG002
        others: frozenset[int] = frozenset(),
    ) -> Issued | None:
        if isinstance(self.found, Exception):
            raise self.found
        candidates = cast("list[Issued | None]", [*self.others_found, self.found])
        return next((each for each in candidates if not (each and self._is_put_aside(each, others))), None)

    def _is_put_aside(self, found: Issued, others: frozenset[int]) -> bool:
        if self.puts_aside and others:
            return x509.load_der_x509_certificate(found.certificate).serial_number in others
        return False

    async def poll(self, reference: str, request: IssueRequest) -> IssueResult:
        self.polls.append(reference)
        if isinstance(self.polled, Exception):
            raise self.polled
        return cast("IssueResult", self.polled or self._issued(request))

    async def revoke(self, certificate: bytes, reason: RevocationReason) -> None:
        if self.revocation is not None:
            raise self.revocation
        self.revoked.append((certificate, reason))

    def _issued(self, request: IssueRequest) -> Issued:
        return Issued(certificate=self.certify(request), chain=self._ca.chain, reference="order 1")

    def certify(self, request: IssueRequest) -> bytes:
        """The certificate for a request, DER; its serial number follows from the idempotency key."""
        builder = (
            x509.CertificateBuilder()
            .serial_number(self.serial or (request.idempotency_key.int >> 1 | 1) + self.serial_offset)
            .issuer_name(self._ca.certificate.subject)
            .subject_name(subject_name(request.contents.subject))
            .public_key(load_der_public_key(request.contents.spki))  # type: ignore[arg-type]  # RSA or EC here
            .not_valid_before(request.requested_at - timedelta(minutes=5))
            .not_valid_after(request.requested_at + request.contents.validity)
        )
        for value, critical in extensions(request.contents):
            builder = builder.add_extension(value, critical)
        return pki.der(builder.sign(self._ca.key, hashes.SHA256()))

    async def ca_chain(self) -> tuple[bytes, ...]:
        return self._ca.chain

    async def health(self) -> Health:
        if isinstance(self.state, Exception):
            raise self.state
        return self.state

    async def aclose(self) -> None:
        """Nothing is held open."""
