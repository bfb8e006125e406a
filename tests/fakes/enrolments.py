"""What an enrolment writes into the journal: distinct from call to call where nothing is said; and what it audits."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from ra.journal.outbox import NewLetter
from ra.journal.records import NewCertificate, NewStray, NewTransaction, OneTimeSecret, RequestIdentity, Transaction
from ra.journal.settle import issue
from ra.journal.states import State
from ra.journal.transactions import authorise
from ra.policy.grant import Grant, Notify, Spend

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)

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


def a_transaction(
    identity: RequestIdentity | None = None,
    *,
    spend: Spend | None = None,
    state: State = State.SUBMITTING,
    due_at: datetime | None = NOW + MINUTE,
    expires_at: datetime = NOW + 7 * DAY,
    notify: tuple[Notify, ...] = (),
) -> NewTransaction:
    number = next(_numbers)
    return NewTransaction(
        id=UUID(int=number),
        state=state,
        idempotency_key=UUID(int=number << 64),
        identity=identity or an_identity(),
        contents=digest("contents"),
        connector="lab",
        subject="CN=device",
        grant=Grant(method="static", label="first", attributes={"team": "blue"}, spend=spend, notify=notify),
        request=f"sealed {number}".encode(),
        due_at=due_at,
        expires_at=expires_at,
    )


def a_secret(key: bytes = b"one-time") -> Spend:
    return Spend(key=key, expires_at=NOW + timedelta(hours=1))


def a_minted(spend: Spend) -> OneTimeSecret:
    """The secret that `spend` spends, for any names."""
    return OneTimeSecret(
        key=spend.key,
        method="otp",
        label="first",
        profile=None,
        names=None,
        created_at=NOW,
        expires_at=spend.expires_at,
    )


def a_certificate(*, not_after: datetime = NOW + 365 * DAY) -> NewCertificate:
    number = next(_numbers)
    return NewCertificate(
        certificate=b"\x30\x06\x02\x04" + number.to_bytes(4),
        chain=CHAIN,
        serial=(0xABC << 120) + number,
        not_after=not_after,
        reference=f"order {number}",
    )


A_STRAY = NewStray(certificate=b"\x30\x00", serial=7, revoke=True)


def a_letter(*, is_strict: bool = False, deadline_at: datetime = NOW + 60 * MINUTE) -> NewLetter:
    number = next(_numbers)
    return NewLetter(
        id=UUID(int=number << 96), validator="intune", is_strict=is_strict, notice=b"sealed", deadline_at=deadline_at
    )


def submitting(connection: Connection, new: NewTransaction | None = None) -> Transaction:
    return authorise(connection, new or a_transaction(), NOW)


def released(connection: Connection, new: NewTransaction | None = None, *, delivered: bool = True) -> Transaction:
    transaction = submitting(connection, new)
    return issue(connection, transaction, a_certificate(), NOW, delivered=delivered, undelivered_until=None)


class Collected:
    """Takes what is audited in place of a chain, and writes nothing."""

    def __init__(self) -> None:
        self.events: list[tuple[datetime, dict[str, Any]]] = []

    def collect(self, at: datetime, event: str) -> None:
        self.events.append((at, json.loads(event)))


def audited(connection: Connection) -> list[tuple[datetime, dict[str, Any]]]:
    """The events of a connection that has a Collected."""
    companion = connection.info["companion"]
    assert isinstance(companion, Collected)
    return companion.events


def outcomes(connection: Connection) -> list[str]:
    """In a word each: the outcome, or the kind of an event that has none."""
    return [str(event.get("outcome", event["event"])) for _, event in audited(connection)]
