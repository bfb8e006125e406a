"""The connector `recorded`: the internal CA, every certificate of which is written into a ledger before it is handed out.

What the crash harness believes of the internal CA comes from here, not from the journal that is on trial.
"""

from __future__ import annotations

from pathlib import Path

from cryptography import x509

from benchmarks.ledger.book import Book, key_digest
from connectors import internal
from connectors.api import Capability, Health, Issued, IssueRequest, IssueResult, NoCapabilities, RevocationReason
from connectors.api import Services as ConnectorServices


class Options(internal.Options):
    """The internal CA's own, and where its ledger is."""

    book: Path
    """SQLite file; every process of the RA shares it."""


async def connect(options: Options, services: ConnectorServices) -> Recorded:
    """As the internal CA's; the ledger is made where it is missing."""
    values = options.model_dump(exclude={"book"})
    inner = await internal.connect(internal.Options.model_validate(values), services)
    return Recorded(inner, Book(services.directory / options.book), services)


class Recorded(NoCapabilities):
    """The internal CA between two fault points, its ledger beside it."""

    def __init__(self, inner: internal.InternalCa, book: Book, services: ConnectorServices) -> None:
        self._inner = inner
        self._book = book
        self._services = services

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self._inner.capabilities - {Capability.CRL}

    async def issue(self, request: IssueRequest) -> IssueResult:
        now = self._services.now().timestamp()
        self._book.receive(now, str(request.idempotency_key), key_digest(request.contents.spki))
        self._services.reached("connector:before-send")
        answer = await self._inner.issue(request)
        if isinstance(answer, Issued):
            self._book.issue(now, str(request.idempotency_key), answer.certificate)
        self._services.reached("connector:after-answer")
        return answer

    async def revoke(self, certificate: bytes, reason: RevocationReason) -> None:
        await self._inner.revoke(certificate, reason)
        serial = x509.load_der_x509_certificate(certificate).serial_number
        self._book.revoke(self._services.now().timestamp(), f"{serial:x}")

    async def ca_chain(self) -> tuple[bytes, ...]:
        return await self._inner.ca_chain()

    async def health(self) -> Health:
        return await self._inner.health()

    async def aclose(self) -> None:
        await self._inner.aclose()
        self._book.close()
