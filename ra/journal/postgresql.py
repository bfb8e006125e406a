"""The journal in PostgreSQL: any number of processes, each with one connection that writes and a few that read.

The network is waited for in threads. What waits to be written shares one transaction, so that it shares its round trips
for BEGIN and COMMIT and the server's wait for its disk.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import URL, Connection, Engine, create_engine, event, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from ra.errors import Misconfigured, RaError, Unavailable
from ra.journal.lines import CONNECT_TIMEOUT_SECONDS, Line, driver_of
from ra.journal.listener import CHANNEL, Listener
from ra.journal.wakeup import Bell, take_announcement
from ra.journal.writer import (
    AFTER_COMMIT,
    BEFORE_COMMIT,
    COMPANION,
    Companion,
    Hooks,
    Job,
    NoCompanion,
    Writer,
    is_lost,
    lost,
)

T = TypeVar("T")

READERS = 3
"""Threads of a process that read, each with a connection: one question that takes long does not stop the others."""

UNANSWERED_SECONDS = 10
"""After so long without a sign of life from the server's machine, a connection is taken for lost."""

_LOCK = 0x5343_4550_5241  # "SCEPRA": which of the server's advisory locks is ours
_NOTIFY = select(func.pg_notify(CHANNEL, ""))
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 2.0
_TRIES = 5
_CONFLICTS = {"40001", "40P01"}  # serialization_failure, deadlock_detected
_FOR_A_WHILE = ("system is starting up", "system is shutting down", "recovery mode", "too many", "remaining connection")
"""In what a server says that lets nobody in for now: there is no SQLSTATE before there is a connection."""

_BLOCKED = {"55P03", "57014"}  # lock_not_available, query_canceled: by lock_timeout, by statement_timeout
_IN_FAILED_TRANSACTION = "25P02"


class HiddenFailure(RaError):
    """An operation has caught the failure of a statement, which PostgreSQL has undone the transaction for."""


