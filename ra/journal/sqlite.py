"""The journal in a file of SQLite: one writer for all processes, and one fsync for what waits together.

Statements run on the loop, the disk is waited for in a thread. Everything in a thread costs a change of the
interpreter's lock for every statement: 1,900 enrolments a second and not 2,500 with sixteen callers. Everything on the
loop would be as fast, but an fsync that takes seconds, as on a busy disk it does, would stop every request.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from ra.errors import Misconfigured, Unavailable
from ra.journal.direct import control
from ra.journal.wakeup import Bell, take_announcement
from ra.journal.writer import AFTER_COMMIT, BEFORE_COMMIT, COMPANION, Hooks, Job, NoCompanion, Writer, is_lost, lost

T = TypeVar("T")

BUSY_TIMEOUT_SECONDS = 5
"""SQLite's own patience, while another process opens the file for the first time or closes it for the last."""

_BUSY_TRIES = 50
_BUSY_PAUSE_SECONDS = 0.1


class SqlitePlace:
    """A file, as a URL names it. Implements ra.journal.database.Place."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def check(self) -> None:
        """Whether a file could be there.

        Raises:
            Misconfigured: its directory does not exist.
        """
        if not self.path.parent.is_dir():
            raise Misconfigured(f"[database] url: the directory {self.path.parent} does not exist")

    @contextmanager
    def alone(self) -> Iterator[Connection]:
        """One transaction in which nobody else writes, to make or fill the database; the file is made where it is missing.

        Raises:
            Misconfigured: nothing can be written there.
        """
        try:
            with _locked(self._lock_file):
                self.path.touch(mode=0o600)
                with _engine(self.path).connect() as connection:
                    # The file remembers this one; readers never wait for the writer.
                    connection.exec_driver_sql("PRAGMA journal_mode = WAL")
                    with _transaction(connection, "BEGIN IMMEDIATE"):
                        yield connection
        except (OSError, DBAPIError) as error:
            raise Misconfigured(f"[database] url: {self.path} cannot be written: {_reason(error)}") from error

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Reads the state of one moment, whatever is committed meanwhile.

        Raises:
            Misconfigured: there is no such file, or it cannot be read.
        """
        with self._naming_what_is_wrong(), _connect(self.path) as connection, _transaction(connection, "BEGIN"):
            yield connection

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """While no process has the journal open, nor opens it.

        Raises:
            Misconfigured: one has.
        """
        with _using(self._used_file, fcntl.LOCK_EX) as is_free:
            if not is_free:
                raise Misconfigured(f"{self.path} is in use: stop `scep-ra serve`, and what else has it open, first")
            yield

    async def open(self, hooks: Hooks, patience_seconds: float) -> SqliteBackend:  # noqa: ARG002 - Journal.write holds to it
        """For the running loop.

        Raises:
            Misconfigured: there is no such file, or it is no database.
            Unavailable: it is being copied to another database.
        """
        with self._naming_what_is_wrong(), ExitStack() as stack:
            if not stack.enter_context(_using(self._used_file, fcntl.LOCK_SH)):
                raise Unavailable(f"{self.path} is being moved to another database")
            writing = _connect(self.path)
            # The writer waits for its turn by itself: SQLite would sleep, and the loop with it.
            writing.exec_driver_sql("PRAGMA busy_timeout = 0")
            reading = _connect(self.path)
            reading.exec_driver_sql("PRAGMA query_only = ON")
            return SqliteBackend(writing, reading, self.path, self._lock_file, hooks, use=stack.pop_all())

    @property
    def _used_file(self) -> Path:
        return self.path.with_name(self.path.name + ".used")

    @property
    def _lock_file(self) -> Path:
        return self.path.with_name(self.path.name + ".lock")

    @contextmanager
    def _naming_what_is_wrong(self) -> Iterator[None]:
        if not self.path.exists():
            raise Misconfigured(f"[database] url: {self.path} does not exist")
        try:
            yield
        except DBAPIError as error:
            raise Misconfigured(f"[database] url: {self.path} cannot be opened: {error.orig}") from error


class SqliteBackend:
    """The open file: one connection that writes, one that reads. Implements ra.journal.database.Backend."""

    def __init__(
        self, writing: Connection, reading: Connection, path: Path, lock_file: Path, hooks: Hooks, *, use: ExitStack
    ) -> None:
        """`use` is closed in the end."""
        self._use = use
        self._writing = writing
        self._reading = reading
        self._bell = Bell()
        self.writer = SqliteWriter(writing, path, lock_file, hooks, self._bell)

    async def read(self, operation: Callable[[Connection], T]) -> T:
        """On the loop: readers wait for nobody."""
        return operation(self._reading)

    async def wait_for_work(self, seconds: float) -> None:
        """What other processes announce is not heard."""
        await self._bell.wait(seconds)

    async def aclose(self) -> None:
        await self.writer.aclose()
        for connection in (self._reading, self._writing):
            connection.close()
            connection.engine.dispose()
        self._use.close()


