"""What the database is asked about transactions, built once: building a statement costs more than running it.

The same statements serve SQLite and PostgreSQL. Bind parameters of an update that are no columns are named `of_…`; its
other parameters are the columns it sets.
"""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from typing import Any

from sqlalchemy import Update, and_, bindparam, delete, func, literal, or_, select, union_all, update
from sqlalchemy.dialects.postgresql import insert  # its ON CONFLICT compiles for SQLite too, not the other way round

from ra.journal.records import Transaction
from ra.journal.states import State
from ra.journal.tables import aliases, spent_secrets, transactions

MAX_ALIASES = 16
"""TransactionIDs kept for one transaction beside its own: they are free to invent, and each costs a row."""

_COLUMNS = tuple(each.name for each in fields(Transaction))
_ALL = [transactions.c[name] for name in _COLUMNS]
_SELECT = select(*_ALL)
GET = _SELECT.where(transactions.c.id == bindparam("of"))

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
AUTHORISE = insert(transactions).on_conflict_do_nothing().returning(transactions.c.id)
RETIRE = update(transactions).where(transactions.c.request_key == bindparam("of")).values(request_key=None)
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
)
SPEND = insert(spent_secrets).on_conflict_do_nothing().returning(spent_secrets.c.key)
SPENT_BY = select(spent_secrets.c.csr_key, spent_secrets.c.transaction).where(spent_secrets.c.key == bindparam("of"))
GIVE_BACK = delete(spent_secrets).where(spent_secrets.c.transaction == bindparam("of"))
DELIVERED = update(transactions).where(
    transactions.c.id == bindparam("of"),
    transactions.c.state == State.RELEASED,
    transactions.c.delivered_at.is_(None),
)
_UNUSED = and_(transactions.c.id == bindparam("of"), transactions.c.state == State.AUTHORISED)
AUTHORISE_ANEW = update(transactions).where(_UNUSED).returning(*_ALL)
RESUME = (
    update(transactions)
    .where(
        _UNUSED,
        transactions.c.csr_info == bindparam("of_info"),
        transactions.c.contents == bindparam("of_contents"),
    )
    .values(state=State.SUBMITTING)
    .returning(*_ALL)
)
RETAKE = (
    update(transactions)
    .where(
        transactions.c.id == bindparam("of"),
        transactions.c.csr_info == bindparam("of_info"),
        transactions.c.contents == bindparam("of_contents"),
        or_(
            transactions.c.state == State.UNKNOWN,
            and_(transactions.c.state == State.SUBMITTING, transactions.c.lease_until <= bindparam("of_lease")),
        ),
    )
    .values(state=State.SUBMITTING)
    .returning(*_ALL)
)


@cache
def move(before: frozenset[State]) -> Update:
    """Compare-and-set of a transaction `of` that is in one of `before`."""
    return update(transactions).where(
        transactions.c.id == bindparam("of"), or_(*(transactions.c.state == state for state in sorted(before)))
    )


def columns_of(transaction: Transaction) -> dict[str, Any]:
    """Its columns, by name."""
    return {name: getattr(transaction, name) for name in _COLUMNS}
