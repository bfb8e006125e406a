"""The one writer of SQLite: what is waiting shares one transaction and one fsync.

Statements run on the loop, the disk is waited for in a thread. Everything in a thread costs a change of the
interpreter's lock for every statement: 1,900 enrolments a second and not 2,500 with sixteen callers. Everything on the
loop would be as fast, but an fsync that takes seconds, as on a busy disk it does, would stop every request.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError, OperationalError

from ra.errors import Unavailable

MAX_GROUP = 64
"""Operations in one commit, so that the loop and the writers of other processes get their turn."""

_BUSY_TRIES = 50
_BUSY_PAUSE_SECONDS = 0.1


class Job:
    """One operation that waits for its turn, and the future its caller awaits."""

    __slots__ = ("error", "future", "has_begun", "operation", "result")

    def __init__(self, operation: Callable[[Connection], Any], future: asyncio.Future[Any]) -> None:
        self.operation = operation
        self.future = future
        self.has_begun = False
        self.result: Any = None
        self.error: Exception | None = None

    def expire(self) -> None:
        """Ends the waiting for a turn; what has begun ends with its commit."""
        if not self.has_begun:
            self.fail(Unavailable("the database did not take the operation in time"))

    def fail(self, error: Exception) -> None:
        self.error = error
        self.answer()

    def answer(self) -> None:
        """Wakes the caller, if it still waits."""
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class Writer:
    """The connection that writes, its task, and what waits for it. Belongs to one loop."""

    def __init__(self, connection: Connection, lock_file: Path) -> None:
        self._connection = connection
        self._lock = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._waiting: deque[Job] = deque()
        self._wake = asyncio.Event()
        self._is_closing = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._task = asyncio.create_task(self._run(), name="journal writer")

    @property
    def is_alive(self) -> bool:
        return not (self._is_closing or self._task.done())

    def submit(self, job: Job) -> None:
        """Queues the job; a writer that is over refuses it."""
        if not self.is_alive:
            job.fail(Unavailable("the database is closed"))
            return
        self._waiting.append(job)
        self._wake.set()

    async def aclose(self) -> None:
        """Finishes what was submitted."""
        self._is_closing = True
        self._wake.set()
        await asyncio.wait({self._task})
        self._thread.shutdown()
        os.close(self._lock)

    async def _run(self) -> None:
        jobs: list[Job] = []
        try:
            while self._waiting or not self._is_closing:
                await self._wake.wait()
                await self._commit(jobs)
                for job in jobs:
                    job.answer()
                jobs.clear()
                if not self._waiting and not self._is_closing:
                    self._wake.clear()
        finally:
            for job in (*jobs, *self._waiting):
                job.fail(Unavailable("the database's writer has ended"))

    async def _commit(self, jobs: list[Job]) -> None:
        """Fills `jobs` with what waits once it is this process's turn, and commits it; leaves result or error in each."""
        try:
            await self._begin()
            self._take(jobs)
            self._carry_out(jobs)
            await self._in_thread(self._end)
        except DatabaseError as error:
            self._abandon()
            if not jobs:
                self._take(jobs)
            for job in jobs:
                job.error = job.error or lost(error)
        except BaseException:
            self._abandon()  # the writer ends; other processes must not wait for this one to end too
            raise

    def _take(self, jobs: list[Job]) -> None:
        """Takes what waits and whose caller waits too."""
        while self._waiting and len(jobs) < MAX_GROUP:
            job = self._waiting.popleft()
            if not job.future.done():
                job.has_begun = True
                jobs.append(job)

    async def _begin(self) -> None:
        """Begins once no other process writes.

        The kernel's queue wakes the next writer at once, SQLite's own wait sleeps. The tries are for programs that do
        not know of the lock file.
        """
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            await self._in_thread(lambda: fcntl.flock(self._lock, fcntl.LOCK_EX))
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
            self._execute("BEGIN IMMEDIATE")
            for job in jobs:
                self._attempt(job)

    def _attempt(self, job: Job) -> None:
        """Runs one operation so that its failure undoes its own changes and no others."""
        self._execute("SAVEPOINT job")
        try:
            job.result = job.operation(self._connection)
        except Exception as error:  # whatever it is, it is the caller's; the writer goes on
            if is_lost(error):
                raise
            job.error = error
            self._execute("ROLLBACK TO job")
        self._execute("RELEASE job")

    def _end(self) -> None:
        self._execute("COMMIT")
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _abandon(self) -> None:
        # SQLite has rolled back by itself after some errors, a full disk among them.
        try:
            with suppress(DatabaseError):
                self._execute("ROLLBACK")
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _execute(self, statement: str) -> None:
        control(self._connection, statement)

    async def _in_thread(self, function: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, function)


def control(connection: Connection, statement: str) -> None:
    """Runs a statement of transaction control past SQLAlchemy, which would spend more on it than SQLite does.

    Raises:
        DatabaseError: as any other statement would.
    """
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)  # noqa: S101 - the engine is SQLite's
    try:
        raw.execute(statement)
    except sqlite3.OperationalError as error:
        raise OperationalError(statement, None, error) from error
    except sqlite3.DatabaseError as error:
        raise DatabaseError(statement, None, error) from error


def is_busy(error: OperationalError) -> bool:
    return getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY


def is_lost(error: Exception) -> bool:
    """Whether the database is at fault (locked, full, unreadable), not the operation (a constraint, a wrong value)."""
    return isinstance(error, OperationalError) or type(error) is DatabaseError


def lost(error: DatabaseError) -> Unavailable:
    """What a fault of the database is to the caller; the statement and its values stay out of it."""
    return Unavailable(f"the database: {error.orig}")
