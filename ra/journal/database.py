"""Opens the database and runs the journal's operations on it; here alone SQLite is configured."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Self, TypeVar

from sqlalchemy import Connection, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError
from sqlalchemy.pool import NullPool

from ra.errors import Misconfigured
from ra.journal.tables import metadata
from ra.journal.writer import Job, Writer, is_lost, lost

T = TypeVar("T")

BUSY_TIMEOUT_SECONDS = 5
"""SQLite's own patience, while another process opens the file for the first time or closes it for the last."""

PATIENCE_SECONDS = 10.0
"""How long an operation waits for its turn: less than a device waits for its answer."""


class Journal:
    """The database, opened by one process. Operations are plain functions of a Connection; a lambda binds the rest."""

    def __init__(self, writer: Writer, writing: Connection, reading: Connection, patience_seconds: float) -> None:
        self._writer = writer
        self._writing = writing
        self._reading = reading
        self._patience_seconds = patience_seconds

    @classmethod
    def create(cls, url: str, *, directory: Path) -> None:
        """Makes the file and the tables that are missing; a relative path resolves against `directory`.

        Raises:
            Misconfigured: the URL is not `sqlite:///PATH`, or nothing can be written there.
        """
        path = _path(url, directory)
        try:
            path.touch(mode=0o600)
            with _engine(path).connect() as connection:
                # The file remembers this one; readers never wait for the writer.
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")
                metadata.create_all(connection)
        except (OSError, DBAPIError) as error:
            raise Misconfigured(f"[database] url: {path} cannot be written: {error}") from error

    @classmethod
    async def open(cls, url: str, *, directory: Path, patience_seconds: float = PATIENCE_SECONDS) -> Self:
        """Opens what `create` made, for the running loop; an operation waits `patience_seconds` for its turn.

        Raises:
            Misconfigured: the URL is not `sqlite:///PATH`, or there is no journal.
        """
        path = _path(url, directory)
        if not path.exists():
            raise Misconfigured(f"[database] url: {path} does not exist")
        try:
            writing = _connect(path)
            # The writer waits for its turn by itself: SQLite would sleep, and the loop with it.
            writing.exec_driver_sql("PRAGMA busy_timeout = 0")
            reading = _connect(path)
            reading.exec_driver_sql("PRAGMA query_only = ON")
        except DBAPIError as error:
            raise Misconfigured(f"[database] url: {path} cannot be opened: {error.orig}") from error
        return cls(Writer(writing, path.with_name(path.name + ".lock")), writing, reading, patience_seconds)

    @property
    def is_alive(self) -> bool:
        """Whether the writer runs; without it the process is of no use."""
        return self._writer.is_alive

    async def write(self, operation: Callable[[Connection], T]) -> T:
        """Runs the operation in a transaction and returns once it is durable.

        Cancelling it before its turn leaves nothing behind; later, it is committed all the same.

        Raises:
            Unavailable: the database is locked, full or lost; nothing was committed.
            Exception: whatever the operation raised; its own changes are undone.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        job = Job(operation, future)
        self._writer.submit(job)
        deadline = loop.call_later(self._patience_seconds, job.expire)
        try:
            return await future
        finally:
            deadline.cancel()

    async def read(self, operation: Callable[[Connection], T]) -> T:
        """Runs an operation that writes nothing; each of its statements sees what is committed by then.

        On the loop: readers wait for nobody.

        Raises:
            Unavailable: the database is lost.
        """
        try:
            return operation(self._reading)
        except DatabaseError as error:
            if is_lost(error):
                raise lost(error) from error
            raise

    async def aclose(self) -> None:
        """Finishes what was accepted and closes; what comes later is refused as Unavailable."""
        await self._writer.aclose()
        for connection in (self._reading, self._writing):
            connection.close()
            connection.engine.dispose()


def _path(url: str, directory: Path) -> Path:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise Misconfigured(f"[database] url: {url!r} is not a URL; write sqlite:///ra.db") from error
    if parsed.drivername != "sqlite" or parsed.database in {None, "", ":memory:"}:
        raise Misconfigured("[database] url: only a file of SQLite is supported; write sqlite:///ra.db")
    return directory / str(parsed.database)


def _engine(path: Path) -> Engine:
    # AUTOCOMMIT keeps both the driver and SQLAlchemy from beginning transactions of their own.
    return create_engine(
        f"sqlite:///{path}",
        isolation_level="AUTOCOMMIT",
        poolclass=NullPool,
        hide_parameters=True,
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_SECONDS},
    )


def _connect(path: Path) -> Connection:
    connection = _engine(path).connect()
    # A row that is lost after the CA was asked is a certificate nobody knows of: every commit is an fsync.
    connection.exec_driver_sql("PRAGMA synchronous = FULL")
    connection.exec_driver_sql("PRAGMA foreign_keys = ON")
    return connection
