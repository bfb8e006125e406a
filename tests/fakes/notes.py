"""The least that an operation can write, how others see it, and a companion that says what it was told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select

from ra.journal.database import Journal, place_of
from ra.journal.tables import refusals
from ra.journal.writer import Companion, nothing

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
NOWHERE = Path("/nonexistent")
"""A directory that is not needed where the URL is absolute."""


class Fault(BaseException):
    """What nothing in the writer catches."""


@asynccontextmanager
async def opened(
    url: str,
    *,
    patience_seconds: float = 10.0,
    companion: Companion | None = None,
    reached: Callable[[str], None] = nothing,
) -> AsyncIterator[Journal]:
    journal = await Journal.open(
        url, directory=NOWHERE, patience_seconds=patience_seconds, companion=companion, reached=reached
    )
    try:
        yield journal
    finally:
        await journal.aclose()


def note(connection: Connection, word: str) -> str:
    """Writes the word."""
    connection.execute(insert(refusals), {"at": NOW, "profile": "", "reason": "", "detail": word})
    return word


def note_and_raise(connection: Connection, error: BaseException) -> None:
    note(connection, "undone")
    raise error


def read_words(connection: Connection) -> list[str]:
    return list(connection.execute(select(refusals.c.detail).order_by(refusals.c.seq)).scalars())


def words(url: str) -> list[str]:
    """The words that are durable, as another process sees them."""
    with place_of(url, directory=NOWHERE).snapshot() as connection:
        return read_words(connection)


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Runs a test's body, which must end within 20 seconds."""
    asyncio.run(asyncio.wait_for(coroutine, 20))


class Notebook:
    """Writes one word more for every operation, with the commit of all of them. Implements ra.journal.writer.Companion."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self._waiting: list[str] = []

    def collect(self, word: str) -> None:
        self._waiting.append(word)

    def mark(self) -> int:
        return len(self._waiting)

    def undo_to(self, mark: int) -> None:
        del self._waiting[mark:]

    def before_commit(self, connection: Connection) -> None:
        for word in self._waiting:
            note(connection, f"with {word}")

    def committed(self) -> None:
        self.told.append("committed")
        self._waiting.clear()

    def abandoned(self) -> None:
        self.told.append("abandoned")
        self._waiting.clear()


def note_twice(connection: Connection, word: str) -> str:
    """Writes the word, and has the companion write it too."""
    connection.info["companion"].collect(word)
    return note(connection, word)
