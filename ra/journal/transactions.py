"""Operations on transactions: plain functions of a Connection and values, run by Journal.write or Journal.read.

Every change of state is a compare-and-set against TRANSITIONS; every decision and every outcome is audited in the commit that writes it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Update

from ra.errors import Reason, Refused
from ra.journal import audit, statements
from ra.journal.records import NewCertificate, NewTransaction, RequestIdentity, Transaction
from ra.journal.states import HELD, OPEN, LostRace, State, check_path

REDELIVERY = timedelta(hours=1)
"""How long after its first delivery the same request still gets the same certificate."""

_SUBMITTING = frozenset({State.SUBMITTING})
_ANSWERABLE = frozenset({State.SUBMITTING, State.PENDING, State.UNKNOWN})


def recall(connection: Connection, identity: RequestIdentity, now: datetime) -> Transaction | None:
    """The transaction that answers this request already; None for a new request. Reads only.

    Open, or with a certificate that is neither revoked nor expired and was not delivered or less than REDELIVERY ago.
    Where it is open and not `is_named_by` the request, `remember` lets CertPoll find it under both transactionIDs.

    Raises:
        Refused: TRANSACTION_CONFLICT: the transaction is open and belongs to another request.
    """
    parameters = _name_of(identity) | {"request_key": identity.request_key}
    answer = None
    for row in connection.execute(statements.RECALL, parameters).mappings().all():
        found = Transaction(**row)
        if _is_same_request(found, identity):
            answer = found if _answers(found, now) else answer
        elif found.state in OPEN:
            raise Refused(Reason.TRANSACTION_CONFLICT, f"transaction {found.id} is open for another key or other names")
    return answer


def remember(connection: Connection, which: UUID, identity: RequestIdentity) -> None:
    """Makes an open transaction known under the request's transactionID too; there is a limit, beyond which nothing is kept."""
    connection.execute(statements.REMEMBER, _name_of(identity) | {"of": which})


def find(connection: Connection, profile: str, signer_key: bytes, transaction_id: bytes) -> Transaction | None:
    """The newest transaction of (profile, signer_key, transaction_id), an open one first, for CertPoll. Reads only."""
    parameters = {"profile": profile, "signer_key": signer_key, "transaction_id": transaction_id}
    row = connection.execute(statements.FIND, parameters).mappings().first()
    return None if row is None else Transaction(**row)


def get(connection: Connection, which: UUID) -> Transaction:
    """The transaction of that id, which must exist. Reads only."""
    return Transaction(**connection.execute(statements.GET, {"of": which}).mappings().one())


def authorise(connection: Connection, new: NewTransaction, now: datetime) -> Transaction:
    """Writes the transaction as SUBMITTING, spends its one-time secret and audits the decision, in one commit.

    When an identical request was faster, its transaction comes back: compare `.id` with `new.id` before asking the CA.

    Raises:
        Refused: TRANSACTION_CONFLICT as in `recall`; CHALLENGE_REFUSED when the secret is already spent
            (an alarm, when another key spent it: somebody has got hold of it).
    """
    transaction = _submitting(new, now)
    values = statements.columns_of(transaction) | {"request_key": new.identity.request_key, "is_open": True}
    if connection.execute(statements.AUTHORISE, values).first() is None:
        faster = recall(connection, new.identity, now)
        if faster is not None:
            if not faster.is_named_by(new.identity):
                remember(connection, faster.id, new.identity)
            return faster
        # Delivered long ago or expired: it stays, and answers no more.
        connection.execute(statements.RETIRE, {"of": new.identity.request_key})
        connection.execute(statements.AUTHORISE, values).one()
    _spend(connection, new)
    _record_decision(connection, transaction)
    return transaction


