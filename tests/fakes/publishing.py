"""A CA that signs CRLs and knows certificates, and may be told to fail or to wait."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from connectors.api import Capability, CertificateState
from ra.service.backend import Backend
from ra.service.gate import Gate
from tests.fakes import pki
from tests.fakes.assembled import Counts
from tests.fakes.clock import FakeClock
from tests.fakes.issuing import IssuingCa


def sign_crl(
    ca: pki.FakeCa,
    revoked: Sequence[int] = (),
    *extensions: x509.ExtensionType,
    this_update: datetime = pki.NOW - timedelta(hours=1),
    next_update: datetime = pki.NOW + timedelta(days=1),
    critical: bool = True,
) -> bytes:
    """A CRL, DER; what is revoked is so since its thisUpdate."""
    entries = [x509.RevokedCertificateBuilder(each, this_update).build() for each in revoked]
    builder = x509.CertificateRevocationListBuilder(ca.certificate.subject, this_update, next_update, [], entries)
    for each in extensions:
        builder = builder.add_extension(each, critical)
    return builder.sign(ca.key, hashes.SHA256()).public_bytes(Encoding.DER)


class PublishingCa(IssuingCa):
    """`published` is what it answers for a CRL, and `known` for a serial number: an exception is raised."""

    def __init__(self, ca: pki.FakeCa, *capabilities: Capability) -> None:
        super().__init__(ca, *(capabilities or (Capability.CRL, Capability.GET_CERTIFICATE)))
        self.published: bytes | Exception = sign_crl(ca)
        self.known: dict[int, CertificateState] | Exception = {}
        self.crls_asked = 0
        self.serials_asked: list[int] = []
        self.may_publish = asyncio.Event()
        self.may_publish.set()

    async def crl(self) -> bytes:
        self.crls_asked += 1
        self.asked.set()
        await self.may_publish.wait()
        if isinstance(self.published, Exception):
            raise self.published
        return self.published

    async def get_certificate(self, serial: int) -> CertificateState | None:
        self.serials_asked.append(serial)
        if isinstance(self.known, Exception):
            raise self.known
        return self.known.get(serial)


def backend(connector: IssuingCa, ca: pki.FakeCa, clock: FakeClock, counts: Counts | None = None) -> Backend:
    metrics = counts or Counts()
    return Backend(
        name="lab",
        connector=connector,
        ca_chain=ca.chain,
        gate=Gate("lab", max_concurrent=2, max_waiting=5, clock=clock, metrics=metrics),
        issue_timeout_seconds=5,
    )
