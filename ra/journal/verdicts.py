"""A person's word about a transaction that nothing else can settle: QUARANTINED, or UNKNOWN and held.

The word is audited in the commit that it takes effect in; a running service does what is to be done at the CA.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from ra.errors import RaError
from ra.journal import audit, outbox, statements, strays
from ra.journal.moves import advance_undue, record_outcome
from ra.journal.outbox import NewLetter
from ra.journal.records import Transaction
from ra.journal.states import LostRace, State
from ra.journal.wakeup import announce

UNSETTLED = frozenset({State.QUARANTINED, State.UNKNOWN})
"""What a person may have a word about."""

GIVEN_UP = "GIVEN_UP"
"""The reason of what a person has given up."""


class Word(StrEnum):
    """What a person says."""

    ACCEPT = "accept"
    """Look at the certificate again: what the configuration lets pass by now, the device gets."""
    REJECT = "reject"
    """It is over: the device is told FAILURE and may come again, and what the CA has issued is revoked."""
    RETRY = "retry"
    """Ask the CA for another one; what it has issued is revoked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Who says so, and why."""

    who: str
    why: str


class TooLate(RaError):
    """The certificate is being revoked, or has been."""


def accept(connection: Connection, transaction: Transaction, said: Verdict, now: datetime) -> Transaction:
    """Has what is QUARANTINED looked at again, unless its certificate is being revoked.

    Raises:
        TooLate: it is, or it has been.
        LostRace: somebody else has settled it.
    """
    kept = strays.of_transaction(connection, transaction.id)
    if not kept or any(each.revoked_at is not None or each.due_at is not None for each in kept):
        raise TooLate("its certificate is revoked, or about to be: --retry has the CA asked for another one")
    _record(connection, transaction, Word.ACCEPT, said, now)
    own = {"of": transaction.id, "of_state": State.QUARANTINED, "of_due": transaction.due_at}
    if connection.execute(statements.MOVE, own | {"due_at": now, "updated_at": now}).rowcount == 0:
        raise LostRace(f"transaction {transaction.id} is no longer as it was")
    announce(connection)
    return replace(transaction, due_at=now, updated_at=now)


def reject(
    connection: Connection,
    transaction: Transaction,
    said: Verdict,
    now: datetime,
    *,
    letters: Sequence[NewLetter] = (),
) -> Transaction:
    """QUARANTINED | UNKNOWN -> REJECTED: the device may come again, and a one-time secret is good again.

    Raises:
        LostRace: somebody else has settled it.
    """
    _record(connection, transaction, Word.REJECT, said, now)
    columns: dict[str, Any] = {"due_at": None, "reason": GIVEN_UP, "detail": said.why}
    if not letters:
        columns["request"] = None
    rejected = advance_undue(connection, transaction, UNSETTLED, (State.REJECTED,), now, **columns)
    connection.execute(statements.GIVE_BACK, {"of": rejected.id})
    outbox.put(connection, rejected.id, letters, now)
    record_outcome(connection, rejected, now)
    return rejected


def retry(connection: Connection, transaction: Transaction, key: UUID, said: Verdict, now: datetime) -> Transaction:
    """QUARANTINED | UNKNOWN -> AUTHORISED, due at once and given as much time as it had in the beginning.

    What is UNKNOWN is asked for by the same idempotency key; in place of what is QUARANTINED another certificate is
    wanted, by another `key`.

    Raises:
        LostRace: somebody else has settled it.
    """
    _record(connection, transaction, Word.RETRY, said, now)
    is_unknown = transaction.state is State.UNKNOWN
    columns = {
        "due_at": now,
        "detail": said.why,
        "expires_at": now + (transaction.expires_at - transaction.created_at),
        "orphans": transaction.orphans + is_unknown,
        "idempotency_key": transaction.idempotency_key if is_unknown else key,
    }
    again = advance_undue(connection, transaction, UNSETTLED, (State.AUTHORISED,), now, **columns)
    record_outcome(connection, again, now)
    announce(connection)
    return again


def _record(connection: Connection, transaction: Transaction, word: Word, said: Verdict, now: datetime) -> None:
    event: dict[str, audit.Value] = {
        "event": "settled",
        "outcome": word.value,
        "transaction": str(transaction.id),
        "profile": transaction.profile,
        "connector": transaction.connector,
        "who": said.who,
        "detail": said.why,
    }
    audit.record(connection, now, event)