def authorise_anew(connection: Connection, which: UUID, new: NewTransaction, now: datetime) -> Transaction:
    """AUTHORISED -> SUBMITTING under a new authorisation: the one before was never used, and no longer holds.

    The transaction keeps its id and its transactionID; everything else is as in `authorise`, the audit too.

    Raises:
        LostRace: somebody else has taken it up.
        Refused: as in `authorise`.
    """
    check_path(State.AUTHORISED, State.SUBMITTING)
    own = {"id": which, "signer_key": None, "transaction_id": None}
    columns = {name: value for name, value in statements.columns_of(_submitting(new, now)).items() if name not in own}
    transaction = _take_up(connection, statements.AUTHORISE_ANEW, columns | {"of": which})
    _spend(connection, replace(new, id=which))
    _record_decision(connection, transaction)
    return transaction


def resume(
    connection: Connection, which: UUID, csr_info: bytes, contents: bytes, *, lease_until: datetime, now: datetime
) -> Transaction:
    """AUTHORISED -> SUBMITTING, for the same request that came again after a fault: its authorisation still holds.

    Raises:
        LostRace: the request or what is approved of it differs, or somebody else has taken it up.
    """
    check_path(State.AUTHORISED, State.SUBMITTING)
    same = {"of": which, "of_info": csr_info, "of_contents": contents}
    return _take_up(connection, statements.RESUME, same | {"lease_until": lease_until, "updated_at": now})


def retake(
    connection: Connection, which: UUID, csr_info: bytes, contents: bytes, *, lease_until: datetime, now: datetime
) -> Transaction:
    """Takes up a lost answer: UNKNOWN, or SUBMITTING past its lease. Only for a connector that is IDEMPOTENT.

    The same certificationRequestInfo and the same approved contents are demanded, lest one idempotency key obtain two
    different certificates.

    Raises:
        LostRace: the request or what is approved of it differs, or somebody else has taken it up, or it is settled: answer
            with what `get` says.
    """
    check_path(State.SUBMITTING, State.UNKNOWN, State.AUTHORISED, State.SUBMITTING)
    same = {"of": which, "of_info": csr_info, "of_contents": contents, "of_lease": now}
    return _take_up(connection, statements.RETAKE, same | {"lease_until": lease_until, "updated_at": now})


def release(
    connection: Connection, transaction: Transaction, certificate: NewCertificate, now: datetime, *, delivered: bool
) -> Transaction:
    """SUBMITTING | PENDING | UNKNOWN -> ISSUED -> RELEASED, in one commit; `delivered` when the request is waiting.

    Raises:
        LostRace: somebody else has settled it.
    """
    released = _advance(
        connection,
        transaction,
        _ANSWERABLE,
        (State.ISSUED, State.RELEASED),
        now,
        reference=certificate.reference,
        reason=None,
        detail=None,
        delivered_at=now if delivered else None,
        certificate=certificate.certificate,
        chain=certificate.chain,
        serial=f"{certificate.serial:x}",
        not_after=certificate.not_after,
    )
    _record(connection, released, now)
    return released


def settle_pending(
    connection: Connection, transaction: Transaction, reference: str, retry_at: datetime, now: datetime
) -> Transaction:
    """SUBMITTING | UNKNOWN -> PENDING: the CA has accepted and not decided.

    Raises:
        LostRace: somebody else has settled it.
    """
    before = frozenset({State.SUBMITTING, State.UNKNOWN})
    return _settle(connection, transaction, before, State.PENDING, now, reference=reference, retry_at=retry_at)


def settle_rejected(
    connection: Connection, transaction: Transaction, reason: str, detail: str, now: datetime
) -> Transaction:
    """SUBMITTING | PENDING -> REJECTED: the CA's final no. The one-time secret is given back.

    Raises:
        LostRace: somebody else has settled it.
    """
    before = frozenset({State.SUBMITTING, State.PENDING})
    settled = _settle(connection, transaction, before, State.REJECTED, now, reason=reason, detail=detail)
    connection.execute(statements.GIVE_BACK, {"of": transaction.id})
    return settled


