"""Certificates that a CA has issued and that nobody may have: kept until the CA has revoked them.

They come from two places: what came back was not what was asked for, or it came when nobody waited for it any more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from ra.journal import audit
from ra.journal.records import NewStray, Transaction
from ra.journal.tables import strays
from ra.journal.texts import fitted
from ra.journal.wakeup import announce

_COLUMNS = (
    strays.c.id,
    strays.c.transaction,
    strays.c.profile,
    strays.c.connector,
    strays.c.certificate,
    strays.c.serial,
    strays.c.reason,
    strays.c.created_at,
    strays.c.due_at,
    strays.c.attempts,
    strays.c.revoked_at,
    strays.c.detail,
)
_KEEP = insert(strays)
_OF = strays.c.id == bindparam("of")
_FORGET = delete(strays).where(strays.c.transaction == bindparam("of"))
_DUE = (
    select(*_COLUMNS).where(strays.c.due_at <= bindparam("of_now")).order_by(strays.c.due_at).limit(bindparam("count"))
)
_OF_TRANSACTION = select(*_COLUMNS).where(strays.c.transaction == bindparam("of")).order_by(strays.c.created_at)
_STANDING = (
    select(*_COLUMNS)
    .where(strays.c.connector == bindparam("of"), strays.c.revoked_at.is_(None))
    .order_by(strays.c.created_at)
    .limit(bindparam("count"))
)
# Compare-and-set by due_at: whoever claims it second gets nothing.
_MOVE = update(strays).where(_OF, strays.c.due_at.is_not_distinct_from(bindparam("of_due", type_=strays.c.due_at.type)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray:
    """One such certificate.

    Attributes:
        transaction: the one that it came for.
        certificate: DER, or whatever the CA has sent in its place.
        serial: lower-case hex; None where it cannot be read.
        reason: why nobody may have it.
        due_at: when the CA is to be asked to revoke it; None: it is not asked, or not any more.
        attempts: how often it was asked.
        detail: what came of the last attempt.
    """

    id: UUID
    transaction: UUID
    profile: str
    connector: str
    certificate: bytes
    serial: str | None
    reason: str
    created_at: datetime
    due_at: datetime | None
    attempts: int
    revoked_at: datetime | None
    detail: str | None


def keep(connection: Connection, transaction: Transaction, stray: NewStray, reason: str, now: datetime) -> None:
    """Keeps a certificate that came for a transaction, and says why nobody may have it."""
    values: dict[str, Any] = {
        "id": uuid4(),
        "transaction": transaction.id,
        "profile": transaction.profile,
        "connector": transaction.connector,
        "certificate": stray.certificate,
        "serial": None if stray.serial is None else f"{stray.serial:x}",
        "reason": reason,
        "created_at": now,
        "due_at": now if stray.revoke else None,
        "attempts": 0,
    }
    connection.execute(_KEEP, fitted(values))
    announce(connection)


def due(connection: Connection, now: datetime, count: int) -> tuple[Stray, ...]:
    """Those that the CA is to be asked about, the longest due first. Reads only."""
    return _read(connection, _DUE, {"of_now": now, "count": count})


def of_transaction(connection: Connection, which: UUID) -> tuple[Stray, ...]:
    """What came for a transaction and nobody may have, the oldest first. Reads only."""
    return _read(connection, _OF_TRANSACTION, {"of": which})


def standing(connection: Connection, connector: str, count: int) -> tuple[Stray, ...]:
    """Those of a connector that are not revoked as far as is known, the oldest first. Reads only."""
    return _read(connection, _STANDING, {"of": connector, "count": count})


def forget(connection: Connection, which: UUID) -> None:
    """What came for a transaction is no stray after all."""
    connection.execute(_FORGET, {"of": which})


def claim(connection: Connection, stray: Stray, until: datetime) -> Stray | None:
    """Takes it for oneself until then; None where somebody else was faster."""
    attempts = stray.attempts + 1
    is_mine = _move(connection, stray, due_at=until, attempts=attempts)
    return replace(stray, due_at=until, attempts=attempts) if is_mine else None


def postpone(connection: Connection, stray: Stray, until: datetime, detail: str) -> None:
    """It is tried again then, by whoever looks."""
    _move(connection, stray, due_at=until, detail=detail)


def revoked(connection: Connection, stray: Stray, now: datetime) -> None:
    """The CA has revoked it."""
    if not _move(connection, stray, due_at=None, revoked_at=now, detail=None):
        return
    event: dict[str, audit.Value] = {
        "event": "stray-revoked",
        "transaction": str(stray.transaction),
        "profile": stray.profile,
        "connector": stray.connector,
        "serial": stray.serial,
        "detail": stray.reason,
    }
    audit.record(connection, now, event)


def _move(connection: Connection, stray: Stray, **columns: Any) -> bool:
    own = {"of": stray.id, "of_due": stray.due_at}
    return connection.execute(_MOVE, own | fitted(columns)).rowcount > 0


def _read(connection: Connection, statement: Any, values: dict[str, Any]) -> tuple[Stray, ...]:
    return tuple(Stray(**row) for row in connection.execute(statement, values).mappings())
