"""What operators look for: transactions by what is known of them, newest first and in pages, and all about one of them.

Reads only. What is looked for stands in indexes that cover it; of the rows, which hold certificates and are long, only
those of the page are read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Select,
    bindparam,
    func,
    literal,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from ra.errors import RaError
from ra.journal.audit import EPOCH, Event, microseconds
from ra.journal.outbox import Letter
from ra.journal.states import State
from ra.journal.tables import Searched, aliases, audit_events, outbox, transactions

T = TypeVar("T")

MIN_PREFIX = 4
"""Hexadecimal digits of an id that are enough to be understood as its beginning."""

MAX_SERIAL = 49
"""Digits of the longest serial number there may be (RFC 5280 §4.1.2.2), in decimal."""

_ID_LENGTH = 32
_HEX = re.compile("[0-9a-f]+")
_CURSOR = re.compile(r"([0-9]{1,18})-([0-9a-f]{32})")


class Place(FunctionElement[int]):
    """Where a text begins in another, from 1 on, or 0: that, and no wildcards, is found in two thirds of LIKE's time."""

    inherit_cache = True
    type = Integer()

    def __init__(self, part: ColumnElement[str], whole: ColumnElement[str]) -> None:
        super().__init__(whole, part)


@compiles(Place, "sqlite")
def _instr(place: Place, compiler: SQLCompiler, **options: Any) -> str:
    return f"instr({compiler.process(place.clauses, **options)})"


@compiles(Place, "postgresql")
def _strpos(place: Place, compiler: SQLCompiler, **options: Any) -> str:
    return f"strpos({compiler.process(place.clauses, **options)})"


class BadCursor(RaError):
    """A text that no page has ended with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which transactions; whatever is left out matches any.

    Attributes:
        since: authorised then or later.
        until: authorised before.
        serials: of the certificate, as `read_serial` has them: one of these.
        transaction_id: raw, under which the device knows it.
        subject: a part of it, whatever its case.
        not_after_since: the certificate is valid at least until then.
        not_after_until: the certificate ends before.
        may_be_orphan: it was sent again without knowing what became of the time before.
    """

    states: frozenset[State] = frozenset()
    profile: str | None = None
    connector: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    serials: tuple[str, ...] = ()
    transaction_id: bytes | None = None
    subject: str | None = None
    not_after_since: datetime | None = None
    not_after_until: datetime | None = None
    may_be_orphan: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """The last transaction of a page."""

    created_at: datetime
    id: UUID

    def __str__(self) -> str:
        return f"{microseconds(self.created_at)}-{self.id.hex}"

    @classmethod
    def read(cls, text: str) -> Cursor:
        """From what `str` has made of one.

        Raises:
            BadCursor: it has not.
        """
        found = _CURSOR.fullmatch(text)
        try:
            if found is not None:
                return cls(created_at=EPOCH + timedelta(microseconds=int(found[1])), id=UUID(found[2]))
        except OverflowError:
            pass
        raise BadCursor(f"{text!r} is not what the list before has ended with")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What a list says of a transaction; the attributes are those of Transaction."""

    id: UUID
    state: State
    profile: str
    connector: str
    transaction_id: bytes
    subject: str
    created_at: datetime
    updated_at: datetime
    due_at: datetime | None
    expires_at: datetime
    reason: str | None
    detail: str | None
    orphans: int
    revocation: str | None
    delivered_at: datetime | None
    serial: str | None
    not_after: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Transactions, newest first. `after` leads to those that follow; None: there are none."""

    rows: tuple[Listed, ...]
    after: Cursor | None


_NEWEST = (transactions.c.created_at.desc(), transactions.c.id.desc())
_LISTED = select(*(transactions.c[each.name] for each in fields(Listed))).order_by(*_NEWEST)
_ID = select(transactions.c.id)
_KNOWN_AS = select(aliases.c.transaction).where(aliases.c.transaction_id == bindparam("name"))
_OWN_NAME = _ID.where(transactions.c.transaction_id == bindparam("name"))
_CALLED = (
    _ID.where(transactions.c.id.between(bindparam("first"), bindparam("last"))),
    _ID.where(transactions.c.serial.in_(bindparam("serials", expanding=True))),
)
_LOOK_UP, _LOOK_UP_BY_DEVICE = (
    _LISTED.where(transactions.c.id.in_(union_all(*ways))).limit(bindparam("count"))
    for ways in (_CALLED, (*_CALLED, _OWN_NAME, _KNOWN_AS))
)
_SERIAL = transactions.c.serial
_NEIGHBOURS = (
    _ID.where(transactions.c.id <= bindparam("first")).order_by(transactions.c.id.desc()).limit(1),
    _ID.where(transactions.c.id >= bindparam("first")).order_by(transactions.c.id).limit(1),
    _ID.where(bindparam("serial") >= _SERIAL).order_by(_SERIAL.desc()).limit(1),
    _ID.where(bindparam("serial") <= _SERIAL).order_by(_SERIAL).limit(1),
)
_BY_IDS = _LISTED.where(transactions.c.id.in_(bindparam("ids", expanding=True)))
_EVENTS = (
    select(audit_events)
    .where(audit_events.c.at >= bindparam("since"), audit_events.c.event.contains(bindparam("of")))
    .order_by(audit_events.c.at, audit_events.c.chain, audit_events.c.number)
)
_LETTERS = (
    select(*(outbox.c[each.name] for each in fields(Letter)))
    .where(outbox.c.transaction == bindparam("of"))
    .order_by(outbox.c.created_at, outbox.c.id)
)