class SqliteWriter(Writer):
    """The connection that writes, and the lock that keeps the writers of other processes out."""

    def __init__(self, connection: Connection, path: Path, lock_file: Path, hooks: Hooks, bell: Bell) -> None:
        self._connection = connection
        self._path = path
        self._file = _identity(path)
        self._companion = hooks.companion or NoCompanion()
        if hooks.companion:
            connection.info[COMPANION] = hooks.companion
        self._reached = hooks.reached
        self._bell = bell
        self._lock = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        super().__init__()

    async def aclose(self) -> None:
        await super().aclose()
        os.close(self._lock)

    async def _commit(self, jobs: list[Job]) -> None:
        try:
            await self._begin()
            self._take(jobs)
            self._carry_out(jobs)
            self._companion.before_commit(self._connection)
            await self._in_thread(self._end)
        except DBAPIError as error:
            self._abandon()
            if not jobs:
                self._take(jobs)
            for job in jobs:
                job.error = job.error or lost(error)
        except BaseException:
            self._abandon()  # the writer ends; other processes must not wait for this one to end too
            raise
        else:
            self._companion.committed()
            if take_announcement(self._connection):
                self._bell.ring()

    async def _begin(self) -> None:
        """Begins once no other process writes.

        The kernel's queue wakes the next writer at once, SQLite's own wait sleeps. The tries are for programs that do
        not know of the lock file.
        """
        if _identity(self._path) != self._file:
            # SQLite would go on writing into a file that nobody will find again.
            raise OperationalError("", None, sqlite3.OperationalError("its file has been removed or replaced"))
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            await self._in_thread(fcntl.flock, self._lock, fcntl.LOCK_EX)
        for tries_left in reversed(range(_BUSY_TRIES)):
            try:
                self._execute("BEGIN IMMEDIATE")
                break
            except OperationalError as error:
                if not (is_busy(error) and tries_left):
                    raise
            await asyncio.sleep(_BUSY_PAUSE_SECONDS)

    def _carry_out(self, jobs: list[Job]) -> None:
        """Runs the operations as one; where one fails, runs them again, each under a savepoint of its own.

        Few fail, and a savepoint costs as much as a statement. An operation has no effect but on the database.
        """
        try:
            for job in jobs:
                job.result = job.operation(self._connection)
        except Exception as error:
            if is_lost(error):
                raise
            self._execute("ROLLBACK")
            self._companion.abandoned()
            self._execute("BEGIN IMMEDIATE")
            for job in jobs:
                self._attempt(job)

    def _attempt(self, job: Job) -> None:
        """Runs one operation so that its failure undoes its own changes and no others."""
        self._execute("SAVEPOINT job")
        mark = self._companion.mark()
        try:
            job.result = job.operation(self._connection)
        except Exception as error:  # whatever it is, it is the caller's; the writer goes on
            if is_lost(error):
                raise
            job.error = error
            self._companion.undo_to(mark)
            self._execute("ROLLBACK TO job")
        self._execute("RELEASE job")

    def _end(self) -> None:
        self._reached(BEFORE_COMMIT)
        self._execute("COMMIT")
        self._reached(AFTER_COMMIT)
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _abandon(self) -> None:
        # SQLite has rolled back by itself after some errors, a full disk among them.
        try:
            with suppress(DatabaseError):
                self._execute("ROLLBACK")
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)
        self._companion.abandoned()

    def _execute(self, statement: str) -> None:
        control(self._connection, statement)


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of a file; None: it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_busy(error: OperationalError) -> bool:
    return getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY


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


@contextmanager
def _transaction(connection: Connection, begin: str) -> Iterator[None]:
    control(connection, begin)
    try:
        yield
    except BaseException:
        with suppress(DatabaseError):
            control(connection, "ROLLBACK")
        raise
    control(connection, "COMMIT")


@contextmanager
def _locked(lock_file: Path) -> Iterator[None]:
    """While no other process writes, or makes the database."""
    lock = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


@contextmanager
def _using(used_file: Path, how: int) -> Iterator[bool]:
    """While that file is locked so, shared or not; False: others have it otherwise."""
    used = os.open(used_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(used, how | fcntl.LOCK_NB)
    except BlockingIOError:
        is_free = False
    else:
        is_free = True
    try:
        yield is_free
    finally:
        os.close(used)


def _reason(error: OSError | DBAPIError) -> object:
    return error.strerror if isinstance(error, OSError) else error.orig
