"""Operations on transactions that a request or a person causes: plain functions of a Connection and values.

What a CA's answer, or its silence, does to a transaction stands in settle.py; who takes it up, in claims.py. Whatever is
decided is audited in the commit that writes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from ra.errors import Reason, Refused, Unavailable
from ra.journal import audit, direct, outbox, statements
from ra.journal.moves import advance, advance_named, record_outcome
from ra.journal.outbox import NewLetter
from ra.journal.purge import wiped
from ra.journal.records import NewTransaction, RequestIdentity, Transaction
from ra.journal.states import HELD, OPEN, State, check_first
from ra.journal.succession import supersede
from ra.journal.wakeup import announce

REDELIVERY = timedelta(hours=1)
"""How long after its first delivery the same request still gets the same certificate."""

_TRIES = 3
"""Of an insert that another process keeps standing in the way of."""


def recall(connection: Connection, identity: RequestIdentity, now: datetime) -> Transaction | None:
    """The transaction that answers this request already; None for a new request. Reads only.

    Open, or with a certificate that is neither revoked nor expired and was not delivered or less than REDELIVERY ago.
    Where it is DEFERRED and not `is_named_by` the request, `remember` lets CertPoll find it under both transactionIDs.

    Raises:
        Refused: TRANSACTION_CONFLICT: the transaction is open and belongs to another request.
    """
    parameters = _name_of(identity) | {"request_key": identity.request_key}
    answer = None
    for row in direct.rows(connection, statements.RECALL, parameters):
        found = Transaction(**row)
        if _is_same_request(found, identity):
            answer = found if _answers(found, now) else answer
        elif found.state in OPEN:
            raise Refused(Reason.TRANSACTION_CONFLICT, f"transaction {found.id} is open for another key or other names")
    return answer


def remember(connection: Connection, which: UUID, identity: RequestIdentity) -> bool:
    """Makes a transaction known under the request's transactionID too; False: it has too many, and this one is not kept.

    Then the device must not be told PENDING: it could not poll.
    """
    name = _name_of(identity)
    if connection.execute(statements.REMEMBER, name | {"of": which}).first() is not None:
        return True
    return connection.execute(statements.REMEMBERED, name).scalar() == which


def find(connection: Connection, profile: str, signer_key: bytes, transaction_id: bytes) -> Transaction | None:
    """The newest transaction of (profile, signer_key, transaction_id), an open one first, for CertPoll. Reads only."""
    parameters = {"profile": profile, "signer_key": signer_key, "transaction_id": transaction_id}
    row = connection.execute(statements.FIND, parameters).mappings().first()
    return None if row is None else Transaction(**row)


def knows(connection: Connection, profile: str, signer_key: bytes) -> bool:
    """Whether that key has ever had something authorised there: a lost answer is asked for under a new transactionID."""
    return connection.execute(statements.KNOWS, {"profile": profile, "signer_key": signer_key}).first() is not None


def await_approval(connection: Connection, profile: str, count: int) -> bool:
    """Whether so many requests of a profile wait for a person. Reads only."""
    parameters = {"profile": profile, "before": count - 1}
    return connection.execute(statements.LAST_AWAITING, parameters).first() is not None


def get(connection: Connection, which: UUID) -> Transaction:
    """The transaction of that id, which must exist. Reads only."""
    return Transaction(**connection.execute(statements.GET, {"of": which}).mappings().one())


def authorise(connection: Connection, new: NewTransaction, now: datetime) -> Transaction:
    """Writes the transaction in its first state, spends its one-time secret and audits the decision, in one commit.

    When an identical request was faster, its transaction comes back: compare `.id` with `new.id` before asking the CA.

    Raises:
        Refused: TRANSACTION_CONFLICT as in `recall`; CHALLENGE_REFUSED when the secret is already spent
            (an alarm, when another key spent it: somebody has got hold of it), or was withdrawn meanwhile.
        Unavailable: the same request keeps coming at the same moment.
    """
    check_first(new.state)
    transaction = _transaction(new, now)
    beside = {"request_key": new.identity.request_key, "is_open": True, "searched": new.subject}
    values = statements.columns_of(transaction) | beside
    for _ in range(_TRIES):
        if direct.rows(connection, statements.AUTHORISE, values):
            _spend(connection, new)
            _record_decision(connection, transaction)
            return transaction
        faster = recall(connection, new.identity, now)
        if faster is not None:
            if not faster.is_named_by(new.identity):
                remember(connection, faster.id, new.identity)
            return faster
        # Delivered long ago or expired: it stays, and answers no more.
        stale = {"of": new.identity.request_key, "of_stale": now - REDELIVERY, "of_now": now}
        connection.execute(statements.RETIRE, stale)
    raise Unavailable("the same request is being authorised elsewhere", retry_after_seconds=1)


def begin(connection: Connection, transaction: Transaction, now: datetime, *, due_at: datetime) -> Transaction:
    """AUTHORISED -> SUBMITTING: the CA is asked, until `due_at`.

    Raises:
        LostRace: somebody else has taken it up.
    """
    before = frozenset({State.AUTHORISED})
    columns = {"due_at": due_at, "attempts": transaction.attempts}
    begun = advance(connection, transaction, before, (State.SUBMITTING,), now, **columns)
    record_outcome(connection, begun, now)
    return begun


def approve(connection: Connection, which: UUID, who: str, now: datetime) -> Transaction:
    """AWAITING_APPROVAL -> AUTHORISED, due at once: a person says yes.

    Raises:
        LostRace: it waits for nobody's approval.
    """
    approved = advance_named(connection, which, State.AWAITING_APPROVAL, State.AUTHORISED, now, due_at=now)
    _record_word(connection, "approved", approved, who, now)
    announce(connection)
    return approved


def deny(
    connection: Connection, which: UUID, who: str, detail: str, now: datetime, *, letters: Sequence[NewLetter] = ()
) -> Transaction:
    """AWAITING_APPROVAL -> REJECTED: a person says no. A one-time secret stays spent.

    Raises:
        LostRace: it waits for nobody's approval.
    """
    columns: dict[str, Any] = {"due_at": None, "detail": detail} | ({} if letters else {"request": None})
    denied = advance_named(connection, which, State.AWAITING_APPROVAL, State.REJECTED, now, **columns)
    outbox.put(connection, which, letters, now)
    _record_word(connection, "denied", denied, who, now)
    return denied


def mark_delivered(connection: Connection, which: UUID, now: datetime, *, supersedes: bool = False) -> Transaction:
    """Notes the first delivery of a RELEASED certificate, which is then nobody's concern any more; later ones change nothing.

    What comes back is the transaction as it stands: hand the certificate out only where that is RELEASED. `supersedes`:
    the certificate that it renews is to be revoked.
    """
    row = connection.execute(statements.DELIVERED, {"of": which, "of_delivered": now}).mappings().first()
    if row is None:
        return get(connection, which)
    delivered = Transaction(**row)
    if supersedes:
        supersede(connection, delivered, now + REDELIVERY)
    return wiped(connection, delivered)


def _record_word(connection: Connection, kind: str, transaction: Transaction, who: str, now: datetime) -> None:
    """The event of an approver's word."""
    event: dict[str, audit.Value] = {
        "event": kind,
        "transaction": str(transaction.id),
        "profile": transaction.profile,
        "who": who,
        "detail": transaction.detail,
    }
    audit.record(connection, now, event)


