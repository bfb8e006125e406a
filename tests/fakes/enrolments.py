"""What an enrolment writes into the journal: distinct from call to call where nothing is said."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from ra.journal.records import NewCertificate, NewTransaction, RequestIdentity
from ra.policy.grant import Grant, Spend

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

CHAIN = (b"\x30\x03\x02\x01\x05", b"\x30\x81\x80" + bytes(0x80))
"""Two DER values, one with a long-form length."""

_numbers = itertools.count(1)


def digest(text: str) -> bytes:
    return text.encode().ljust(32, b".")


def an_identity(**changes: str | bytes | None) -> RequestIdentity:
    """A device of its own: its own key, names and transactionID."""
    number = next(_numbers)
    identity = RequestIdentity(
        profile="default",
        signer_key=digest(f"key {number}"),
        transaction_id=f"transaction {number}".encode(),
        csr_key=digest(f"key {number}"),
        names=digest(f"names {number}"),
        csr_info=digest(f"info {number}"),
        renewal_signer=None,
    )
    return replace(identity, **changes)  # type: ignore[arg-type]  # of the field's own type, by the tests' care


def a_transaction(identity: RequestIdentity | None = None, *, spend: Spend | None = None) -> NewTransaction:
    number = next(_numbers)
    return NewTransaction(
        id=UUID(int=number),
        idempotency_key=UUID(int=number << 64),
        identity=identity or an_identity(),
        contents=digest("contents"),
        connector="lab",
        subject="CN=device",
        grant=Grant(method="static", label="first", attributes={"team": "blue"}, spend=spend),
        lease_until=NOW + MINUTE,
    )


def a_secret(key: bytes = b"one-time") -> Spend:
    return Spend(key=key, expires_at=NOW + timedelta(hours=1))


def a_certificate(*, not_after: datetime = NOW + timedelta(days=365)) -> NewCertificate:
    number = next(_numbers)
    return NewCertificate(
        certificate=b"\x30\x04\x02\x02" + number.to_bytes(2),
        chain=CHAIN,
        serial=(0xABC << 120) + number,
        not_after=not_after,
        reference=f"order {number}",
    )
