"""Who looks at what: rows that are due are claimed for a time, and so are jobs that one process does for all.

A claim is a lease. Whoever holds it alone settles the transaction, until `due_at`; a process that has died, or sleeps,
loses it to the next one that claims.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.sql.dml import ReturningUpdate

from ra.journal import statements
from ra.journal.moves import record_outcome
from ra.journal.records import Transaction
from ra.journal.states import State, check_path

NOBODY = UUID(int=0)
"""Holds the lease of a job that nobody is at."""

NEVER = datetime(1970, 1, 1, tzinfo=UTC)
"""When a job was done that was not."""

_LOST = "whoever asked the CA has not said what it answered"


def due(connection: Connection, now: datetime) -> tuple[str, ...]:
    """The connectors that something is due for. Reads only."""
    return tuple(connection.execute(statements.DUE_CONNECTORS, {"now": now}).scalars())


def claim_authorised(
    connection: Connection, connector: str, now: datetime, until: datetime, count: int
) -> tuple[Transaction, ...]:
    """AUTHORISED -> SUBMITTING for those that are due, `count` at most: the caller asks the CA, until `until`."""
    check_path(State.AUTHORISED, State.SUBMITTING)
    claimed = _claim(connection, statements.CLAIM_AUTHORISED, _of(connector, now, until, count))
    for each in claimed:
        record_outcome(connection, each, now)
    return claimed


def lose_leases(
    connection: Connection, connector: str, now: datetime, until: datetime, count: int
) -> tuple[Transaction, ...]:
    """SUBMITTING -> UNKNOWN for those whose lease is over: the answer is lost, and the caller finds out until `until`."""
    check_path(State.SUBMITTING, State.UNKNOWN)
    values = _of(connector, now, until, count) | {"of_detail": _LOST}
    lost = _claim(connection, statements.LOSE_LEASES, values)
    for each in lost:
        record_outcome(connection, each, now)
    return lost


def claim_due(
    connection: Connection, connector: str, now: datetime, until: datetime, count: int
) -> tuple[Transaction, ...]:
    """Everything else that is due, what was AUTHORISED and has expired among it; each as it then stands."""
    return _claim(connection, statements.CLAIM_DUE, _of(connector, now, until, count))


def take_lease(connection: Connection, name: str, holder: UUID, now: datetime, until: datetime) -> bool:
    """Takes a job that one process at a time does, if nobody else has it; who has it already keeps it longer."""
    values = {"name": name, "holder": holder, "until": until, "of_now": now}
    return connection.execute(statements.TAKE_LEASE, values).first() is not None


def is_free(connection: Connection, name: str, now: datetime) -> bool:
    """Whether nobody has the job, so that it is worth a commit to take it. Reads only."""
    return connection.execute(statements.LEASED, {"of": name, "of_now": now}).first() is None


def is_due(connection: Connection, name: str, now: datetime, every: timedelta) -> bool:
    """Whether nobody is at a job that is done every so often, and it was last done that long ago. Reads only."""
    values = {"of": name, "of_now": now, "of_before": now - every, "nobody": NOBODY}
    return connection.execute(statements.NOT_DUE, values).first() is None


def give_back(connection: Connection, name: str, holder: UUID, ran_at: datetime) -> None:
    """Ends a lease, unless somebody else has it by now, and keeps when the job was done; NEVER: it was not."""
    values = {"of": name, "of_holder": holder, "nobody": NOBODY, "ran_at": ran_at}
    connection.execute(statements.RETURN_LEASE, values)


def _of(connector: str, now: datetime, until: datetime, count: int) -> dict[str, Any]:
    return {"of_connector": connector, "now": now, "until": until, "count": count}


def _claim(connection: Connection, statement: ReturningUpdate[Any], values: dict[str, Any]) -> tuple[Transaction, ...]:
    """The oldest first."""
    rows = connection.execute(statement, values).mappings()
    return tuple(sorted((Transaction(**row) for row in rows), key=lambda each: each.created_at))
