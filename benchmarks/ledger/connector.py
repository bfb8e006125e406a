"""The connector `ledger`, which speaks to the ledger CA as other connectors speak to theirs."""

from __future__ import annotations

import os
from datetime import datetime
from http import HTTPStatus
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from benchmarks.ledger.book import key_digest
from benchmarks.ledger.wire import PROCESS_HEADER, write_contents
from connectors.api import (
    BackendUnavailable,
    Capability,
    Health,
    Issued,
    IssueRequest,
    IssueResult,
    NoCapabilities,
    Pending,
    RevocationReason,
    Services,
)
from connectors.keyfiles import read_certificates
from connectors.transport import Answer, AnswerModel, Call, Effect, Meaning, Meanings, Transport, TransportOptions

_RETRY_SECONDS = 1
_ABSENT: Meanings = {HTTPStatus.NOT_FOUND: Meaning.ANSWER}


class Options(TransportOptions):
    """Where the ledger CA is, and how much it is asked."""

    certificate: Path = Path("ca.pem")
    """PEM: the issuing CA first, then its chain."""
    can_find: bool = True
    """Whether it is asked what it has issued: False makes it a CA that can never say."""


class _Entry(AnswerModel):
    reference: str
    certificate: str


async def connect(options: Options, services: Services) -> Ledger:
    """Reads the CA's certificate; nothing is sent."""
    chain = read_certificates(services.directory / options.certificate)
    der = tuple(each.public_bytes(Encoding.DER) for each in chain)
    return Ledger(der, Transport(options, services), can_find=options.can_find)


class Ledger(NoCapabilities):
    """The connector. It says which process asks, so that the CA can end it in the middle of the conversation."""

    def __init__(self, chain: tuple[bytes, ...], transport: Transport, *, can_find: bool) -> None:
        find = {Capability.FIND_ISSUED} if can_find else set()
        self.capabilities = frozenset(
            {Capability.EXPLICIT_CONTENTS, Capability.NOT_AFTER, Capability.POLL, Capability.REVOKE, *find}
        )
        self._chain = chain
        self._transport = transport

    async def issue(self, request: IssueRequest) -> IssueResult:
        reference = str(request.idempotency_key)
        call = Call(
            operation="issue",
            effect=Effect.ISSUES,
            method="POST",
            url="/certificates",
            headers={PROCESS_HEADER: str(os.getpid())},
            json={"reference": reference, "contents": write_contents(request.contents)},
        )
        return self._result(await self._transport.call(call), reference)

    async def poll(self, reference: str, request: IssueRequest) -> IssueResult:  # noqa: ARG002 - the order names it
        call = Call(operation="poll", effect=Effect.REPEATABLE, url=f"/orders/{reference}")
        return self._result(await self._transport.call(call), reference)

    async def find_issued(
        self, request: IssueRequest, since: datetime, others: frozenset[int] = frozenset()
    ) -> Issued | None:
        reference = str(request.idempotency_key)
        key = key_digest(request.contents.spki)
        asked = f"reference={reference}&key={key}&since={since.timestamp()}"
        call = Call(operation="find", effect=Effect.REPEATABLE, url=f"/certificates?{asked}", statuses=_ABSENT)
        answer = await self._transport.call(call)
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        found = self._result(answer, reference)
        if isinstance(found, Pending):
            raise BackendUnavailable("the order is not decided yet", maybe_issued=True)
        # What has the reference comes first: where another request's is found, there is none of this one.
        return None if x509.load_der_x509_certificate(found.certificate).serial_number in others else found

    async def revoke(self, certificate: bytes, reason: RevocationReason) -> None:
        serial = f"{x509.load_der_x509_certificate(certificate).serial_number:x}"
        said = {"serial": serial, "reason": reason}
        call = Call(operation="revoke", effect=Effect.REPEATABLE, method="POST", url="/revocations", json=said)
        await self._transport.call(call)

    async def ca_chain(self) -> tuple[bytes, ...]:
        return self._chain

    async def health(self) -> Health:
        return Health(ready=True, detail="the ledger CA is never down")

    async def aclose(self) -> None:
        await self._transport.aclose()

    def _result(self, answer: Answer, reference: str) -> Issued | Pending:
        if answer.status == HTTPStatus.ACCEPTED:
            return Pending(reference=reference, retry_after_seconds=_RETRY_SECONDS)
        entry = answer.parse(_Entry)
        return Issued(certificate=bytes.fromhex(entry.certificate), chain=self._chain, reference=entry.reference)
