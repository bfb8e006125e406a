"""Requests for a certificate as the RA makes them, and a connector that is asked in an event loop of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from connectors import registry
from connectors.api import (
    ApprovedContents,
    Connector,
    IssueRequest,
    IssueResult,
    KeyUsage,
    NameAttribute,
    San,
    SanKind,
    Services,
)
from connectors.contents import extensions, subject_name
from connectors.keyfiles import PrivateKey
from tests.fakes import pki

T = TypeVar("T")

CLIENT_AUTH, SERVER_AUTH = "1.3.6.1.5.5.7.3.2", "1.3.6.1.5.5.7.3.1"
CERTIFICATE_REQUEST_AGENT = "1.3.6.1.4.1.311.20.2.1"
COMMON_NAME, SERIAL_NUMBER, ORGANIZATION, USER_ID = "2.5.4.3", "2.5.4.5", "2.5.4.10", "0.9.2342.19200300.100.1.1"


def request(key: PrivateKey | None = None, *, at: datetime = pki.NOW, **contents: Any) -> IssueRequest:
    """A device's request, approved as it stands; `contents` takes the place of what is usual, in the CSR too."""
    key = key or pki.rsa_key()
    usual = ApprovedContents(
        subject=subject((COMMON_NAME, "device-1")),
        subject_alternative_names=(San(SanKind.DNS, "device-1.example.org"),),
        spki=key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        key_usage=frozenset({KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_ENCIPHERMENT}),
        extended_key_usage=(CLIENT_AUTH,),
        validity=timedelta(days=30),
    )
    approved = replace(usual, **contents)
    csr = x509.CertificateSigningRequestBuilder(subject_name(approved.subject))
    for value, critical in extensions(approved):
        if isinstance(value, x509.SubjectAlternativeName):
            csr = csr.add_extension(value, critical)
    return IssueRequest(
        csr=csr.sign(key, hashes.SHA256()).public_bytes(Encoding.DER),
        contents=approved,
        profile="default",
        idempotency_key=uuid4(),
        requested_at=at,
    )


def subject(*attributes: tuple[str, str]) -> tuple[tuple[NameAttribute, ...], ...]:
    return tuple((NameAttribute(oid, value),) for oid, value in attributes)


def use(kind: str, options: dict[str, Any], services: Services, ask: Callable[[Connector], Awaitable[T]]) -> T:
    """What comes of using a new connector."""

    async def opened() -> T:
        plugin = registry.load(kind)
        connector: Connector = await plugin.connect(plugin.options(**options), services)
        try:
            return await ask(connector)
        finally:
            await connector.aclose()

    return asyncio.run(opened())


def issue(kind: str, options: dict[str, Any], services: Services, asked: IssueRequest) -> IssueResult:
    return use(kind, options, services, lambda connector: connector.issue(asked))
