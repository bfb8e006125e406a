"""What becomes of a letter, and of the transaction that waits for it, once it was tried.

The transaction is locked before its letters are looked at: of two strict letters that are accepted at the same moment,
the second one sees the first, and releases the certificate.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, select, update

from connectors.api import RevocationReason
from ra.journal import audit, settle, statements
from ra.journal.outbox import Letter, named
from ra.journal.purge import wipe
from ra.journal.records import Transaction
from ra.journal.states import LostRace, State
from ra.journal.tables import outbox
from ra.journal.texts import fit_detail

_OF = outbox.c.id == bindparam("of")
_OF_TRANSACTION = outbox.c.transaction == bindparam("of")
_HELD = outbox.c.due_at == bindparam("of_lease")
_LOCKED = statements.GET.with_for_update()
_DELETE = delete(outbox).where(_OF)
_POSTPONE = update(outbox).where(_OF, _HELD).values(due_at=bindparam("until"), detail=bindparam("said"))
_BURY = update(outbox).where(_OF, _HELD).values(due_at=None, detail=bindparam("said"))
_STRICT = select(*outbox.c).where(_OF_TRANSACTION, outbox.c.is_strict, outbox.c.due_at.is_not(None))
_BURY_STRICT = (
    update(outbox)
    .where(_OF_TRANSACTION, outbox.c.is_strict, outbox.c.due_at.is_not(None))
    .values(due_at=None, detail=bindparam("said"))
)


def accepted(connection: Connection, letter: Letter, now: datetime, *, undelivered_until: datetime | None) -> None:
    """Removes a letter that was accepted; the last strict one releases its certificate.

    An acceptance is a fact, whoever has the letter by now. When nobody has it any more, it was accepted before.
    """
    transaction = _lock(connection, letter)
    if connection.execute(_DELETE, {"of": letter.id}).rowcount == 0:
        return
    _record(connection, letter, "accepted", None, now)
    if transaction is None:
        return
    if transaction.state is State.ISSUED and not _strict_of(connection, transaction):
        settle.release(connection, transaction.id, now, undelivered_until=undelivered_until)
    else:
        wipe(connection, transaction.id)


def refused(connection: Connection, letter: Letter, detail: str, now: datetime) -> None:
    """Lets a letter die that was refused for good; a certificate that waits for it is revoked.

    Raises:
        LostRace: somebody else has taken the letter up.
    """
    _end(connection, letter, "refused", fit_detail(detail), now)


def failed(connection: Connection, letter: Letter, detail: str, due_at: datetime | None, now: datetime) -> None:
    """Puts off a letter that could not be handed over; None: it dies, and a certificate that waits for it is revoked.

    Raises:
        LostRace: somebody else has taken the letter up.
    """
    said = fit_detail(detail)
    if due_at is None:
        _end(connection, letter, "dead", said, now)
        return
    _insist(connection.execute(_POSTPONE, _held(letter, said) | {"until": due_at}).rowcount, letter)


def give_up(
    connection: Connection, transaction: Transaction, now: datetime, *, undelivered_until: datetime | None
) -> tuple[Transaction, tuple[Letter, ...]]:
    """Ends the waiting of an ISSUED certificate whose time is over: it is revoked, and its strict letters die.

    Returns what the transaction is then, and the letters that died.
    """
    current = Transaction(**connection.execute(_LOCKED, {"of": transaction.id}).mappings().one())
    if current.state is not State.ISSUED:
        return current, ()
    letters = _strict_of(connection, current)
    if not letters:
        return settle.release(connection, current.id, now, undelivered_until=undelivered_until), ()
    detail = f"not accepted in time by {', '.join(sorted({each.validator for each in letters}))}"
    return _revoke(connection, current, letters, detail, now), letters


def _end(connection: Connection, letter: Letter, outcome: str, detail: str, now: datetime) -> None:
    transaction = _lock(connection, letter)
    _insist(connection.execute(_BURY, _held(letter, detail)).rowcount, letter)
    _record(connection, letter, outcome, detail, now)
    if transaction is not None and letter.is_strict and transaction.state is State.ISSUED:
        others = _strict_of(connection, transaction)
        what = "has refused the notification" if outcome == "refused" else "could not be told in time"
        _revoke(connection, transaction, others, f"{letter.validator} {what}: {detail}", now)


def _revoke(
    connection: Connection, transaction: Transaction, letters: Sequence[Letter], detail: str, now: datetime
) -> Transaction:
    """Nobody is to hear any more that the certificate was issued."""
    connection.execute(_BURY_STRICT, {"of": transaction.id, "said": detail})
    for letter in letters:
        _record(connection, letter, "dead", detail, now)
    return settle.revoke(connection, transaction, RevocationReason.CESSATION_OF_OPERATION, detail, now)


def _lock(connection: Connection, letter: Letter) -> Transaction | None:
    if letter.transaction is None:
        return None
    return Transaction(**connection.execute(_LOCKED, {"of": letter.transaction}).mappings().one())


def _strict_of(connection: Connection, transaction: Transaction) -> tuple[Letter, ...]:
    return tuple(Letter(**row) for row in connection.execute(_STRICT, {"of": transaction.id}).mappings())


def _held(letter: Letter, detail: str) -> dict[str, object]:
    return {"of": letter.id, "of_lease": letter.due_at, "said": detail}


def _insist(count: int, letter: Letter) -> None:
    if count == 0:
        raise LostRace(f"letter {letter.id} is no longer held")


def _record(connection: Connection, letter: Letter, outcome: str, detail: str | None, now: datetime) -> None:
    event: dict[str, audit.Value] = {"event": "notified", "outcome": outcome, **named(letter)}
    audit.record(connection, now, event | {"attempts": letter.attempts, "detail": detail})
