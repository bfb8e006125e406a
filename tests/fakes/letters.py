"""Transactions as rows, whatever way they came to their state, and the letters that tell of them."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, insert

from ra.journal.outbox import NewLetter
from ra.journal.records import Transaction
from ra.journal.states import State
from ra.journal.tables import transactions
from ra.policy.grant import Notify

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
PATIENCE = timedelta(hours=1)

_numbers = itertools.count(1)


def a_row(state: State = State.ISSUED, **changes: Any) -> Transaction:
    """A transaction with a certificate, of a device of its own; one strict validator is named `intune`."""
    number = next(_numbers)
    unlike = number.to_bytes(32)
    row = Transaction(
        id=UUID(int=number),
        state=state,
        idempotency_key=UUID(int=number << 64),
        profile="default",
        connector="lab",
        signer_key=unlike,
        transaction_id=f"transaction {number}".encode(),
        csr_key=unlike,
        names=unlike,
        csr_info=unlike,
        contents=unlike,
        renewal_signer=None,
        subject="CN=device",
        grant_method="intune",
        grant_label="device",
        grant_attributes={"team": "blue"},
        created_at=NOW,
        updated_at=NOW,
        due_at=NOW + PATIENCE,
        expires_at=NOW + timedelta(days=7),
        request=b"sealed",
        notify=(Notify(validator="intune", is_strict=True, patience=PATIENCE),),
        certificate=b"\x30\x04\x02\x02" + number.to_bytes(2),
        serial=f"{number:x}",
        not_after=NOW + timedelta(days=365),
    )
    return replace(row, **changes)


def store(connection: Connection, row: Transaction) -> Transaction:
    columns = {each.name: getattr(row, each.name) for each in fields(Transaction)}
    connection.execute(insert(transactions), columns | {"request_key": None, "is_open": None, "searched": row.subject})
    return row


def a_letter(*, validator: str = "intune", is_strict: bool = True, deadline_at: datetime = NOW + PATIENCE) -> NewLetter:
    number = next(_numbers)
    return NewLetter(
        id=UUID(int=number << 96),
        validator=validator,
        is_strict=is_strict,
        notice=b"sealed",
        deadline_at=deadline_at,
    )