def find_transactions(connection: Connection, which: Filter, after: Cursor | None, count: int) -> Page:
    """The newest of them, those that follow `after` where it is given; `count` at most."""
    page = _ID.where(*_conditions(which)).order_by(*_NEWEST).limit(count + 1)
    if after is not None:
        last = (bindparam(None, value, type_=column.type) for column, value in _place(after))
        page = page.where(tuple_(*(column for column, _ in _place(after))) < tuple_(*last))
    found = _read(connection, _LISTED.where(transactions.c.id.in_(page)))
    rows = found[:count]
    is_more = len(found) > count
    return Page(rows=rows, after=Cursor(created_at=rows[-1].created_at, id=rows[-1].id) if is_more else None)


def look_up(connection: Connection, text: str, count: int, *, by_device: bool = True) -> tuple[Listed, ...]:
    """Whatever is called so, newest first, `count` at most.

    By its id or how that begins, by the serial number of its certificate, and `by_device`: by a transactionID, which a
    device chooses as it likes.
    """
    digits = _digits(text)
    is_prefix = MIN_PREFIX <= len(digits) <= _ID_LENGTH
    values = {
        "first": _uuid(digits, "0") if is_prefix else None,
        "last": _uuid(digits, "f") if is_prefix else None,
        "serials": read_serial(text),
        "count": count,
    }
    if by_device:
        return _read(connection, _LOOK_UP_BY_DEVICE, values | {"name": text.encode("utf-8", "surrogateescape")})
    return _read(connection, _LOOK_UP, values)


def look_near(connection: Connection, text: str) -> Listed | None:
    """The transaction whose id, or whose certificate's serial number, begins as the text does for longest."""
    digits = "".join(takewhile(_HEX.match, text.lower().replace("-", "").replace(":", "")))
    values = {"first": _uuid(digits[:_ID_LENGTH], "0"), "serial": digits.lstrip("0")}
    ids = {each for statement in _NEIGHBOURS for each in connection.execute(statement, values).scalars()}
    near = [
        (max(_alike(digits, each.id.hex), _alike(digits, each.serial or "")), each) for each in _by(connection, ids)
    ]
    length, nearest = max(near, key=lambda each: each[0], default=(0, None))
    return nearest if length >= MIN_PREFIX else None


def read_serial(text: str) -> tuple[str, ...]:
    """The serial numbers, in lower-case hex, that a text may mean: hex with or without colons, or decimal."""
    digits = _digits(text.lower().removeprefix("0x").replace(":", ""))
    if not 0 < len(digits) <= MAX_SERIAL:
        return ()
    serials = {digits.lstrip("0") or "0"}
    if digits.isdecimal() and digits == text:
        serials.add(f"{int(digits):x}")
    return tuple(sorted(serials))


def events_of(connection: Connection, which: UUID, since: datetime) -> tuple[Event, ...]:
    """What the audit has of a transaction that was authorised at `since`, in the order of time.

    Nothing but the time of an event is indexed: of an old transaction all the audit since then is looked through.
    """
    found = connection.execute(_EVENTS, {"since": since, "of": f'"transaction":"{which}"'}).mappings()
    events = (Event(**row) for row in found)
    return tuple(each for each in events if each.read().get("transaction") == str(which))


def letters_of(connection: Connection, which: UUID) -> tuple[Letter, ...]:
    """What is still to be told to somebody about a transaction, or was given up."""
    return tuple(Letter(**row) for row in connection.execute(_LETTERS, {"of": which}).mappings())


def _known_as(name: bytes) -> ColumnElement[bool]:
    return transactions.c.id.in_(union_all(_OWN_NAME, _KNOWN_AS).params(name=name))


def _covered(column: ColumnElement[T]) -> ColumnElement[T]:
    """The column as the covering index has it: SQLite is not to take one of its own, and read all rows it leads to."""
    return func.coalesce(column, column)


_CONDITIONS: Mapping[str, Callable[[Any], ColumnElement[bool]]] = {
    "states": lambda states: transactions.c.state.in_(sorted(states)),
    "profile": lambda name: _covered(transactions.c.profile) == name,
    "connector": lambda name: transactions.c.connector == name,
    "since": lambda time: transactions.c.created_at >= time,
    "until": lambda time: transactions.c.created_at < time,
    "serials": transactions.c.serial.in_,
    "transaction_id": _known_as,
    "subject": lambda text: Place(literal(text, Searched), transactions.c.searched) > 0,
    "not_after_since": lambda time: _covered(transactions.c.not_after) >= time,
    "not_after_until": lambda time: _covered(transactions.c.not_after) < time,
    "may_be_orphan": lambda _: transactions.c.orphans > 0,
}
"""By the fields of Filter."""


def _conditions(which: Filter) -> Iterator[ColumnElement[bool]]:
    for name, condition in _CONDITIONS.items():
        if value := getattr(which, name):
            yield condition(value)


def _place(cursor: Cursor) -> tuple[tuple[ColumnElement[Any], object], ...]:
    return (transactions.c.created_at, cursor.created_at), (transactions.c.id, cursor.id)


def _by(connection: Connection, ids: set[UUID]) -> tuple[Listed, ...]:
    return _read(connection, _BY_IDS, {"ids": list(ids)})


def _read(connection: Connection, statement: Select[Any], values: dict[str, Any] | None = None) -> tuple[Listed, ...]:
    return tuple(Listed(**row) for row in connection.execute(statement, values).mappings())


def _digits(text: str) -> str:
    """The hexadecimal digits of a text that has no others; else none."""
    digits = text.replace("-", "").lower()
    return digits if _HEX.fullmatch(digits) else ""


def _uuid(digits: str, filled_with: str) -> UUID:
    return UUID(digits.ljust(_ID_LENGTH, filled_with))


def _alike(text: str, other: str) -> int:
    """How many characters both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(text, other, strict=False)))