def _record_decision(connection: Connection, transaction: Transaction) -> None:
    """The event of a decision: who asked for what, and by which rule it is granted."""
    event: dict[str, audit.Value] = {
        "event": "decision",
        "outcome": "awaiting-approval" if transaction.state is State.AWAITING_APPROVAL else "authorised",
        "transaction": str(transaction.id),
        "profile": transaction.profile,
        "transaction_id": transaction.transaction_id.decode("ascii", "backslashreplace"),
        "signer_key": transaction.signer_key.hex(),
        "renewal_of": transaction.renewal_signer.hex() if transaction.renewal_signer else None,
        "csr_key": transaction.csr_key.hex(),
        "subject": transaction.subject,
        "grant_method": transaction.grant_method,
        "grant_label": transaction.grant_label,
        "grant_attributes": transaction.grant_attributes,
        "connector": transaction.connector,
    }
    audit.record(connection, transaction.created_at, event)


def _spend(connection: Connection, new: NewTransaction) -> None:
    spend = new.grant.spend
    if spend is None:
        return
    values = {
        "key": spend.key,
        "transaction": new.id,
        "csr_key": new.identity.csr_key,
        "expires_at": spend.expires_at,
    }
    spent = connection.execute(statements.SPEND, values).one()
    if spent.transaction == new.id:
        if connection.execute(statements.WITHDRAWN_AT, {"of": spend.key}).scalar() is not None:
            raise Refused(Reason.CHALLENGE_REFUSED, "the one-time secret was withdrawn")
        return
    if spent.csr_key == new.identity.csr_key:
        raise Refused(Reason.CHALLENGE_REFUSED, "the one-time secret is spent, by the same key")
    raise Refused(Reason.CHALLENGE_REFUSED, "the one-time secret is spent, by another key", alarm=True)


def _name_of(identity: RequestIdentity) -> dict[str, Any]:
    return {
        "profile": identity.profile,
        "signer_key": identity.signer_key,
        "transaction_id": identity.transaction_id,
    }


def _is_same_request(transaction: Transaction, identity: RequestIdentity) -> bool:
    return (transaction.csr_key, transaction.names, transaction.renewal_signer) == (
        identity.csr_key,
        identity.names,
        identity.renewal_signer,
    )


def _answers(transaction: Transaction, now: datetime) -> bool:
    """Whether its state, or its certificate, is still the answer to its request."""
    if transaction.state in OPEN:
        return True
    is_fresh = transaction.delivered_at is None or now - transaction.delivered_at < REDELIVERY
    is_valid = transaction.not_after is not None and now < transaction.not_after
    return transaction.state in HELD and is_fresh and is_valid


def _transaction(new: NewTransaction, now: datetime) -> Transaction:
    identity = new.identity
    return Transaction(
        id=new.id,
        state=new.state,
        idempotency_key=new.idempotency_key,
        profile=identity.profile,
        connector=new.connector,
        signer_key=identity.signer_key,
        transaction_id=identity.transaction_id,
        csr_key=identity.csr_key,
        names=identity.names,
        csr_info=identity.csr_info,
        contents=new.contents,
        renewal_signer=identity.renewal_signer,
        renews=new.renews,
        subject=new.subject,
        grant_method=new.grant.method,
        grant_label=new.grant.label,
        grant_attributes=dict(new.grant.attributes),
        created_at=now,
        updated_at=now,
        due_at=new.due_at,
        expires_at=new.expires_at,
        request=new.request,
        notify=new.grant.notify,
    )
