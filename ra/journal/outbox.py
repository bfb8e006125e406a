"""The outbox: what is still to be told to somebody, one row a letter, written in the commit that it tells of.

A letter is due, or dead: then it waits for a person. Claiming one pushes its `due_at` into the future, and whatever is
committed about it afterwards is fenced by that time. What an answer does to a letter, and to its transaction, stands in
receipts.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, bindparam, exists, func, insert, select, update

from ra.errors import RaError
from ra.journal import audit
from ra.journal.tables import outbox
from ra.journal.wakeup import announce

HEAD_START = timedelta(seconds=5)
"""For so long a strict letter is left to whoever has written it: a device waits for it."""

RETRY_PATIENCE = timedelta(days=1)
"""For so long a dead letter is tried again, once a person has asked for it."""


class NotRetryable(RaError):
    """There is no such dead letter, or its certificate is being revoked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLetter:
    """What `put` writes.

    Attributes:
        id: random; it goes with every attempt, so that whoever gets the letter twice can tell.
        validator: whose letter it is: its name in the configuration.
        is_strict: a certificate waits for it.
        notice: sealed for `id`.
        deadline_at: it is given up then.
    """

    id: UUID
    validator: str
    is_strict: bool
    notice: bytes = field(repr=False)
    deadline_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A letter, as committed.

    Attributes:
        transaction: None where a request was refused before there was one.
        due_at: when it is tried, and until when nobody else tries it; None: it is dead.
        attempts: how often it was tried, or was about to be when a process ended.
        detail: what became of the last attempt, for the operator.
    """

    id: UUID
    transaction: UUID | None
    validator: str
    is_strict: bool
    notice: bytes = field(repr=False)
    created_at: datetime
    deadline_at: datetime
    due_at: datetime | None
    attempts: int
    detail: str | None


_ALL = [outbox.c[each.name] for each in fields(Letter)]
_SELECT = select(*_ALL)
_PUT = insert(outbox)
# One look into the index for each validator, however many letters it has: DISTINCT would read all that are due.
_FIRST = select(func.min(outbox.c.validator).label("name")).cte("validators", recursive=True)
_VALIDATORS = _FIRST.union_all(
    select(select(func.min(outbox.c.validator)).where(outbox.c.validator > _FIRST.c.name).scalar_subquery()).where(
        _FIRST.c.name.is_not(None)
    )
)
_DUE = select(_VALIDATORS.c.name).where(
    exists().where(outbox.c.validator == _VALIDATORS.c.name, outbox.c.due_at <= bindparam("now"))
)
# PostgreSQL would evaluate LIMIT once a row, were the SELECT not materialised.
_CLAIMABLE = (
    select(outbox.c.id)
    .where(outbox.c.due_at <= bindparam("now"), outbox.c.validator == bindparam("of_validator"))
    .order_by(outbox.c.due_at)
    .limit(bindparam("count"))
    .with_for_update(skip_locked=True)
    .cte("claimable")
    .prefix_with("MATERIALIZED", dialect="postgresql")
)
_TAKEN = {"due_at": bindparam("until"), "attempts": outbox.c.attempts + 1}
_CLAIM = update(outbox).where(outbox.c.id.in_(select(_CLAIMABLE.c.id))).values(_TAKEN).returning(*_ALL)
_CLAIM_OF = (
    update(outbox)
    .where(outbox.c.transaction == bindparam("of"), outbox.c.is_strict, outbox.c.attempts == 0)
    .values(_TAKEN)
    .returning(*_ALL)
)
_WAITING = _SELECT.where(outbox.c.due_at.is_not(None)).order_by(outbox.c.due_at).limit(bindparam("count"))
_DEAD = _SELECT.where(outbox.c.due_at.is_(None)).order_by(outbox.c.created_at).limit(bindparam("count"))
_RETRY_ALL = (
    update(outbox)
    .where(outbox.c.due_at.is_(None), outbox.c.is_strict.is_(False))
    .values(due_at=bindparam("now"), deadline_at=bindparam("until"), attempts=0)
    .returning(*_ALL)
)
_RETRY = _RETRY_ALL.where(outbox.c.id == bindparam("of"))


def put(connection: Connection, transaction: UUID | None, letters: Sequence[NewLetter], now: datetime) -> None:
    """Writes letters in the commit of what they tell of; strict ones are left to the writer for HEAD_START."""
    if not letters:
        return
    announce(connection)
    common = {"transaction": transaction, "created_at": now, "attempts": 0, "detail": None}
    connection.execute(
        _PUT, [asdict(each) | common | {"due_at": now + HEAD_START if each.is_strict else now} for each in letters]
    )


def due(connection: Connection, now: datetime) -> tuple[str, ...]:
    """The validators that have something due. Reads only."""
    return tuple(connection.execute(_DUE, {"now": now}).scalars())


def claim(connection: Connection, validator: str, now: datetime, until: datetime, count: int) -> tuple[Letter, ...]:
    """Takes due letters of one validator, those that have waited longest; nobody else gets them before `until`."""
    values = {"of_validator": validator, "now": now, "until": until, "count": count}
    return tuple(Letter(**row) for row in connection.execute(_CLAIM, values).mappings())


def claim_of(connection: Connection, transaction: UUID, until: datetime) -> tuple[Letter, ...]:
    """Takes the strict letters of one transaction that nobody has tried yet, due or not."""
    return tuple(Letter(**row) for row in connection.execute(_CLAIM_OF, {"of": transaction, "until": until}).mappings())


def waiting(connection: Connection, count: int) -> tuple[Letter, ...]:
    """What is still tried, the next one first. Reads only."""
    return tuple(Letter(**row) for row in connection.execute(_WAITING, {"count": count}).mappings())


def dead(connection: Connection, count: int) -> tuple[Letter, ...]:
    """What waits for a person, the oldest first. Reads only."""
    return tuple(Letter(**row) for row in connection.execute(_DEAD, {"count": count}).mappings())


def retry(connection: Connection, which: UUID | None, who: str, now: datetime) -> tuple[Letter, ...]:
    """Makes one dead letter, or all of them, due again for RETRY_PATIENCE; audited with who asked for it.

    A strict one stays dead: its certificate was revoked for it, and nobody is told now that it was issued.

    Raises:
        NotRetryable: it is not a dead letter, or a strict one.
    """
    values = {"now": now, "until": now + RETRY_PATIENCE}
    rows = connection.execute(*((_RETRY_ALL, values) if which is None else (_RETRY, values | {"of": which})))
    letters = tuple(Letter(**row) for row in rows.mappings())
    announce(connection)
    if which is not None and not letters:
        raise NotRetryable(f"{which} is not a dead letter, or a certificate was revoked because of it")
    for letter in letters:
        audit.record(connection, now, {"event": "outbox-retried", **named(letter), "who": who})
    return letters


def named(letter: Letter) -> dict[str, audit.Value]:
    """What the audit says of a letter, so that it can be told which one it was."""
    return {
        "letter": str(letter.id),
        "validator": letter.validator,
        "transaction": str(letter.transaction) if letter.transaction else None,
    }
