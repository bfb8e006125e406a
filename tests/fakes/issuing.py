"""A CA that issues what was approved, and may be told to fail, to wait, or to be wrong."""

from __future__ import annotations

import asyncio
from datetime import timedelta
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
)
from connectors.internal.contents import extensions, subject_name
from tests.fakes import pki


class IssuingCa(NoCapabilities):
    """Remembers what it was asked. `answer` replaces its next answers; it waits until `may_answer` is set."""

    def __init__(self, ca: pki.FakeCa, *capabilities: Capability) -> None:
        self.capabilities = frozenset({Capability.EXPLICIT_CONTENTS, *capabilities})
        self.requests: list[IssueRequest] = []
        self.answer: object = None
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
        certified = Issued(certificate=self.certify(request), chain=self._ca.chain, reference="order 1")
        return cast("IssueResult", self.answer or certified)

    def certify(self, request: IssueRequest) -> bytes:
        """The certificate for a request, DER; its serial number follows from the idempotency key."""
        builder = (
            x509.CertificateBuilder()
            .serial_number(request.idempotency_key.int >> 1 | 1)
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
