"""The audit: an append-only table of decisions and what became of them, one JSON object a row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, insert, select

from ra.journal.tables import audit

Value = str | int | float | bool | Mapping[str, str] | None

_INSERT = insert(audit)
_LIST = select(audit).where(audit.c.seq > bindparam("after")).order_by(audit.c.seq).limit(bindparam("count"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event, as it was recorded; `seq` grows in the order of the commits."""

    seq: int
    at: datetime
    event: Mapping[str, Value]


def record(connection: Connection, at: datetime, event: Mapping[str, Value]) -> None:
    """Appends one event, in the commit of what it tells of. Names no secret."""
    connection.execute(_INSERT, {"at": at, "event": json.dumps(event, ensure_ascii=False, separators=(",", ":"))})


def list_events(connection: Connection, *, after: int = 0, count: int = 1000) -> tuple[Event, ...]:
    """Events in their order, those after `seq` number `after`."""
    rows = connection.execute(_LIST, {"after": after, "count": count})
    return tuple(Event(seq=row.seq, at=row.at, event=json.loads(row.event)) for row in rows)
