"""What the database is asked about transactions, built once: building a statement costs more than running it.

The same statements serve SQLite and PostgreSQL; of FOR UPDATE SKIP LOCKED nothing is left on SQLite, which has one
writer. Bind parameters of an update that are no columns are named `of` or `of_…`; its other parameters are the columns
it sets.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    bindparam,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import insert  # its ON CONFLICT compiles for SQLite too, not the other way round
from sqlalchemy.sql.dml import ReturningUpdate

from connectors.api import RevocationReason
from ra.journal.records import Transaction
from ra.journal.states import State
from ra.journal.tables import HAS_ENDED, aliases, leases, one_time_secrets, outbox, spent_secrets, transactions

MAX_ALIASES = 256
"""TransactionIDs kept for one transaction beside its own: they are free to invent, and each costs a row."""

_COLUMNS = tuple(each.name for each in fields(Transaction))
_ALL = [transactions.c[name] for name in _COLUMNS]
_SELECT = select(*_ALL)
_OF = transactions.c.id == bindparam("of")
GET = _SELECT.where(_OF)

# ---------------------------------------------------------------- a request and its transaction
_OWN_NAME = select(transactions.c.id).where(
    transactions.c.profile == bindparam("profile"),
    transactions.c.signer_key == bindparam("signer_key"),
    transactions.c.transaction_id == bindparam("transaction_id"),
)
_ALIAS = select(aliases.c.transaction).where(
    aliases.c.profile == bindparam("profile"),
    aliases.c.signer_key == bindparam("signer_key"),
    aliases.c.transaction_id == bindparam("transaction_id"),
)
_SAME_REQUEST = select(transactions.c.id).where(transactions.c.request_key == bindparam("request_key"))
# A union of three look-ups: of an OR over them PostgreSQL makes a scan.
RECALL = _SELECT.where(transactions.c.id.in_(union_all(_SAME_REQUEST, _OWN_NAME.where(transactions.c.is_open), _ALIAS)))
FIND = (
    _SELECT.where(transactions.c.id.in_(union_all(_OWN_NAME, _ALIAS)))
    .order_by(transactions.c.is_open.nulls_last(), transactions.c.created_at.desc())
    .limit(1)
)
KNOWS = (
    select(transactions.c.id)
    .where(transactions.c.profile == bindparam("profile"), transactions.c.signer_key == bindparam("signer_key"))
    .limit(1)
)
LAST_AWAITING = (  # the one that fills the list; `due_at` leads to the index
    select(transactions.c.id)
    .where(
        transactions.c.due_at.is_not(None),
        transactions.c.state == State.AWAITING_APPROVAL,
        transactions.c.profile == bindparam("profile"),
    )
    .offset(bindparam("before"))
    .limit(1)
)
AUTHORISE = insert(transactions).on_conflict_do_nothing().returning(transactions.c.id)
RETIRE = (
    update(transactions)
    .where(
        transactions.c.request_key == bindparam("of"),
        transactions.c.is_open.is_(None),
        or_(
            transactions.c.delivered_at <= bindparam("of_stale", type_=transactions.c.delivered_at.type),
            transactions.c.not_after <= bindparam("of_now", type_=transactions.c.not_after.type),
            transactions.c.not_after.is_(None),
        ),
    )
    .values(request_key=None)
)
"""Only a row that answers no more: another process may have written one that does since it was looked at."""
REMEMBER = (
    insert(aliases)
    .from_select(
        ["profile", "signer_key", "transaction_id", "transaction"],
        select(
            bindparam("profile", type_=aliases.c.profile.type),
            bindparam("signer_key", type_=aliases.c.signer_key.type),
            bindparam("transaction_id", type_=aliases.c.transaction_id.type),
            bindparam("of", type_=aliases.c.transaction.type),
        ).where(
            select(func.count()).where(aliases.c.transaction == bindparam("of")).scalar_subquery()
            < literal(MAX_ALIASES)
        ),
    )
    .on_conflict_do_update(
        index_elements=["profile", "signer_key", "transaction_id"],
        set_={"transaction": bindparam("of")},
        where=aliases.c.transaction != bindparam("of"),
    )
    .returning(aliases.c.transaction)
)
REMEMBERED = _ALIAS
# An update that changes nothing returns the row that was there, which DO NOTHING would not.
SPEND = (
    insert(spent_secrets)
    .on_conflict_do_update(index_elements=["key"], set_={"key": spent_secrets.c.key})
    .returning(spent_secrets.c.transaction, spent_secrets.c.csr_key)
)
# By the key alone: only for a row that it finds does it wait for whoever is withdrawing it at this moment.
WITHDRAWN_AT = (
    select(one_time_secrets.c.revoked_at).where(one_time_secrets.c.key == bindparam("of")).with_for_update(read=True)
)
GIVE_BACK = delete(spent_secrets).where(spent_secrets.c.transaction == bindparam("of"))

# ---------------------------------------------------------------- from a state to another
_IN_STATE = and_(_OF, transactions.c.state == bindparam("of_state"))
MOVE = update(transactions).where(_IN_STATE, transactions.c.due_at.is_not_distinct_from(bindparam("of_due")))
"""Compare-and-set by state and due_at: whoever has slept past its lease changes nothing."""
_other = transactions.alias("other")
MOVE_WITH_CERTIFICATE = MOVE.where(
    ~exists().where(
        _other.c.serial == bindparam("of_serial"),
        _other.c.connector == transactions.c.connector,
        _other.c.id != transactions.c.id,
    )
)
"""The same, as long as no other transaction of that connector has the certificate of that serial number."""
MOVE_UNDUE = update(transactions).where(
    _IN_STATE, transactions.c.delivered_at.is_not_distinct_from(bindparam("of_delivered"))
)
"""Compare-and-set by state and by what the device has, whoever else is looking at the row."""
MOVE_NAMED = update(transactions).where(_IN_STATE).returning(*_ALL)
"""Compare-and-set by state alone, for who knows nothing but the id."""
DELIVERED = (
    update(transactions)
    .where(_OF, transactions.c.state == State.RELEASED)
    .values(
        due_at=None,
        delivered_at=func.coalesce(
            transactions.c.delivered_at, bindparam("of_delivered", type_=transactions.c.delivered_at.type)
        ),
    )
    .returning(*_ALL)
)
SUPERSEDE = (
    update(transactions)
    .where(_OF, transactions.c.state == State.RELEASED, transactions.c.revocation.is_(None))
    .values(due_at=bindparam("of_at", type_=transactions.c.due_at.type), revocation=RevocationReason.SUPERSEDED.value)
)
ANCESTRY = select(transactions.c.renews, transactions.c.csr_key, transactions.c.signer_key).where(_OF)
WIPE = (
    update(transactions)
    .where(
        _OF,
        or_(
            *(transactions.c.state == each for each in (State.RELEASED, State.REJECTED, State.REVOKED)),
            and_(transactions.c.state == State.EXPIRED, transactions.c.due_at.is_(None)),
        ),
        transactions.c.request.is_not(None),
        ~exists().where(outbox.c.transaction == bindparam("of")),
    )
    .values(request=None)
)

# ---------------------------------------------------------------- claims
_DUE = transactions.c.due_at <= bindparam("now")
_IS_OF_CONNECTOR = transactions.c.connector == bindparam("of_connector")
_HAS_EXPIRED = transactions.c.expires_at <= bindparam("now")


def _claim(*conditions: ColumnElement[bool], **changes: Any) -> ReturningUpdate[Any]:
    """Takes `count` of the rows that have been due longest, for as long as `until` says.

    PostgreSQL would evaluate LIMIT once a row, were the SELECT not materialised.
    """
    due = (
        select(transactions.c.id)
        .where(_DUE, _IS_OF_CONNECTOR, *conditions)
        .order_by(transactions.c.due_at)
        .limit(bindparam("count"))
        .with_for_update(skip_locked=True)
        .cte("due")
        .prefix_with("MATERIALIZED")
    )
    claimed = {"due_at": bindparam("until"), "updated_at": bindparam("now")} | changes
    return update(transactions).where(transactions.c.id.in_(select(due.c.id))).values(claimed).returning(*_ALL)


CLAIM_AUTHORISED = _claim(
    transactions.c.state == State.AUTHORISED,
    ~_HAS_EXPIRED,
    state=State.SUBMITTING,
    reason=None,
    detail=None,
)
LOSE_LEASES = _claim(
    transactions.c.state == State.SUBMITTING, state=State.UNKNOWN, attempts=0, detail=bindparam("of_detail")
)
CLAIM_DUE = _claim(
    or_(
        transactions.c.state.not_in((State.AUTHORISED, State.SUBMITTING)),
        and_(transactions.c.state == State.AUTHORISED, _HAS_EXPIRED),
    )
)
DUE_CONNECTORS = select(transactions.c.connector).where(_DUE).distinct()

_LEASE_ROW = insert(leases)
TAKE_LEASE = _LEASE_ROW.on_conflict_do_update(
    index_elements=["name"],
    set_={"holder": _LEASE_ROW.excluded.holder, "until": _LEASE_ROW.excluded.until},
    where=or_(leases.c.holder == _LEASE_ROW.excluded.holder, leases.c.until <= bindparam("of_now")),
).returning(leases.c.name)
RETURN_LEASE = (
    update(leases)
    .where(leases.c.name == bindparam("of"), leases.c.holder == bindparam("of_holder"))
    .values(holder=bindparam("nobody"), until=bindparam("ran_at"))
)
"""What nobody holds says when it was done the last time."""
NOT_DUE = select(leases.c.name).where(
    leases.c.name == bindparam("of"),
    or_(
        and_(leases.c.holder != bindparam("nobody"), leases.c.until > bindparam("of_now")),
        and_(leases.c.holder == bindparam("nobody"), leases.c.until > bindparam("of_before")),
    ),
)
LEASED = select(leases.c.name).where(leases.c.name == bindparam("of"), leases.c.until > bindparam("of_now"))

# ---------------------------------------------------------------- what is forgotten
_HAS_NO_WORK = and_(transactions.c.due_at.is_(None), ~exists().where(outbox.c.transaction == transactions.c.id))


def _doomed(*conditions: ColumnElement[bool]) -> Select[Any]:
    return (
        select(transactions.c.id)
        .where(*conditions, _HAS_NO_WORK)
        .limit(bindparam("count"))
        .with_for_update(skip_locked=True, of=transactions)
    )


ENDED_BEFORE = _doomed(
    HAS_ENDED,
    transactions.c.state == bindparam("of_state"),
    transactions.c.updated_at <= bindparam("before"),
    # What is revoked and has not expired may still be asked for.
    or_(transactions.c.not_after.is_(None), transactions.c.not_after <= bindparam("now")),
)
OUTLIVED_BEFORE = _doomed(transactions.c.state == State.RELEASED, transactions.c.not_after <= bindparam("before"))
FORGET_ALIASES = delete(aliases).where(aliases.c.transaction.in_(bindparam("of", expanding=True)))
FORGET = delete(transactions).where(transactions.c.id.in_(bindparam("of", expanding=True)))
FORGET_SECRETS, FORGET_SPENT = (
    delete(table).where(
        table.c.key.in_(select(table.c.key).where(table.c.expires_at <= bindparam("before")).limit(bindparam("count")))
    )
    for table in (one_time_secrets, spent_secrets)
)
FORGET_LETTERS = (
    delete(outbox)
    .where(
        outbox.c.id.in_(
            select(outbox.c.id)
            .where(outbox.c.due_at.is_(None), outbox.c.deadline_at <= bindparam("before"))
            .limit(bindparam("count"))
        )
    )
    .returning(outbox.c.transaction)
)


def columns_of(transaction: Transaction) -> dict[str, Any]:
    """Its columns, by name."""
    return {name: getattr(transaction, name) for name in _COLUMNS}
