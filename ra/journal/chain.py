"""The hash chain that one process makes of what it audits, written with the commits that the events belong to.

The digest of an event covers the one before it, so an event cannot be changed, left out or put in without changing all
that follow. What stands last is sealed by a signed checkpoint (checkpoints.py).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, insert

from ra import __version__
from ra.journal import direct
from ra.journal.audit import CLOSED, OPENED, microseconds, write_event
from ra.journal.tables import audit_events

MAX_AGE = timedelta(hours=12)
MAX_EVENTS = 10_000
"""A chain that is this old, or this long, is closed and another one begun: old ones can then be removed as a whole."""

CLOSED_WITHIN = timedelta(days=1)
"""Of its last event. A process that had nothing to audit for longer leaves its chain without `closed`, because it may
have been removed meanwhile, and what is added to nothing looks like a gap."""

NOTHING_BEFORE = bytes(32)
"""Stands for the digest before the first event."""

_FIXED = struct.Struct(">32s16sQq")
_INSERT = insert(audit_events)


def digest(previous: bytes, chain: UUID, number: int, at: int, event: str) -> bytes:
    """SHA-256 over previous digest, chain, number and time, each of a fixed length and big-endian, then the event.

    Args:
        previous: 32 bytes.
        chain: 16 bytes (RFC 9562 §4).
        number: 8 bytes, unsigned.
        at: microseconds since 1970 UTC; 8 bytes, signed.
        event: as it is stored; UTF-8, up to the end.
    """
    return sha256(_FIXED.pack(previous, chain.bytes, number, at) + event.encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """Where a chain stands."""

    chain: UUID
    opened_at: datetime
    last_at: datetime
    number: int = 0
    digest: bytes = NOTHING_BEFORE

    def is_over(self, at: datetime) -> bool:
        """Whether an event of that time belongs into another chain; there is room for `closed` then."""
        return self.number >= MAX_EVENTS - 1 or at - self.opened_at >= MAX_AGE

    def is_forsaken(self, at: datetime) -> bool:
        """Whether nothing of that time may be added, not even `closed`."""
        return at - self.last_at >= CLOSED_WITHIN


class Chain:
    """Collects the events of a commit and writes them with it. Implements ra.journal.writer.Companion.

    A chain begins with the first event. Where it is not certain whether a commit took place, its chain is left as it is
    and another one begins: nobody can tell then where it stands.
    """

    def __init__(self, entropy: Callable[[int], bytes] = os.urandom, version: str = __version__) -> None:
        self._entropy = entropy
        self._opened = write_event({"event": OPENED, "version": version})
        self._closed = write_event({"event": CLOSED})
        self._waiting: list[tuple[datetime, str]] = []
        self._head: _Head | None = None
        self._written: _Head | None = None
        self._is_written = False

    @property
    def has_begun(self) -> bool:
        """Whether there is something to close."""
        return self._head is not None

    def collect(self, at: datetime, event: str) -> None:
        """Takes an event as text; it is written with the commit that is being made."""
        self._waiting.append((at, event))

    def close(self, now: datetime) -> None:
        """Ends the chain in the commit that is being made; what is audited after that begins another one."""
        if self._waiting or self.has_begun:
            self._waiting.append((now, self._closed))

    def mark(self) -> int:
        """Where the events of the next operation will begin."""
        return len(self._waiting)

    def undo_to(self, mark: int) -> None:
        """Forgets the events of an operation that has failed."""
        del self._waiting[mark:]

    def before_commit(self, connection: Connection) -> None:
        """Numbers what was collected and writes it, in one statement."""
        if not self._waiting:
            return
        rows: list[dict[str, Any]] = []
        head = self._head
        for at, event in self._waiting:
            if head is not None and head.is_forsaken(at):
                head = None
            if head is not None and (event == self._closed or head.is_over(at)):
                self._append(rows, head, at, self._closed)
                head = None
            if event != self._closed:
                head = self._append(rows, head or self._begin(rows, at), at, event)
        self._is_written = True
        self._written = head
        if rows:
            direct.insert(connection, _INSERT, rows)

    def committed(self) -> None:
        """What was written is durable."""
        if self._is_written:
            self._head = self._written
        self._forget()

    def abandoned(self) -> None:
        """What was collected is undone; what was written may have been committed all the same."""
        if self._is_written:
            self._head = None
        self._forget()

    def _forget(self) -> None:
        self._waiting.clear()
        self._written = None
        self._is_written = False

    def _begin(self, rows: list[dict[str, Any]], at: datetime) -> _Head:
        head = _Head(chain=UUID(bytes=self._entropy(16), version=4), opened_at=at, last_at=at)
        return self._append(rows, head, at, self._opened)

    @staticmethod
    def _append(rows: list[dict[str, Any]], head: _Head, at: datetime, event: str) -> _Head:
        number = head.number + 1
        own = digest(head.digest, head.chain, number, microseconds(at), event)
        rows.append({"chain": head.chain, "number": number, "at": at, "event": event, "digest": own})
        return replace(head, number=number, digest=own, last_at=at)
