"""Connectors that are asked for nothing new, since one of them has sent a certificate that nobody had decided on.

A stop stands in the database: every process keeps to it, whichever has run into it, and so does the next start. Only a
person ends it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, bindparam, delete, select
from sqlalchemy.dialects.postgresql import insert  # its ON CONFLICT compiles for SQLite too, not the other way round

from ra.journal import audit
from ra.journal.records import Transaction
from ra.journal.tables import stops
from ra.journal.texts import fitted
from ra.journal.wakeup import announce

_ALL = select(stops.c.connector, stops.c.at, stops.c.transaction, stops.c.detail).order_by(stops.c.connector)
_STOP = insert(stops).on_conflict_do_nothing().returning(stops.c.connector)
_RESUME = delete(stops).where(stops.c.connector == bindparam("of")).returning(stops.c.connector)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Since when and why a connector is asked for nothing new.

    Attributes:
        transaction: the first whose certificate was wrong.
        detail: what was wrong with it.
    """

    connector: str
    at: datetime
    transaction: UUID
    detail: str


def list_stops(connection: Connection) -> tuple[Stop, ...]:
    """All there are. Reads only."""
    return tuple(Stop(**row) for row in connection.execute(_ALL).mappings())


def stop(connection: Connection, transaction: Transaction, detail: str, now: datetime) -> None:
    """Stops the connector of a transaction, unless it is stopped already: the first reason stands."""
    values = {"connector": transaction.connector, "at": now, "transaction": transaction.id, "detail": detail}
    if connection.execute(_STOP, fitted(values)).first() is None:
        return
    event: dict[str, audit.Value] = {
        "event": "connector-stopped",
        "connector": transaction.connector,
        "transaction": str(transaction.id),
        "profile": transaction.profile,
        "detail": detail,
    }
    audit.record(connection, now, event)


def resume(connection: Connection, connector: str, who: str, now: datetime) -> bool:
    """Ends the stop of a connector; False where there is none."""
    if connection.execute(_RESUME, {"of": connector}).first() is None:
        return False
    audit.record(connection, now, {"event": "connector-resumed", "connector": connector, "who": who})
    announce(connection)
    return True
