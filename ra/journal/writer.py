"""What every database's writer has in common: the operations that wait, and one commit for those that wait together.

How a group is committed is the database's own: sqlite.py, postgresql.py.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, InternalError, OperationalError

from ra.errors import Unavailable

MAX_GROUP = 64
"""Operations in one commit, so that the loop and the writers of other processes get their turn."""

BEFORE_COMMIT = "journal:before-commit"
AFTER_COMMIT = "journal:after-commit"

COMPANION = "companion"
"""Under which Connection.info holds the writer's Companion, where it has one."""


_DISK_FULL = "53100"
"""PostgreSQL's SQLSTATE. SQLite needs none: where its log cannot grow, nothing at all is written."""


class DiskFull(Unavailable):
    """There was no room for what was to be written, though there may be for something smaller."""


class Companion(Protocol):
    """Collects what operations leave to be written with the commit they belong to, such as the audit's events."""

    def mark(self) -> int:
        """Where it stands, before an operation."""

    def undo_to(self, mark: int) -> None:
        """That operation alone has failed and is undone."""

    def before_commit(self, connection: Connection) -> None:
        """Writes what was collected: the last of the transaction."""

    def committed(self) -> None:
        """The transaction is durable."""

    def abandoned(self) -> None:
        """The transaction was rolled back; or, where the commit was tried, perhaps not."""


class NoCompanion:
    """Stands where there is nothing to collect. Implements Companion."""

    def mark(self) -> int:
        return 0

    def undo_to(self, mark: int) -> None: ...

    def before_commit(self, connection: Connection) -> None: ...

    def committed(self) -> None: ...

    def abandoned(self) -> None: ...


def nothing(point: str) -> None:
    """What happens at a named point of the program, where no crash is rehearsed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What a writer calls while it works.

    Attributes:
        companion: takes part in every transaction; None: nothing does.
        reached: is told BEFORE_COMMIT and AFTER_COMMIT, in the writer's thread.
    """

    companion: Companion | None = None
    reached: Callable[[str], None] = nothing


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


class Writer(ABC):
    """What waits to be written, the task that takes it, and a thread to wait in. Belongs to one loop."""

    def __init__(self) -> None:
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

    @abstractmethod
    async def _commit(self, jobs: list[Job]) -> None:
        """Fills `jobs` with what waits once it can be written, and commits it; leaves result or error in each."""

    async def _run(self) -> None:
        jobs: list[Job] = []
        try:
            while self._waiting or not self._is_closing:
                await self._wake.wait()
                while self._waiting:
                    await self._commit(jobs)
                    for job in jobs:
                        job.answer()
                    jobs.clear()
                if not self._is_closing:
                    self._wake.clear()
        finally:
            for job in (*jobs, *self._waiting):
                job.fail(Unavailable("the database's writer has ended"))

    def _take(self, jobs: list[Job]) -> None:
        """Takes what waits and whose caller waits too."""
        while self._waiting and len(jobs) < MAX_GROUP:
            job = self._waiting.popleft()
            if not job.future.done():
                job.has_begun = True
                jobs.append(job)

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)


def is_lost(error: Exception) -> bool:
    """Whether the database is at fault (away, locked, full, read-only, unreadable), not the operation."""
    return isinstance(error, OperationalError | InternalError | InterfaceError) or type(error) is DatabaseError


def lost(error: DBAPIError) -> Unavailable:
    """What a fault of the database is to the caller; the statement and its values stay out of it."""
    kind = DiskFull if getattr(error.orig, "sqlstate", None) == _DISK_FULL else Unavailable
    return kind(f"the database: {str(error.orig).strip()}")
