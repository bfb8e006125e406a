"""Which order was finalised for which request: one SQLite file that the processes of one machine share.

It is written before a finalize goes out. So a request that is not in it has no certificate, and one that is has its
certificate from that order or from none: an order yields one certificate at most.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from connectors.api import BackendUnavailable

_SCHEMA = """
CREATE TABLE IF NOT EXISTS finalised (
    idempotency_key TEXT PRIMARY KEY,
    order_url TEXT NOT NULL,
    at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS finalised_at ON finalised (at);
"""

_WAIT_SECONDS = 10
_KEPT = timedelta(days=365)
"""Much longer than a request can stay open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalised:
    """An order for which a finalize was about to be sent, and when that was, UTC."""

    order_url: str
    at: datetime


@dataclass(frozen=True, slots=True)
class FinalisedOrders:
    """Opens the file for every operation, so that it may run in any thread."""

    path: Path

    def prepare(self) -> None:
        """Makes the file, for its owner alone, and the table where they are missing."""
        try:
            self.path.touch(mode=0o600)
        except OSError as error:
            raise self._unusable(error) from error
        with self._transaction() as db:
            for statement in _SCHEMA.split(";"):
                db.execute(statement)

    def find(self, key: UUID) -> Finalised | None:
        with self._transaction() as db:
            row = db.execute("SELECT order_url, at FROM finalised WHERE idempotency_key = ?", (str(key),)).fetchone()
        return Finalised(order_url=row[0], at=datetime.fromtimestamp(row[1], UTC)) if row else None

    def note(self, key: UUID, order_url: str, now: datetime) -> None:
        """Durable when it returns."""
        with self._transaction() as db:
            db.execute("DELETE FROM finalised WHERE at < ?", (int((now - _KEPT).timestamp()),))
            db.execute("REPLACE INTO finalised VALUES (?, ?, ?)", (str(key), order_url, int(now.timestamp())))

    def forget(self, key: UUID) -> None:
        """The finalize was not sent after all, or refused."""
        with self._transaction() as db:
            db.execute("DELETE FROM finalised WHERE idempotency_key = ?", (str(key),))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=_WAIT_SECONDS, isolation_level=None)) as db:
                db.execute("BEGIN IMMEDIATE")
                yield db
                db.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> BackendUnavailable:
        return BackendUnavailable(f"the orders' file {self.path}: {error}", maybe_issued=False)
