"""Finds every event and every checkpoint of the audit that was changed, removed, put in or put elsewhere.

The events are read once, in pages, in the order in which checkpoints sealed them; what is kept of each chain is where
it stands.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection, bindparam, func, select, type_coerce
from sqlalchemy.types import NullType

from ra.journal.audit import CLOSED, OPENED, microseconds, write_event
from ra.journal.chain import NOTHING_BEFORE, digest
from ra.journal.checkpoints import Checkpoint, Sealed, Stored, Unreadable, any_text, chains, stream_checkpoints
from ra.journal.tables import audit_checkpoints, audit_events

MAX_TOLD = 1_000
"""Breaks that are told one by one; further ones are counted."""

PAGE = 1_000

LATE = timedelta(minutes=15)
"""How far an event's time may lie outside of the checkpoint that seals it and the one before: for clocks that differ, and
commits that had to wait. Whoever adds to the audit can do so only at the present time, then."""

_LATE = LATE // timedelta(microseconds=1)
_LEAST = -(1 << 63)
_MOST = (1 << 63) - 1
_OPENED = write_event({"event": OPENED}).removesuffix("}")
_CLOSED = write_event({"event": CLOSED}).removesuffix("}")

# As they stand in the file: what was changed into another type is not to be found out by an exception.
_PART = (
    select(*(type_coerce(audit_events.c[name], NullType()).label(name) for name in ("number", "at", "event", "digest")))
    .where(
        audit_events.c.chain == bindparam("of"),
        audit_events.c.number > bindparam("after"),
        audit_events.c.number <= bindparam("last"),
    )
    .order_by(audit_events.c.number)
    .limit(bindparam("count"))
)
_COUNT = select(func.count()).select_from(audit_events)
_COUNT_CHECKPOINTS = select(func.count()).select_from(audit_checkpoints)


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """One thing that is wrong, and where: an event of a chain, a whole chain, a checkpoint, or the audit."""

    what: str
    chain: UUID | None = None
    number: int | None = None
    checkpoint: int | None = None

    def __str__(self) -> str:
        where = [
            f"{name} {value}"
            for name, value in (("checkpoint", self.checkpoint), ("chain", self.chain), ("event", self.number))
            if value is not None
        ]
        return f"{', '.join(where) or 'audit'}: {self.what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found.

    Attributes:
        events: that were read, in so many chains.
        checkpoints: that were read.
        sealed_by: the last checkpoint up to which nothing is wrong; None: there is none.
        sealed_at: its time.
        kept_since: the oldest checkpoint that is kept; older events were removed in order.
        unsealed: events that no checkpoint seals yet: who writes to the database may have changed those unseen.
        breaks: the first of them.
        broken: how many there are.
    """

    events: int
    chains: int
    checkpoints: int
    sealed_by: int | None
    sealed_at: datetime | None
    kept_since: int
    unsealed: int
    breaks: tuple[Break, ...]
    broken: int


def verify(connection: Connection, key: Ed25519PublicKey, exported: Stored | None = None) -> Report:
    """Looks at the whole audit, which must not change meanwhile: the connection is in one snapshot.

    `key` is what the checkpoints are signed for; `exported` is one that was kept elsewhere, without which nobody can
    tell that the end was cut off.
    """
    verifier = _Verifier(connection, key, exported)
    verifier.follow_checkpoints()
    verifier.follow_the_rest()
    return verifier.report()


class _Raw(NamedTuple):
    """An event as it stands in the file, which may be anything."""

    number: int
    at: Any
    event: Any
    digest: Any


@dataclass(slots=True, kw_only=True)
class _Head:
    """Where a chain stands: `digests` may precede the next event, as stored and as it should be; empty: unknown."""

    number: int = 0
    read_up_to: int = _LEAST
    digests: frozenset[bytes] = frozenset({NOTHING_BEFORE})
    stored: bytes = NOTHING_BEFORE
    is_closed: bool = False


