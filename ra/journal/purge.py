"""What is forgotten, and when: nothing that is open, due, or still to be told to somebody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Select

from ra.journal import statements
from ra.journal.records import Transaction
from ra.journal.states import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long what has ended is kept, in days.

    Attributes:
        revoked_days: counted from the revocation; what has not expired by then is kept until it has.
        released_days_after_expiry: certificates that were handed out, counted from their own notAfter.
        secrets_days_after_expiry: one-time secrets, and that they were spent. Never 0 in earnest: a request that
            arrived in time may still be on its way.
        dead_letters_days: counted from the letter's deadline.
    """

    rejected_days: int = 90
    expired_days: int = 90
    revoked_days: int = 365
    released_days_after_expiry: int = 90
    secrets_days_after_expiry: int = 30
    dead_letters_days: int = 90


def purge(connection: Connection, retention: Retention, now: datetime, count: int) -> Mapping[str, int]:
    """Forgets what is old enough, at most `count` rows of each kind; how many there were, by state or table.

    That a secret was spent is forgotten by its own time alone: it outlives the transaction that spent it.
    """

    def before(days: int) -> dict[str, Any]:
        return {"before": now - timedelta(days=days), "count": count}

    dead_letters = _forget_letters(connection, before(retention.dead_letters_days))
    ended = {
        State.REJECTED: retention.rejected_days,
        State.EXPIRED: retention.expired_days,
        State.REVOKED: retention.revoked_days,
    }
    forgotten = {
        state.value: _forget(connection, statements.ENDED_BEFORE, before(days) | {"of_state": state, "now": now})
        for state, days in ended.items()
    }
    outlived = before(retention.released_days_after_expiry)
    forgotten[State.RELEASED.value] = _forget(connection, statements.OUTLIVED_BEFORE, outlived)
    secrets = before(retention.secrets_days_after_expiry)
    return forgotten | {
        "outbox": dead_letters,
        "one_time_secrets": connection.execute(statements.FORGET_SECRETS, secrets).rowcount,
        "spent_secrets": connection.execute(statements.FORGET_SPENT, secrets).rowcount,
    }


def wipe(connection: Connection, which: UUID) -> bool:
    """Wipes the stored request of a transaction that has ended and of which nobody is still to be told."""
    return connection.execute(statements.WIPE, {"of": which}).rowcount > 0


def wiped(connection: Connection, transaction: Transaction) -> Transaction:
    """The same, its stored request wiped if `wipe` does."""
    is_wiped = transaction.request is not None and wipe(connection, transaction.id)
    return replace(transaction, request=None) if is_wiped else transaction


def _forget(connection: Connection, doomed: Select[Any], values: dict[str, Any]) -> int:
    """The names that a transaction was known under go with it."""
    ids = connection.execute(doomed, values).scalars().all()
    if ids:
        connection.execute(statements.FORGET_ALIASES, {"of": ids})
        connection.execute(statements.FORGET, {"of": ids})
    return len(ids)


def _forget_letters(connection: Connection, values: dict[str, Any]) -> int:
    """With the last letter goes what its transaction was asked for."""
    told = connection.execute(statements.FORGET_LETTERS, values).scalars().all()
    for which in {each for each in told if each is not None}:
        wipe(connection, which)
    return len(told)