class PostgresqlPlace:
    """A database of a server, as a URL names it. Implements ra.journal.database.Place."""

    def __init__(self, url: URL) -> None:
        self._url = url.set(drivername="postgresql+psycopg")

    def __str__(self) -> str:
        return self._url.set(drivername="postgresql").render_as_string(hide_password=True)

    def check(self) -> None:
        """Whether the database is there.

        Raises:
            Misconfigured: it lets nobody of that name in, or there is none.
            Unavailable: its server cannot be reached.
        """
        with self._naming_what_is_wrong(), self._engine({}).connect():
            pass

    @contextmanager
    def alone(self) -> Iterator[Connection]:
        """One transaction in which nobody else makes or fills the database.

        Raises:
            Misconfigured: it lets nobody of that name in, or cannot be written.
            Unavailable: its server cannot be reached.
        """
        with self._naming_what_is_wrong(), self._engine({}).begin() as connection:
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Reads the state of one moment, whatever is committed meanwhile.

        Raises:
            Misconfigured: it lets nobody of that name in, or cannot be read.
            Unavailable: its server cannot be reached.
        """
        with self._naming_what_is_wrong(), self._engine({}).connect() as connection:
            options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
            with connection.execution_options(**options).begin():
                yield connection

    async def open(self, hooks: Hooks, patience_seconds: float) -> PostgresqlBackend:
        """For the running loop.

        Raises:
            Misconfigured: it lets nobody of that name in, or there is none.
            Unavailable: its server cannot be reached.
        """
        limits = _limits(patience_seconds)
        writing = self._engine(limits)
        reading = self._engine(
            limits | {"default_transaction_read_only": "on"},
            isolation_level="AUTOCOMMIT",  # each statement sees what is committed by then, and costs one round trip
        )
        if hooks.companion:
            event.listen(writing, "connect", partial(_accompany, hooks.companion))
        with self._naming_what_is_wrong():
            connection = await asyncio.to_thread(writing.connect)
        listening = self._engine({}, isolation_level="AUTOCOMMIT")
        return PostgresqlBackend(connection, reading, listening, hooks, patience_seconds)

    def _engine(self, parameters: dict[str, str], **options: Any) -> Engine:
        """Connections with the server's parameters set so, beside those that the URL itself sets."""
        given = str(self._url.query.get("options", ""))
        arguments = {
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "application_name": "scep-ra",
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": UNANSWERED_SECONDS * 1000,
            "options": " ".join([given, *(f"-c {name}={value}" for name, value in parameters.items())]),
        }
        return create_engine(
            self._url,
            hide_parameters=True,
            use_native_hstore=False,  # nobody needs it, and it costs a question for each connection
            connect_args=arguments,
            poolclass=NullPool,
            pool_reset_on_return=None,  # what is returned is closed
            **options,
        )

    @contextmanager
    def _naming_what_is_wrong(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            text = f"[database] url: {self}: {str(error.orig).strip()}"
            raise (Unavailable(text) if _is_away(error) else Misconfigured(text)) from error


def _is_away(error: DBAPIError) -> bool:
    """Whether nobody answered there, or who did only has no place now; a no to name or password says FATAL."""
    said = str(error.orig)
    is_refusal = "FATAL" in said and not any(each in said for each in _FOR_A_WHILE)
    return isinstance(error.orig, psycopg.OperationalError) and error.orig.sqlstate is None and not is_refusal


def _limits(patience_seconds: float) -> dict[str, str]:
    """The server's parameters for which nothing blocks longer than the callers' patience.

    A transaction of ours that is stopped half-way must not stop other processes either.
    """
    milliseconds = max(1, round(patience_seconds * 1000))
    return {
        # A row that is lost after the CA was asked is a certificate nobody knows of: every commit is on disk, whatever
        # the server's default; where a standby is synchronous, on its disk too.
        "synchronous_commit": "on",
        "default_transaction_isolation": r"read\ committed",
        "lock_timeout": str(max(1, milliseconds // 2)),
        "statement_timeout": str(milliseconds),
        "idle_in_transaction_session_timeout": str(milliseconds),
    }


class PostgresqlBackend:
    """The open database. Implements ra.journal.database.Backend."""

    def __init__(
        self, writing: Connection, reading: Engine, listening: Engine, hooks: Hooks, patience_seconds: float
    ) -> None:
        self._writing = writing
        self._patience_seconds = patience_seconds
        self._reading = reading
        self._listening = listening
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="journal reader")
        self._idle: list[Connection] = []
        self._bell = Bell()
        self._listener: Listener | None = None
        self.writer = PostgresqlWriter(writing, hooks, 2 * patience_seconds)

    async def read(self, operation: Callable[[Connection], T]) -> T:
        """In a thread, on one of the connections that read.

        Raises:
            Unavailable: there was no answer in time.
        """
        loop = asyncio.get_running_loop()
        line = Line()
        try:
            async with asyncio.timeout(self._patience_seconds):
                return await loop.run_in_executor(self._threads, self._read, operation, line)
        except TimeoutError:
            line.hang_up()
            raise Unavailable("the database did not answer in time") from None
        except asyncio.CancelledError:
            loop.call_later(self._patience_seconds, line.hang_up)
            raise

    async def wait_for_work(self, seconds: float) -> None:
        """Whoever waits has a connection listen, from the first time on."""
        if self._listener is None:
            self._listener = Listener(self._listening, self._bell, asyncio.get_running_loop())
        await self._bell.wait(seconds)

    async def aclose(self) -> None:
        await self.writer.aclose()
        if self._listener is not None:
            await asyncio.to_thread(self._listener.close)
        await asyncio.to_thread(self._threads.shutdown)
        for connection in (*self._idle, self._writing):
            connection.close()

    def _read(self, operation: Callable[[Connection], T], line: Line) -> T:
        """Holds on to its connection: SQLAlchemy's pool would spend a fifth of what a look-up takes."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._reading.connect()
        try:
            _revive(connection)
            with line.over(driver_of(connection)):
                return operation(connection)
        finally:
            self._idle.append(connection)


class PostgresqlWriter(Writer):
    """The connection that writes. Each group is carried out in the writer's thread, from BEGIN to COMMIT."""

    def __init__(self, connection: Connection, hooks: Hooks, limit_seconds: float) -> None:
        self._connection = connection
        self._limit_seconds = limit_seconds
        self._running: Job | None = None
        self._companion = hooks.companion or NoCompanion()
        self._reached = hooks.reached
        super().__init__()

    async def _commit(self, jobs: list[Job]) -> None:
        if await self._is_connected():
            self._take(jobs)
            if jobs:
                line = Line()
                limit = asyncio.get_running_loop().call_later(self._limit_seconds, line.hang_up)
                try:
                    await self._in_thread(self._carry_out, jobs, line)
                except Unavailable as error:
                    for job in jobs:
                        job.error = error
                finally:
                    limit.cancel()

    async def _is_connected(self) -> bool:
        """Connects again where it must, with growing pauses, for as long as anybody's patience lasts."""
        pause_seconds = _FIRST_PAUSE_SECONDS
        while _is_dead(self._connection) and not await self._in_thread(self._connect):
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)
            self._waiting = deque(job for job in self._waiting if not job.future.done())
            if not self._waiting:
                return False
        return True

    def _connect(self) -> bool:
        try:
            _revive(self._connection)
        except DBAPIError:
            return False
        return True

    def _carry_out(self, jobs: list[Job], line: Line) -> None:
        """One transaction for all. Where an operation fails, one for each; where the database does, that is it.

        An operation has no effect but on the database.
        """
        with line.over(driver_of(self._connection)):
            error = self._attempt(jobs)
            if error is None:
                return
            blocked = self._running if _has_state(error, _BLOCKED) else None
            if blocked is not None:
                blocked.error = _told(error)  # it has waited long enough
            for job in jobs:
                if job is not blocked:
                    if not isinstance(error, Unavailable):
                        error = self._attempt_alone(job)
                    job.error = _told(error)

    def _attempt_alone(self, job: Job) -> Exception | None:
        """In a transaction of its own, several times where it meets those of other processes."""
        error: Exception | None = None
        for _ in range(_TRIES):
            error = self._attempt([job])
            if not _has_state(error, _CONFLICTS):
                break
        return error

    def _attempt(self, jobs: list[Job]) -> Exception | None:
        """Commits them together; what went wrong, Unavailable where that is the database. A commit is tried once."""
        try:
            self._transact(jobs)
        except DBAPIError as error:
            is_of_the_operations = _has_state(error, _CONFLICTS | _BLOCKED | {_IN_FAILED_TRANSACTION})
            return lost(error) if is_lost(error) and not is_of_the_operations else error
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a caller's; the writer goes on
            return error
        return None

    def _transact(self, jobs: list[Job]) -> None:
        """All of the jobs, or none."""
        connection = self._connection
        try:
            for self._running in jobs:
                self._running.result = self._running.operation(connection)
            self._running = None
            self._companion.before_commit(connection)
            if take_announcement(connection):
                connection.execute(_NOTIFY)
            _insist_on_a_sound_transaction(driver_of(connection))
            self._reached(BEFORE_COMMIT)
            connection.commit()
        except BaseException:
            self._undo()
            raise
        self._reached(AFTER_COMMIT)
        self._companion.committed()

    def _undo(self) -> None:
        with suppress(DBAPIError):  # a connection that is lost has undone it by itself
            self._connection.rollback()
        self._companion.abandoned()


def _accompany(companion: Companion, _: object, record: ConnectionPoolEntry) -> None:
    record.info[COMPANION] = companion


def _is_dead(connection: Connection) -> bool:
    """Whether the server has hung up, as far as this machine knows: asks nobody, waits for nothing."""
    if connection.invalidated:
        return True
    driver = driver_of(connection)
    try:
        driver.pgconn.consume_input()  # the server's last words,
        driver.pgconn.consume_input()  # and that none will follow
    except psycopg.Error:
        return True
    return driver.closed


def _revive(connection: Connection) -> None:
    """Connects again where the server has hung up, so that its restart costs no operation.

    Raises:
        DBAPIError: the server cannot be connected to.
    """
    if _is_dead(connection):
        connection.invalidate()
        connection.rollback()
        driver_of(connection)


def _insist_on_a_sound_transaction(driver: psycopg.Connection[Any]) -> None:
    """PostgreSQL answers COMMIT after a failed statement by a rollback, and calls that a success.

    Raises:
        HiddenFailure: an operation has hidden the failure of a statement.
    """
    if driver.info.transaction_status == TransactionStatus.INERROR:
        raise HiddenFailure("an operation went on after a statement had failed")


def _has_state(error: Exception | None, states: set[str]) -> bool:
    """Whether PostgreSQL has given one of these SQLSTATEs for its reason."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in states


def _told(error: Exception | None) -> Exception | None:
    """What the caller hears; that others stood in the way is no fault of its operation."""
    if isinstance(error, DBAPIError) and _has_state(error, _CONFLICTS | _BLOCKED):
        return lost(error)
    return error
