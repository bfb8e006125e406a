"""The journal in PostgreSQL: any number of processes, each with one connection that writes and a few that read.

The network is waited for in threads. What waits to be written shares one transaction, so that it shares its round trips
for BEGIN and COMMIT and the server's wait for its disk.
"""

from __future__ import annotations

import asyncio
import threading
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

CONNECT_TIMEOUT_SECONDS = 5
UNANSWERED_SECONDS = 10
"""After so long without a sign of life from the server's machine, a connection is taken for lost."""

_LOCK = 0x5343_4550_5241  # "SCEPRA": which of the server's advisory locks is ours
_CHANNEL = "scep_ra"
_NOTIFY = select(func.pg_notify(_CHANNEL, ""))
_LISTEN_SECONDS = 0.5
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 2.0
_TRIES = 5
_CONFLICTS = {"40001", "40P01"}  # serialization_failure, deadlock_detected
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
            Misconfigured: it cannot be connected to.
        """
        with self._naming_what_is_wrong(), self._engine({}).connect():
            pass

    @contextmanager
    def alone(self) -> Iterator[Connection]:
        """One transaction in which nobody else makes or fills the database.

        Raises:
            Misconfigured: it cannot be connected to, or written.
        """
        with self._naming_what_is_wrong(), self._engine({}).begin() as connection:
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Reads the state of one moment, whatever is committed meanwhile.

        Raises:
            Misconfigured: it cannot be connected to, or read.
        """
        with self._naming_what_is_wrong(), self._engine({}).connect() as connection:
            options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
            with connection.execution_options(**options).begin():
                yield connection

    async def open(self, hooks: Hooks, patience_seconds: float) -> PostgresqlBackend:
        """For the running loop.

        Raises:
            Misconfigured: it cannot be connected to.
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
        return PostgresqlBackend(connection, reading, self._engine({}, isolation_level="AUTOCOMMIT"), hooks)

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
            raise Misconfigured(f"[database] url: {self}: {str(error.orig).strip()}") from error


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

    def __init__(self, writing: Connection, reading: Engine, listening: Engine, hooks: Hooks) -> None:
        self._writing = writing
        self._reading = reading
        self._listening = listening
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="journal reader")
        self._idle: list[Connection] = []
        self._bell = Bell()
        self._listener: Listener | None = None
        self.writer = PostgresqlWriter(writing, hooks)

    async def read(self, operation: Callable[[Connection], T]) -> T:
        """In a thread, on one of the connections that read."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, operation)

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

    def _read(self, operation: Callable[[Connection], T]) -> T:
        """Holds on to its connection: SQLAlchemy's pool would spend a fifth of what a look-up takes."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._reading.connect()
        try:
            _revive(connection)
            return operation(connection)
        finally:
            self._idle.append(connection)


class PostgresqlWriter(Writer):
    """The connection that writes. Each group is carried out in the writer's thread, from BEGIN to COMMIT."""

    def __init__(self, connection: Connection, hooks: Hooks) -> None:
        self._connection = connection
        self._companion = hooks.companion or NoCompanion()
        self._reached = hooks.reached
        super().__init__()

    async def _commit(self, jobs: list[Job]) -> None:
        if await self._is_connected():
            self._take(jobs)
            if jobs:
                await self._in_thread(self._carry_out, jobs)

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

    def _carry_out(self, jobs: list[Job]) -> None:
        """One transaction for all. Where an operation fails, one for each; where the database does, that is it.

        An operation has no effect but on the database.
        """
        error = self._attempt(jobs)
        if error is None:
            return
        for job in jobs:
            if not isinstance(error, Unavailable):
                error = self._attempt_alone(job)
            job.error = error

    def _attempt_alone(self, job: Job) -> Exception | None:
        """In a transaction of its own, several times where it meets those of other processes."""
        for _ in range(_TRIES):
            error = self._attempt([job])
            if not _is_conflict(error):
                return error
        return Unavailable("the database broke the operation off, time and again, for the sake of others")

    def _attempt(self, jobs: list[Job]) -> Exception | None:
        """Commits them together; what went wrong, Unavailable where that is the database. A commit is tried once."""
        try:
            self._transact(jobs)
        except DBAPIError as error:
            is_of_the_operations = _sqlstate(error) in _CONFLICTS | {_IN_FAILED_TRANSACTION}
            return lost(error) if is_lost(error) and not is_of_the_operations else error
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a caller's; the writer goes on
            return error
        return None

    def _transact(self, jobs: list[Job]) -> None:
        """All of the jobs, or none."""
        connection = self._connection
        try:
            for job in jobs:
                job.result = job.operation(connection)
            self._companion.before_commit(connection)
            if take_announcement(connection):
                connection.execute(_NOTIFY)
            _insist_on_a_sound_transaction(_driver(connection))
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


class Listener:
    """Rings when any process announces work: a thread with a connection of its own."""

    def __init__(self, engine: Engine, bell: Bell, loop: asyncio.AbstractEventLoop) -> None:
        self._engine = engine
        self._ring = partial(loop.call_soon_threadsafe, bell.ring)
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._is_closing.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_closing.is_set():
            with suppress(DBAPIError, psycopg.Error):
                self._listen()
            self._is_closing.wait(_LONGEST_PAUSE_SECONDS)

    def _listen(self) -> None:
        with self._engine.connect() as connection:
            driver = _driver(connection)
            driver.execute(f"LISTEN {_CHANNEL}")
            while not self._is_closing.is_set():
                for _ in driver.notifies(timeout=_LISTEN_SECONDS, stop_after=1):
                    self._ring()


def _accompany(companion: Companion, _: object, record: ConnectionPoolEntry) -> None:
    record.info[COMPANION] = companion


def _driver(connection: Connection) -> psycopg.Connection[Any]:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 - the engine is PostgreSQL's
    return driver


def _is_dead(connection: Connection) -> bool:
    """Whether the server has hung up, as far as this machine knows: asks nobody, waits for nothing."""
    if connection.invalidated:
        return True
    driver = _driver(connection)
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
        _driver(connection)


def _insist_on_a_sound_transaction(driver: psycopg.Connection[Any]) -> None:
    """PostgreSQL answers COMMIT after a failed statement by a rollback, and calls that a success.

    Raises:
        HiddenFailure: an operation has hidden the failure of a statement.
    """
    if driver.info.transaction_status == TransactionStatus.INERROR:
        raise HiddenFailure("an operation went on after a statement had failed")


def _is_conflict(error: Exception | None) -> bool:
    """Whether PostgreSQL has broken off a transaction for the sake of another one."""
    return isinstance(error, DBAPIError) and _sqlstate(error) in _CONFLICTS


def _sqlstate(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)
