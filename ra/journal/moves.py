"""The one way from a state to another: legal by TRANSITIONS, a compare-and-set, and audited in the same commit."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Connection, Update, bindparam, func, select

from ra.journal import audit, direct, statements
from ra.journal.certificates import stands_elsewhere
from ra.journal.records import Transaction
from ra.journal.states import HELD, OPEN, IllegalTransition, LostRace, NotItsOwn, State, check_path
from ra.journal.texts import fitted

_TAKE_TURN = select(func.pg_advisory_xact_lock(bindparam("of", type_=BigInteger)))


def advance(
    connection: Connection,
    transaction: Transaction,
    before: frozenset[State],
    path: tuple[State, ...],
    now: datetime,
    **columns: Any,
) -> Transaction:
    """Moves a transaction that is as it was given: in its state, with its `due_at`. `before` says from where one may.

    Raises:
        IllegalTransition: a fault of the caller.
        LostRace: somebody else has moved it, or has taken it up.
    """
    _check(transaction, before, path)
    changes = _changes(path[-1], now, columns)
    return _move(connection, statements.MOVE, transaction, changes, {"of_due": transaction.due_at})


def advance_with_certificate(
    connection: Connection,
    transaction: Transaction,
    before: frozenset[State],
    path: tuple[State, ...],
    now: datetime,
    **columns: Any,
) -> Transaction:
    """The same, where `columns` have a certificate, which must be nobody else's.

    Raises:
        IllegalTransition: a fault of the caller.
        LostRace: somebody else has moved it, or has taken it up.
        NotItsOwn: another transaction of its connector has that certificate.
    """
    _check(transaction, before, path)
    changes = _changes(path[-1], now, columns)
    fence = {"of_due": transaction.due_at, "of_serial": changes["serial"]}
    _take_turn(connection, transaction.connector, changes["serial"])
    try:
        return _move(connection, statements.MOVE_WITH_CERTIFICATE, transaction, changes, fence)
    except LostRace:
        if stands_elsewhere(connection, transaction.connector, int(changes["serial"], 16), transaction.id):
            raise NotItsOwn(f"the certificate of transaction {transaction.id} is another one's") from None
        raise


def advance_undue(
    connection: Connection,
    transaction: Transaction,
    before: frozenset[State],
    path: tuple[State, ...],
    now: datetime,
    **columns: Any,
) -> Transaction:
    """The same, whoever else has taken it up; but not if the device has got its certificate meanwhile.

    Raises:
        IllegalTransition: a fault of the caller.
        LostRace: somebody else has moved it, or has handed its certificate out.
    """
    _check(transaction, before, path)
    changes = _changes(path[-1], now, columns)
    return _move(connection, statements.MOVE_UNDUE, transaction, changes, {"of_delivered": transaction.delivered_at})


def advance_named(
    connection: Connection, which: UUID, before: State, after: State, now: datetime, **columns: Any
) -> Transaction:
    """Moves the transaction of that id, if it is in `before`.

    Raises:
        LostRace: it is in another state, or there is none.
    """
    check_path(before, after)
    changes = _changes(after, now, columns) | _marks(after)
    row = connection.execute(statements.MOVE_NAMED, changes | {"of": which, "of_state": before}).mappings().first()
    if row is None:
        raise LostRace(f"transaction {which} cannot become {after}: it is not {before}")
    return Transaction(**row)


def record_outcome(connection: Connection, transaction: Transaction, now: datetime, **particulars: audit.Value) -> None:
    """The event of a move: what became of the decision that names the same transaction, and what the backend said."""
    event: dict[str, audit.Value] = {
        "event": "outcome",
        "outcome": transaction.state.value,
        "transaction": str(transaction.id),
        "profile": transaction.profile,
        "reference": transaction.reference,
        "serial": transaction.serial,
        "reason": transaction.reason,
        "detail": transaction.detail,
        "latency_seconds": (now - transaction.created_at).total_seconds(),
    }
    audit.record(connection, now, event | particulars)


def _take_turn(connection: Connection, connector: str, serial: str) -> None:
    """Until the commit, nobody else takes that certificate: on PostgreSQL two could, that do not see each other's."""
    if connection.dialect.name == "postgresql":
        name = hashlib.sha256(f"{connector} {serial}".encode()).digest()
        connection.execute(_TAKE_TURN, {"of": int.from_bytes(name[:8], signed=True)})


def _check(transaction: Transaction, before: frozenset[State], path: tuple[State, ...]) -> None:
    if transaction.state not in before:
        raise IllegalTransition(f"nothing that is {transaction.state} becomes {path[-1]} in this way")
    check_path(transaction.state, *path)


def _move(
    connection: Connection, statement: Update, transaction: Transaction, changes: dict[str, Any], fence: dict[str, Any]
) -> Transaction:
    after: State = changes["state"]
    own = {"of": transaction.id, "of_state": transaction.state}
    if direct.changed(connection, statement, changes | _marks(after) | own | fence) == 0:
        raise LostRace(f"transaction {transaction.id} cannot become {after}: it is no longer as it was")
    return replace(transaction, **changes)


def _changes(after: State, now: datetime, columns: dict[str, Any]) -> dict[str, Any]:
    """What a move sets; why it came to the state before, and how often it was looked at there, is over."""
    return {"state": after, "updated_at": now, "attempts": 0, "reason": None, "detail": None} | fitted(columns)


def _marks(after: State) -> dict[str, Any]:
    """What it answers for: its transactionID while it is open, its request while it is open or has a certificate."""
    marks: dict[str, Any] = {"is_open": True if after in OPEN else None}
    if after not in OPEN | HELD:
        marks["request_key"] = None
    return marks