def settle_unknown(connection: Connection, transaction: Transaction, detail: str, now: datetime) -> Transaction:
    """SUBMITTING -> UNKNOWN: the CA may have issued.

    Raises:
        LostRace: somebody else has settled it.
    """
    return _settle(connection, transaction, _SUBMITTING, State.UNKNOWN, now, detail=detail)


def back_to_authorised(connection: Connection, transaction: Transaction, detail: str, now: datetime) -> Transaction:
    """SUBMITTING -> AUTHORISED: a fault before anything was sent; the device's next try resumes it. No outcome, no event.

    Raises:
        LostRace: somebody else has settled it.
    """
    return _advance(connection, transaction, _SUBMITTING, (State.AUTHORISED,), now, detail=detail, lease_until=None)


def quarantine(
    connection: Connection, transaction: Transaction, certificate: bytes, detail: str, now: datetime
) -> Transaction:
    """SUBMITTING -> QUARANTINED: what came back is not what was asked for. The audit keeps it, DER in hex.

    Raises:
        LostRace: somebody else has settled it.
    """
    quarantined = _advance(connection, transaction, _SUBMITTING, (State.QUARANTINED,), now, detail=detail)
    _record(connection, quarantined, now, certificate=certificate.hex())
    return quarantined


def mark_delivered(connection: Connection, which: UUID, now: datetime) -> None:
    """Notes the first delivery of a RELEASED certificate; later ones change nothing."""
    connection.execute(statements.DELIVERED, {"of": which, "delivered_at": now})


def _advance(
    connection: Connection,
    transaction: Transaction,
    before: frozenset[State],
    path: tuple[State, ...],
    now: datetime,
    **columns: Any,
) -> Transaction:
    """The one way to another state: every move of the path is in TRANSITIONS, and only a row in `before` is moved.

    Raises:
        IllegalTransition: a fault of this module.
        LostRace: the row is elsewhere.
    """
    for state in before:
        check_path(state, *path)
    after = path[-1]
    columns |= {"state": after, "updated_at": now}
    own = {"of": transaction.id, "is_open": True if after in OPEN else None}
    if after not in OPEN | HELD:
        own["request_key"] = None
    if connection.execute(statements.move(before), own | columns).rowcount == 0:
        stood = " or ".join(sorted(before))
        raise LostRace(f"transaction {transaction.id} cannot become {after}: it is no longer {stood}")
    return replace(transaction, **columns)


def _take_up(connection: Connection, statement: Update, values: dict[str, Any]) -> Transaction:
    row = connection.execute(statement, values).mappings().first()
    if row is None:
        raise LostRace(f"transaction {values['of']} is not to be taken up")
    return Transaction(**row)


def _settle(
    connection: Connection,
    transaction: Transaction,
    before: frozenset[State],
    after: State,
    now: datetime,
    **columns: Any,
) -> Transaction:
    """One move and the event that tells of it."""
    settled = _advance(connection, transaction, before, (after,), now, **columns)
    _record(connection, settled, now)
    return settled


def _record(connection: Connection, transaction: Transaction, now: datetime, **particulars: audit.Value) -> None:
    """The event of an outcome: what became of the decision that names the same transaction, and what the backend said."""
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


def _record_decision(connection: Connection, transaction: Transaction) -> None:
    """The event of a decision: who asked for what, and by which rule it is granted."""
    event: dict[str, audit.Value] = {
        "event": "decision",
        "outcome": "authorised",
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
    if connection.execute(statements.SPEND, values).first() is not None:
        return
    spent = connection.execute(statements.SPENT_BY, {"of": spend.key}).one()
    if spent.transaction == new.id:
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


def _submitting(new: NewTransaction, now: datetime) -> Transaction:
    identity = new.identity
    return Transaction(
        id=new.id,
        state=State.SUBMITTING,
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
        subject=new.subject,
        grant_method=new.grant.method,
        grant_label=new.grant.label,
        grant_attributes=dict(new.grant.attributes),
        created_at=now,
        updated_at=now,
        lease_until=new.lease_until,
    )
