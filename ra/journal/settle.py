"""What becomes of a transaction: plain functions of a Connection, the transaction as it was taken up, and values.

Whoever asks a CA has the transaction until its `due_at`. What is committed here compares that time too: once somebody
else has taken it up, an answer that comes late settles nothing, and LostRace is raised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from connectors.api import RevocationReason
from ra.journal import audit, outbox, statements, stops, strays
from ra.journal.certificates import stands_elsewhere
from ra.journal.moves import advance, advance_named, advance_undue, advance_with_certificate, record_outcome
from ra.journal.outbox import NewLetter
from ra.journal.purge import wiped
from ra.journal.records import NewCertificate, NewStray, Transaction
from ra.journal.states import HELD, LostRace, State
from ra.journal.succession import supersede
from ra.journal.texts import fitted
from ra.journal.transactions import REDELIVERY
from ra.journal.wakeup import announce

_ASKED = frozenset({State.SUBMITTING, State.PENDING, State.UNKNOWN})
_UNSURE = frozenset({State.SUBMITTING, State.UNKNOWN})
_WITHOUT_ANSWER = frozenset({State.AUTHORISED, State.AWAITING_APPROVAL, State.PENDING})


def issue(
    connection: Connection,
    transaction: Transaction,
    certificate: NewCertificate,
    now: datetime,
    *,
    delivered: bool,
    keeps_request: bool = False,
    letters: Sequence[NewLetter] = (),
    undelivered_until: datetime | None,
    supersedes: bool = False,
) -> Transaction:
    """SUBMITTING | PENDING | UNKNOWN -> ISSUED, and on to RELEASED in the same commit unless a letter is strict.

    `delivered` when the request is waiting for it; where not, somebody has to look at `undelivered_until` (None: never).
    `supersedes`: the certificate that it renews is to be revoked, once it is delivered.
    `keeps_request` until it is delivered: the reply is sealed with what is in there.

    Raises:
        LostRace: somebody else has taken it up, or settled it.
        NotItsOwn: another transaction has that certificate.
    """
    values: dict[str, Any] = {"delivered": delivered, "letters": letters, "undelivered_until": undelivered_until}
    return _issue(
        connection, transaction, _ASKED, certificate, now, supersedes=supersedes, keeps_request=keeps_request, **values
    )


def _issue(
    connection: Connection,
    transaction: Transaction,
    before: frozenset[State],
    certificate: NewCertificate,
    now: datetime,
    *,
    delivered: bool,
    letters: Sequence[NewLetter],
    undelivered_until: datetime | None,
    supersedes: bool = False,
    keeps_request: bool = False,
) -> Transaction:
    columns = _columns_of(certificate) | ({} if letters or (keeps_request and not delivered) else {"request": None})
    strict = [each.deadline_at for each in letters if each.is_strict]
    if strict:
        path: tuple[State, ...] = (State.ISSUED,)
        columns |= {"due_at": max(strict)}
    else:
        path = (State.ISSUED, State.RELEASED)
        columns |= {"due_at": None if delivered else undelivered_until, "delivered_at": now if delivered else None}
    issued = advance_with_certificate(connection, transaction, before, path, now, **columns)
    if supersedes and issued.delivered_at is not None:
        supersede(connection, issued, now + REDELIVERY)
    outbox.put(connection, issued.id, letters, now)
    record_outcome(connection, issued, now)
    return issued


def release(connection: Connection, which: UUID, now: datetime, *, undelivered_until: datetime | None) -> Transaction:
    """ISSUED -> RELEASED: everybody who had to be told has been. The device fetches it.

    Raises:
        LostRace: it is no longer ISSUED.
    """
    released = advance_named(connection, which, State.ISSUED, State.RELEASED, now, due_at=undelivered_until)
    record_outcome(connection, released, now)
    return wiped(connection, released)


def settle_pending(
    connection: Connection, transaction: Transaction, reference: str, due_at: datetime, now: datetime
) -> Transaction:
    """SUBMITTING | UNKNOWN -> PENDING: the CA has accepted and not decided. A PENDING that stays so is no event.

    Raises:
        LostRace: somebody else has taken it up, or settled it.
    """
    if transaction.state is State.PENDING:
        return _stay(connection, transaction, now, reference=reference, due_at=due_at)
    pending = advance(connection, transaction, _UNSURE, (State.PENDING,), now, reference=reference, due_at=due_at)
    record_outcome(connection, pending, now)
    return pending


def settle_rejected(
    connection: Connection,
    transaction: Transaction,
    reason: str,
    detail: str,
    now: datetime,
    *,
    letters: Sequence[NewLetter] = (),
) -> Transaction:
    """SUBMITTING | PENDING -> REJECTED: the CA's final no. The one-time secret is given back.

    Raises:
        LostRace: somebody else has taken it up, or settled it.
    """
    before = frozenset({State.SUBMITTING, State.PENDING})
    return _fail(
        connection, transaction, before, State.REJECTED, now, letters=letters, due_at=None, reason=reason, detail=detail
    )


def expire(
    connection: Connection,
    transaction: Transaction,
    detail: str,
    due_at: datetime | None,
    now: datetime,
    *,
    letters: Sequence[NewLetter] = (),
) -> Transaction:
    """AUTHORISED | AWAITING_APPROVAL | PENDING -> EXPIRED: it took too long. The one-time secret is given back.

    `due_at` is when its order at the CA is polled again; None: it has none.

    Raises:
        LostRace: somebody else has taken it up, or settled it.
    """
    return _fail(
        connection, transaction, _WITHOUT_ANSWER, State.EXPIRED, now, letters=letters, due_at=due_at, detail=detail
    )


def settle_unknown(
    connection: Connection, transaction: Transaction, detail: str, due_at: datetime, now: datetime
) -> Transaction:
    """SUBMITTING -> UNKNOWN: the CA may have issued.

    Raises:
        LostRace: somebody else has taken it up, or settled it.
    """
    before = frozenset({State.SUBMITTING})
    unknown = advance(connection, transaction, before, (State.UNKNOWN,), now, detail=detail, due_at=due_at)
    record_outcome(connection, unknown, now)
    return unknown


def back_to_authorised(
    connection: Connection,
    transaction: Transaction,
    detail: str,
    due_at: datetime,
    now: datetime,
    *,
    orphan: bool = False,
) -> Transaction:
    """SUBMITTING | UNKNOWN -> AUTHORISED: nothing was sent, or the CA certainly has not issued. It is sent again.

    `attempts` goes on, so that the pause before what was not sent grows from one failure to the next.
    An `orphan` is sent again without knowing: it is counted, and an event of its own says where to look for a second
    certificate.

    Raises:
        LostRace: somebody else has taken it up, or settled it.
    """
    columns = {"attempts": transaction.attempts + 1, "orphans": transaction.orphans + orphan}
    authorised = advance(
        connection, transaction, _UNSURE, (State.AUTHORISED,), now, detail=detail, due_at=due_at, **columns
    )
    record_outcome(connection, authorised, now)
    if orphan:
        _record_orphan(connection, authorised, now)
    return authorised


def quarantine(
    connection: Connection, transaction: Transaction, stray: NewStray, detail: str, now: datetime
) -> Transaction:
    """SUBMITTING | PENDING | UNKNOWN -> QUARANTINED: what came back is not what was asked for; the connector is stopped.

    Raises:
        LostRace: somebody else has taken it up, or settled it.
    """
    quarantined = advance(connection, transaction, _ASKED, (State.QUARANTINED,), now, detail=detail, due_at=None)
    record_outcome(connection, quarantined, now, certificate=stray.certificate.hex())
    strays.keep(connection, quarantined, stray, detail, now)
    stops.stop(connection, quarantined, detail, now)
    return quarantined


def accept(
    connection: Connection,
    transaction: Transaction,
    certificate: NewCertificate,
    now: datetime,
    *,
    letters: Sequence[NewLetter] = (),
    undelivered_until: datetime | None,
    keeps_request: bool = False,
) -> Transaction:
    """QUARANTINED -> ISSUED, as `issue` does: by now its certificate is what was asked for, and none that nobody may have.

    Raises:
        LostRace: somebody else has taken it up, or settled it.
        NotItsOwn: another transaction has it.
    """
    strays.forget(connection, transaction.id)
    values: dict[str, Any] = {"delivered": False, "letters": letters, "undelivered_until": undelivered_until}
    values["keeps_request"] = keeps_request
    return _issue(connection, transaction, frozenset({State.QUARANTINED}), certificate, now, **values)


def arrive_late(
    connection: Connection, transaction: Transaction, certificate: NewCertificate, now: datetime
) -> Transaction:
    """EXPIRED -> REVOKING, due at once: an order was filled that nobody waits for any more.

    A certificate that another transaction has is not its to revoke: then the order is done with, and it stays EXPIRED.

    Raises:
        LostRace: somebody else has taken it up.
    """
    if stands_elsewhere(connection, transaction.connector, certificate.serial, transaction.id):
        return postpone(
            connection, transaction, "its order was filled, and another request has the certificate", None, now
        )
    columns = _columns_of(certificate) | {
        "due_at": now,
        "detail": "the order was filled after the transaction had expired",
        "revocation": RevocationReason.CESSATION_OF_OPERATION.value,
    }
    late = advance(connection, transaction, frozenset({State.EXPIRED}), (State.REVOKING,), now, **columns)
    record_outcome(connection, late, now, revocation=late.revocation)
    return late


def revoke(
    connection: Connection,
    transaction: Transaction,
    revocation: RevocationReason,
    detail: str,
    now: datetime,
    *,
    who: str | None = None,
) -> Transaction:
    """ISSUED | RELEASED -> REVOKING, due at once, whoever else has taken it up. From now on nothing is handed out.

    `who` is the person that wants it; None: nobody does, it is the rule.

    Raises:
        LostRace: it is no longer in the state it was given in, or the device has got the certificate meanwhile.
    """
    columns = {"due_at": now, "detail": detail, "revocation": revocation.value}
    revoking = advance_undue(connection, transaction, HELD, (State.REVOKING,), now, **columns)
    record_outcome(connection, revoking, now, revocation=revoking.revocation, who=who)
    announce(connection)
    return revoking


def revoked(connection: Connection, transaction: Transaction, now: datetime) -> Transaction:
    """REVOKING -> REVOKED: the CA has confirmed it.

    Raises:
        LostRace: somebody else has taken it up, or settled it.
    """
    before = frozenset({State.REVOKING})
    done = advance(connection, transaction, before, (State.REVOKED,), now, due_at=None, detail=transaction.detail)
    record_outcome(connection, done, now, revocation=done.revocation)
    return wiped(connection, done)


def postpone(
    connection: Connection, transaction: Transaction, detail: str, due_at: datetime | None, now: datetime
) -> Transaction:
    """Leaves it in its state, to be looked at again at `due_at`; None: never again. No event.

    Raises:
        LostRace: somebody else has taken it up, or settled it.
    """
    return wiped(connection, _stay(connection, transaction, now, detail=detail, due_at=due_at))


def _stay(connection: Connection, transaction: Transaction, now: datetime, **columns: Any) -> Transaction:
    """One more look that changed nothing.

    Raises:
        LostRace: somebody else has taken it up, or settled it.
    """
    columns = fitted(columns) | {"updated_at": now, "attempts": transaction.attempts + 1}
    own = {"of": transaction.id, "of_state": transaction.state, "of_due": transaction.due_at}
    if connection.execute(statements.MOVE, own | columns).rowcount == 0:
        raise LostRace(f"transaction {transaction.id} is no longer as it was")
    return replace(transaction, **columns)


def _fail(
    connection: Connection,
    transaction: Transaction,
    before: frozenset[State],
    after: State,
    now: datetime,
    *,
    letters: Sequence[NewLetter],
    **columns: Any,
) -> Transaction:
    """An end without a certificate. The request is kept for as long as an order or a letter needs it."""
    if columns["due_at"] is None and not letters:
        columns["request"] = None
    failed = advance(connection, transaction, before, (after,), now, **columns)
    connection.execute(statements.GIVE_BACK, {"of": failed.id})
    outbox.put(connection, failed.id, letters, now)
    record_outcome(connection, failed, now)
    return failed


def _columns_of(certificate: NewCertificate) -> dict[str, Any]:
    return {
        "reference": certificate.reference,
        "certificate": certificate.certificate,
        "chain": certificate.chain,
        "serial": f"{certificate.serial:x}",
        "not_after": certificate.not_after,
    }


def _record_orphan(connection: Connection, transaction: Transaction, now: datetime) -> None:
    event: dict[str, audit.Value] = {
        "event": "orphan",
        "transaction": str(transaction.id),
        "profile": transaction.profile,
        "connector": transaction.connector,
        "reference": transaction.reference,
        "serial": None,
        "detail": transaction.detail,
    }
    audit.record(connection, now, event)
