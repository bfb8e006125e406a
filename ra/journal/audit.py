"""The audit: events that tell of decisions and of what became of them, each one JSON object.

`record` hands an event to the chain (chain.py) of the connection that is written with; it stands in the database once the
commit that it tells of does. What kinds of events there are is said in events.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Protocol, TypeAlias
from uuid import UUID

from sqlalchemy import Connection, bindparam, select, tuple_

from ra.journal.tables import audit_events

Value: TypeAlias = "str | int | float | bool | Mapping[str, Value] | None"

OPENED = "opened"
CLOSED = "closed"

PAGE = 1_000

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_WRITE = json.JSONEncoder(separators=(",", ":")).encode  # ASCII: the same bytes in every database and every log

_PLACE = (audit_events.c.at, audit_events.c.chain, audit_events.c.number)
_LIST = (
    select(audit_events)
    .where(
        audit_events.c.at >= bindparam("of_at"),  # beside what follows it says nothing new, but lets the index be used
        tuple_(*_PLACE) > tuple_(*(bindparam(f"of_{each.name}", type_=each.type) for each in _PLACE)),
        audit_events.c.at < bindparam("of_until", type_=audit_events.c.at.type),
    )
    .order_by(*_PLACE)
    .limit(bindparam("count"))
)
_PART = (
    select(audit_events)
    .where(
        audit_events.c.chain == bindparam("of"),
        audit_events.c.number > bindparam("after"),
        audit_events.c.number <= bindparam("last"),
    )
    .order_by(audit_events.c.number)
    .limit(bindparam("count"))
)


class Collector(Protocol):
    """What takes the events, under `companion` in Connection.info."""

    def collect(self, at: datetime, event: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event, as it was recorded.

    Attributes:
        chain: the process that recorded it, for as long as its chain lasted.
        number: 1, 2, 3, … in the order of the chain's commits.
        event: JSON, ASCII.
        digest: covers all of it, and the event before.
    """

    chain: UUID
    number: int
    at: datetime
    event: str
    digest: bytes

    def read(self) -> dict[str, Any]:
        """The object; nothing where the text was changed into something else."""
        try:
            value = json.loads(self.event)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


def record(connection: Connection, at: datetime, event: Mapping[str, Value]) -> None:
    """Has one event written with the commit of what it tells of; `event` names its kind first. Names no secret."""
    collector: Collector = connection.info["companion"]
    collector.collect(at, write_event(event))


def write_event(event: Mapping[str, Value]) -> str:
    """As it is stored: JSON in ASCII, without spaces, the keys in their order."""
    return _WRITE(event)


def microseconds(at: datetime) -> int:
    """Since 1970 UTC, as a time is stored."""
    return (at - EPOCH) // _MICROSECOND


def write_time(at: datetime) -> str:
    """RFC 3339 with microseconds, UTC."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def list_events(
    connection: Connection, *, since: datetime = EPOCH, until: datetime | None = None, count: int | None = None
) -> tuple[Event, ...]:
    """The first events of that time; see `stream`."""
    return tuple(islice(stream(connection, since=since, until=until), count))


def stream(connection: Connection, *, since: datetime = EPOCH, until: datetime | None = None) -> Iterator[Event]:
    """Events by their time, those of one chain and time in their order; read in pages."""
    place = {"of_at": since, "of_chain": UUID(int=0), "of_number": 0}
    limits = {"of_until": until or datetime.max.replace(tzinfo=UTC), "count": PAGE}
    while page := [Event(**row) for row in connection.execute(_LIST, place | limits).mappings()]:
        yield from page
        place = {"of_at": page[-1].at, "of_chain": page[-1].chain, "of_number": page[-1].number}


def stream_part(connection: Connection, chain: UUID, after: int, last: int) -> Iterator[Event]:
    """The events of one chain with numbers from `after`, exclusive, to `last`; read in pages."""
    part = {"of": chain, "last": last, "count": PAGE}
    while page := [Event(**row) for row in connection.execute(_PART, part | {"after": after}).mappings()]:
        yield from page
        after = page[-1].number