class _Verifier:
    """One look at the audit."""

    def __init__(self, connection: Connection, key: Ed25519PublicKey, exported: Stored | None) -> None:
        self._connection = connection
        self._key = key
        self._exported = exported
        self._heads: dict[UUID, _Head] = {}
        self._breaks: list[Break] = []
        self._broken = 0
        self._events = self._checkpoints = self._unsealed = 0
        self._oldest: int | None = None
        self._kept_since = 1
        self._sealed_at: int | None = None
        self._last: Stored | None = None
        self._good: Checkpoint | None = None

    def report(self) -> Report:
        good = self._good
        return Report(
            events=self._events,
            chains=len(self._heads),
            checkpoints=self._checkpoints,
            sealed_by=good.number if good else None,
            sealed_at=good.at if good else None,
            kept_since=self._kept_since,
            unsealed=self._unsealed,
            breaks=tuple(self._breaks),
            broken=self._broken,
        )

    # ------------------------------------------------------------ checkpoints
    def follow_checkpoints(self) -> None:
        """Every checkpoint, and the events each of them seals."""
        for stored in stream_checkpoints(self._connection, after=_LEAST):
            self._checkpoints += 1
            before, self._last = self._last, stored
            if self._oldest is None:
                self._oldest = stored.number
            elif before and stored.number != before.number + 1:
                missing = _span("checkpoint", before.number + 1, stored.number - 1)
                self._tell(f"{missing} missing before it", checkpoint=stored.number)
            checkpoint = self._read(stored)
            if checkpoint is not None:
                self._look_at(stored, checkpoint, before)
            if self._broken == 0:
                self._good = checkpoint
        if (self._oldest or 1) != self._kept_since:
            self._tell(
                f"the audit is kept since checkpoint {self._kept_since}, and begins with {self._oldest or 'none'}"
            )
        strays = self._connection.execute(_COUNT_CHECKPOINTS).scalar_one() - self._checkpoints
        if strays:
            self._tell(f"{strays} checkpoints have a number that cannot be")
        if self._exported is not None:
            self._compare(self._exported)

    def _read(self, stored: Stored) -> Checkpoint | None:
        """The checkpoint, where its signature says that it is one."""
        if not stored.is_signed_by(self._key):
            self._tell("its signature is wrong: it was changed, or signed with another key", checkpoint=stored.number)
            return None
        try:
            checkpoint = Checkpoint.read(stored.statement)
        except Unreadable as error:
            self._tell(str(error), checkpoint=stored.number)
            return None
        if (checkpoint.number, microseconds(checkpoint.at)) != (stored.number, stored.at):
            self._tell("its number or time is not the one that was signed", checkpoint=stored.number)
        return checkpoint

    def _look_at(self, stored: Stored, checkpoint: Checkpoint, before: Stored | None) -> None:
        self._kept_since = checkpoint.kept_since
        follows = before is not None and before.number == stored.number - 1
        if follows and before is not None and before.digest != checkpoint.previous:
            self._tell("it does not follow the one before, which was changed", checkpoint=stored.number)
        at = microseconds(checkpoint.at)
        for chain, sealed in checkpoint.chains.items():
            self._follow(chain, sealed.last, until=at)
            self._match(chain, sealed, stored.number)
        self._sealed_at = at

    def _match(self, chain: UUID, sealed: Sealed, checkpoint: int) -> None:
        head = self._heads[chain]
        if head.number < sealed.last:
            missing = _span("event", head.number + 1, sealed.last)
            self._tell(f"{missing} missing at the end, though sealed", chain, checkpoint=checkpoint)
            head.number, head.read_up_to, head.digests = sealed.last, sealed.last, frozenset()
        elif head.stored != sealed.digest:
            self._tell(
                f"it is not what was sealed: an event from {sealed.first} on was changed, and what follows made to fit",
                chain,
                sealed.last,
                checkpoint,
            )

    def _compare(self, exported: Stored) -> None:
        """The one that was kept elsewhere, with its like."""
        number, last = exported.number, self._last.number if self._last else 0
        if not exported.is_signed_by(self._key):
            self._tell("the exported one is not signed with this key", checkpoint=number)
        elif number > last:
            self._tell(f"it was exported, and the journal ends with {last}: the end was cut off", checkpoint=number)
        elif number >= self._kept_since:
            own = next(stream_checkpoints(self._connection, after=number - 1), None)
            if own is None or own.number != number or own.statement != exported.statement:
                self._tell("it is not the one that was exported", checkpoint=number)

    # ------------------------------------------------------------ events
    def follow_the_rest(self) -> None:
        """What no checkpoint seals yet, and what belongs to no chain."""
        sealed = self._events
        for chain in chains(self._connection):
            self._follow(chain, _MOST, until=_MOST)
        self._unsealed = self._events - sealed
        strays = self._connection.execute(_COUNT).scalar_one() - self._events
        if strays:
            self._tell(f"{strays} events have a number, or belong to a chain, that cannot be")

    def _follow(self, chain: UUID, last: int, *, until: int) -> None:
        """The chain's next events, up to number `last`; `until` is when they were sealed."""
        head = self._heads.setdefault(chain, _Head())
        for event in self._stream(chain, head, last):
            self._events += 1
            if event.number <= head.number:
                self._tell("it was put in", chain, event.number)
                continue
            if event.number != head.number + 1:
                missing = _span("event", head.number + 1, event.number - 1)
                self._tell(f"{missing} missing before it", chain, event.number)
                head.digests = frozenset()
            for what in (*_faults(chain, event, head), *self._wrong_times(event, until)):
                self._tell(what, chain, event.number)
            head.number, head.stored = event.number, event.digest
            head.is_closed = str(event.event).startswith(_CLOSED)

    def _wrong_times(self, event: _Raw, until: int) -> Iterator[str]:
        """What is sealed has happened since the checkpoint before; else that one would have sealed it."""
        if not isinstance(event.at, int):
            return  # its digest is wrong
        if self._sealed_at is not None and event.at < self._sealed_at - _LATE:
            yield "it is older than a checkpoint that did not seal it: it was added later, or a clock was wrong"
        if event.at > until + _LATE:
            yield "it is younger than the checkpoint that seals it: it was made up, or a clock was wrong"

    def _stream(self, chain: UUID, head: _Head, last: int) -> Iterator[_Raw]:
        part = {"of": chain, "last": last, "count": PAGE}
        while page := self._page(part | {"after": head.read_up_to}):
            head.read_up_to = page[-1].number
            yield from page

    def _page(self, part: dict[str, Any]) -> list[_Raw]:
        with any_text(self._connection):
            return [_Raw._make(row) for row in self._connection.execute(_PART, part)]

    def _tell(
        self, what: str, chain: UUID | None = None, number: int | None = None, checkpoint: int | None = None
    ) -> None:
        self._broken += 1
        if len(self._breaks) < MAX_TOLD:
            self._breaks.append(Break(what=what, chain=chain, number=number, checkpoint=checkpoint))


def _faults(chain: UUID, event: _Raw, head: _Head) -> Iterator[str]:
    """What is wrong with an event that follows `head`, which then knows what may precede the next one."""
    ours = {_digest_after(previous, chain, event) for previous in head.digests}
    is_right = event.digest in ours
    if ours and not is_right:
        yield "it was changed, or another one stood before it"
    if event.number == 1 and not str(event.event).startswith(_OPENED):
        yield "a chain begins with another event"
    if head.is_closed:
        yield "it follows the end of the chain"
    # Whether the event or its digest was changed is seen by the next one.
    head.digests = frozenset({event.digest} if is_right else {event.digest, _digest_after(head.stored, chain, event)})


def _digest_after(previous: bytes, chain: UUID, event: _Raw) -> bytes:
    try:
        return digest(previous, chain, event.number, event.at, event.event)
    except (struct.error, TypeError, AttributeError, UnicodeError):
        return b""  # of another type than was written: a database file takes anything


def _span(noun: str, first: int, last: int) -> str:
    return f"{noun} {first} is" if first == last else f"{noun}s {first} to {last} are"
