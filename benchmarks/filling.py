"""Fills journals: transactions as a long life leaves them, with their audit, many in one statement."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from uuid import UUID

from sqlalchemy import Connection, insert

from ra.bootstrap.journal import make_journal
from ra.journal import audit
from ra.journal.chain import Chain
from ra.journal.database import place_of
from ra.journal.moves import record_outcome
from ra.journal.records import Transaction
from ra.journal.states import HELD, OPEN, State
from ra.journal.tables import transactions
from ra.settings.load import load

APART = timedelta(seconds=30)
"""Between two transactions; the last one has just been authorised."""

_BATCH = 1000
_MIX = {
    State.RELEASED: 0.935,
    State.REJECTED: 0.02,
    State.REVOKED: 0.02,
    State.EXPIRED: 0.01,
    State.PENDING: 0.01,
    State.AWAITING_APPROVAL: 0.004,
    State.QUARANTINED: 0.001,
}
_CERTIFICATE_BYTES, _ISSUER_BYTES, _REQUEST_BYTES = 950, 780, 1400


def fill(config: Path, rows: Iterable[Transaction]) -> None:
    """Makes the journal that the configuration names, and writes the transactions and their events into it."""
    configuration = load(config)
    make_journal(configuration)
    chain = Chain()
    with place_of(configuration.settings.database.url, directory=config.parent).alone() as connection:
        connection.info["companion"] = chain
        for batch in _batches(rows):
            connection.execute(insert(transactions), [_columns(each) for each in batch])
            for each in batch:
                _record(connection, each)
            chain.before_commit(connection)
            chain.committed()
        chain.close(datetime.now(UTC))  # noqa: TID251 - a program of its own, not the service
        chain.before_commit(connection)


def mixed(count: int) -> Iterator[Transaction]:
    """What has been asked for in a long time: most of it was handed out. Always the same, but for the time."""
    chance = random.Random(1)  # noqa: S311 - the same rows in every run
    now = datetime.now(UTC)  # noqa: TID251 - as above
    states = chance.choices(list(_MIX), list(_MIX.values()), k=count)
    for number, state in enumerate(states):
        row = a_row(number, state, now - APART * (count - number))
        yield _with_certificate(row, chance) if state in HELD | {State.REVOKED} else row


def a_row(number: int, state: State, created_at: datetime) -> Transaction:
    """A transaction of the device of that number, without a certificate."""
    digest = sha256(b"device %d" % number).digest()
    is_waiting = state in OPEN - {State.QUARANTINED}
    return Transaction(
        id=UUID(bytes=sha256(digest).digest()[:16], version=4),
        state=state,
        idempotency_key=UUID(bytes=sha256(digest).digest()[16:], version=4),
        profile="default",
        connector="lab",
        signer_key=digest,
        transaction_id=digest.hex().encode(),
        csr_key=digest,
        names=digest,
        csr_info=digest,
        contents=digest,
        renewal_signer=None,
        subject=f"CN=device-{number:06d},OU=Plant {number % 97},O=Example Corporation",
        grant_method="shared",
        grant_label="first",
        grant_attributes={},
        created_at=created_at,
        updated_at=created_at + timedelta(seconds=1),
        due_at=created_at + timedelta(days=365) if is_waiting else None,
        expires_at=created_at + timedelta(days=365),
        request=bytes(_REQUEST_BYTES) if is_waiting else None,
        reference=f"{number:x}" if state is State.PENDING else None,
        reason="policy" if state is State.REJECTED else None,
    )


def _with_certificate(row: Transaction, chance: random.Random) -> Transaction:
    issuer = b"\x30\x82" + _ISSUER_BYTES.to_bytes(2) + chance.randbytes(_ISSUER_BYTES)
    return replace(
        row,
        delivered_at=row.updated_at,
        certificate=chance.randbytes(_CERTIFICATE_BYTES),
        chain=(issuer,),
        serial=f"{chance.getrandbits(158):x}",
        not_after=row.created_at + timedelta(days=365),
        revocation="superseded" if row.state is State.REVOKED else None,
    )


def _columns(row: Transaction) -> dict[str, object]:
    stands = row.state in OPEN | HELD
    return {each.name: getattr(row, each.name) for each in fields(Transaction)} | {
        "searched": row.subject,
        "request_key": row.csr_key if stands else None,
        "is_open": True if row.state in OPEN else None,
    }


def _record(connection: Connection, row: Transaction) -> None:
    decision: dict[str, audit.Value] = {
        "event": "decision",
        "outcome": "authorised",
        "transaction": str(row.id),
        "profile": row.profile,
        "transaction_id": row.transaction_id.decode(),
        "signer_key": row.signer_key.hex(),
        "csr_key": row.csr_key.hex(),
        "subject": row.subject,
        "grant_method": row.grant_method,
        "grant_label": row.grant_label,
        "grant_attributes": {},
        "connector": row.connector,
    }
    audit.record(connection, row.created_at, decision)
    record_outcome(connection, row, row.updated_at)


def _batches(rows: Iterable[Transaction]) -> Iterator[list[Transaction]]:
    remaining = iter(rows)
    while batch := list(itertools.islice(remaining, _BATCH)):
        yield batch
