"""Journal: the database of one process, whichever it is, and how operations are run on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, TypeVar

from sqlalchemy import Connection, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from connectors.api import Secret
from ra.errors import Misconfigured
from ra.journal.migrations import insist_on_head
from ra.journal.sqlite import SqlitePlace
from ra.journal.writer import Companion, DiskFull, Hooks, Job, Writer, is_lost, lost, nothing

T = TypeVar("T")

PATIENCE_SECONDS = 10.0
"""How long an operation waits for its turn: less than a device waits for its answer."""

FULL_SECONDS = 30.0
"""For so long a disk is taken for full that had no room: who is sent away then tries whether it has again."""


class Backend(Protocol):
    """An open database."""

    @property
    def writer(self) -> Writer: ...

    async def read(self, operation: Callable[[Connection], T]) -> T: ...

    async def wait_for_work(self, seconds: float) -> None: ...

    async def aclose(self) -> None: ...


class Place(Protocol):
    """Where a database is, or will be. `str` says it without a password."""

    def check(self) -> None:
        """Raises Misconfigured where no database can be."""

    def alone(self) -> AbstractContextManager[Connection]:
        """One transaction in which nobody else makes or fills the database; a file is made where it is missing."""

    def snapshot(self) -> AbstractContextManager[Connection]:
        """Reads the state of one moment, whatever is committed meanwhile."""

    async def open(self, hooks: Hooks, patience_seconds: float) -> Backend:
        """For the running loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """From which revision to which; None: there was nothing."""

    before: str | None
    after: str


def place_of(url: str, *, directory: Path, password: Secret | None = None, setting: str = "[database] url") -> Place:
    """The place that a URL names; a relative path resolves against `directory`. `setting` is what an error names.

    Raises:
        Misconfigured: the URL is neither `sqlite:///PATH` nor `postgresql://…`.
    """
    wish = "write sqlite:///ra.db or postgresql://USER@HOST/NAME"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise Misconfigured(f"{setting}: that is not a URL; {wish}") from None
    match parsed.drivername, parsed.database:
        case "sqlite", str(path) if path not in {"", ":memory:"}:
            return SqlitePlace(directory / path)
        case "postgresql", str(name) if name:
            # Only who uses it waits for its driver.
            from ra.journal.postgresql import PostgresqlPlace  # noqa: PLC0415

            return PostgresqlPlace(parsed if password is None else parsed.set(password=password.reveal()))
        case _:
            raise Misconfigured(f"{setting}: {wish}")


class Journal:
    """The database, opened by one process. Operations are plain functions of a Connection; a lambda binds the rest."""

    def __init__(self, backend: Backend, patience_seconds: float) -> None:
        self._backend = backend
        self._patience_seconds = patience_seconds
        self._full_until: float | None = None

    @classmethod
    def create(cls, url: str, *, directory: Path, password: Secret | None = None) -> Upgrade:
        """Makes the tables, or brings them to what this program knows; processes that do it at once do it in turn.

        Raises:
            Misconfigured: the URL cannot be used, nothing can be written there, or a newer program made the tables.
        """
        # Whoever only opens a journal does without alembic.
        from ra.journal.upgrade import upgrade  # noqa: PLC0415

        with place_of(url, directory=directory, password=password).alone() as connection:
            before, after = upgrade(connection)
        return Upgrade(before=before, after=after)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        directory: Path,
        password: Secret | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
        companion: Companion | None = None,
        reached: Callable[[str], None] = nothing,
    ) -> Self:
        """Opens what `create` made, for the running loop; an operation waits `patience_seconds` for its turn.

        Args:
            url: as in the configuration.
            directory: where a relative path begins.
            password: of a server, where the URL holds none.
            patience_seconds: the same for locks and the network, where there is one.
            companion: takes part in every transaction; operations find it in Connection.info, under `companion`.
            reached: is told `journal:before-commit` and `journal:after-commit`, in the writer's thread, so that a test
                can end the process there.

        Raises:
            Misconfigured: the URL cannot be used, there is no journal, or it is not of this program's revision.
        """
        place = place_of(url, directory=directory, password=password)
        journal = cls(await place.open(Hooks(companion=companion, reached=reached), patience_seconds), patience_seconds)
        try:
            await journal.read(insist_on_head)
        except BaseException:
            await journal.aclose()
            raise
        return journal

    @property
    def is_alive(self) -> bool:
        """Whether the writer runs; without it the process is of no use."""
        return self._backend.writer.is_alive

    @property
    def is_full(self) -> bool:
        """Whether a write has just found no room. A small one may still succeed, and says nothing of the next."""
        return self._full_until is not None and asyncio.get_running_loop().time() < self._full_until

    async def write(self, operation: Callable[[Connection], T]) -> T:
        """Runs the operation in a transaction and returns once it is durable.

        It may be run more than once until then, each time from the start and with nothing left of the time before.
        Cancelling it before its turn leaves nothing behind; later, it is committed all the same.

        Raises:
            Unavailable: the database is locked, full or lost, and nothing was committed. On PostgreSQL there is one
                more case: the connection was lost while committing, and nobody can tell. So an operation is a
                compare-and-set, or writes an id that its caller chose: done again with the same values it either does
                what was not done, or finds that it was.
            Exception: whatever the operation raised; its own changes are undone.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        job = Job(operation, future)
        self._backend.writer.submit(job)
        deadline = loop.call_later(self._patience_seconds, job.expire)
        try:
            return await future
        except DiskFull:
            self._full_until = loop.time() + FULL_SECONDS
            raise
        finally:
            deadline.cancel()

    async def read(self, operation: Callable[[Connection], T]) -> T:
        """Runs an operation that writes nothing; each of its statements sees what is committed by then.

        Raises:
            Unavailable: the database is lost.
        """
        try:
            return await self._backend.read(operation)
        except DBAPIError as error:
            if is_lost(error):
                raise lost(error) from error
            raise

    async def wait_for_work(self, seconds: float) -> None:
        """Waits until a committed operation has called `announce`, here or, on PostgreSQL, in any process.

        It only saves time: what is announced while nobody waits is not told later.
        """
        await self._backend.wait_for_work(seconds)

    async def aclose(self) -> None:
        """Finishes what was accepted and closes; what comes later is refused as Unavailable."""
        await self._backend.aclose()
