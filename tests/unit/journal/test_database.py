from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import stat
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from ra.errors import Misconfigured, Refused, Unavailable
from ra.journal.audit import list_events, record
from ra.journal.database import Journal
from ra.journal.statistics import count
from ra.journal.transactions import authorise, find, get, release
from tests.fakes.enrolments import NOW, a_certificate, a_secret, a_transaction, an_identity
from tests.unit.journal.conftest import URL

MIB = 1 << 20


class Fault(BaseException):
    """What nothing in the writer catches."""


@asynccontextmanager
async def opened(directory: Path, *, patience_seconds: float = 10.0) -> AsyncIterator[Journal]:
    journal = await Journal.open(URL, directory=directory, patience_seconds=patience_seconds)
    try:
        yield journal
    finally:
        await journal.aclose()


def note(connection: Connection, word: str) -> str:
    record(connection, NOW, {"event": word})
    return word


def note_and_raise(connection: Connection, error: BaseException) -> None:
    note(connection, "undone")
    raise error


def traced(journal: Journal) -> list[str]:
    """Every statement that SQLite itself is given to write with, from now on."""
    statements: list[str] = []
    driver = journal._writing.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    driver.set_trace_callback(statements.append)
    return statements


def words(directory: Path) -> list[str]:
    """The events that are durable, as another program sees them."""
    with closing(sqlite3.connect(directory / "ra.db")) as connection:
        return [row[0] for row in connection.execute("SELECT event ->> 'event' FROM audit ORDER BY seq")]


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 20))


# ---------------------------------------------------------------------------------------------- create, open


def test_the_file_is_the_owners_and_in_wal_mode(directory: Path) -> None:
    with closing(sqlite3.connect(directory / "ra.db")) as connection:
        assert ("wal",) == connection.execute("PRAGMA journal_mode").fetchone()
    assert 0o600 == stat.S_IMODE((directory / "ra.db").stat().st_mode)


def test_creating_what_exists_leaves_it_as_it_is(directory: Path) -> None:
    async def body() -> None:
        async with opened(directory) as journal:
            await journal.write(partial(note, word="kept"))

        Journal.create(URL, directory=directory)

    run(body())
    assert ["kept"] == words(directory)


@pytest.mark.parametrize(
    "url", ["ra.db", "sqlite://", "sqlite:///:memory:", "postgresql://host/ra", "sqlite+x:///ra.db"]
)
def test_a_url_that_names_no_sqlite_file_is_refused_with_what_to_write_instead(tmp_path: Path, url: str) -> None:
    with pytest.raises(Misconfigured, match=r"write sqlite:///ra\.db"):
        Journal.create(url, directory=tmp_path)


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"absent/ra\.db cannot be written"):
        Journal.create("sqlite:///absent/ra.db", directory=tmp_path)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "ra.db").write_bytes(b"something else" * 100)

    with pytest.raises(Misconfigured, match="file is not a database"):
        Journal.create(URL, directory=tmp_path)


def test_a_journal_that_was_not_created_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="does not exist"):
        run(opened(tmp_path).__aenter__())  # type: ignore[arg-type]  # it raises before there is a journal


# ---------------------------------------------------------------------------------------------- write


def test_what_is_written_is_durable_when_the_call_returns(directory: Path) -> None:
    async def body() -> None:
        async with opened(directory) as journal:
            assert "said" == await journal.write(partial(note, word="said"))
            assert ["said"] == words(directory)

    run(body())


def test_what_waits_together_is_committed_together(directory: Path) -> None:
    async def body() -> None:
        async with opened(directory) as journal:
            statements = traced(journal)
            await asyncio.gather(*(journal.write(partial(note, word=str(number))) for number in range(20)))
            assert 1 == statements.count("COMMIT")

    run(body())
    assert [str(number) for number in range(20)] == words(directory)


def test_an_operation_that_fails_is_undone_alone(directory: Path) -> None:
    error = LookupError("the operation's own")

    async def body() -> None:
        async with opened(directory) as journal:
            results = await asyncio.gather(
                journal.write(partial(note, word="before")),
                journal.write(partial(note_and_raise, error=error)),
                journal.write(partial(note, word="after")),
                return_exceptions=True,
            )
            assert ("before", error, "after") == tuple(results)

    run(body())
    assert ["before", "after"] == words(directory)


def test_a_refused_secret_leaves_no_transaction(directory: Path) -> None:
    thief = a_transaction(spend=a_secret())

    async def body() -> None:
        async with opened(directory) as journal:
            await journal.write(lambda c: authorise(c, a_transaction(spend=a_secret()), NOW))
            with pytest.raises(Refused):
                await journal.write(lambda c: authorise(c, thief, NOW))
            key = thief.identity
            assert await journal.read(lambda c: find(c, key.profile, key.signer_key, key.transaction_id)) is None

    run(body())


def test_identical_requests_at_once_become_one_transaction(directory: Path) -> None:
    first = a_transaction()

    async def body() -> None:
        async with opened(directory) as journal:
            same = [a_transaction(first.identity) for _ in range(16)]
            written = await asyncio.gather(*(journal.write(partial(authorise, new=new, now=NOW)) for new in same))
            assert 1 == len({transaction.id for transaction in written})

    run(body())


def test_a_full_disk_is_unavailable_until_there_is_room(directory: Path) -> None:
    async def body() -> None:
        async with opened(directory) as journal:
            await journal.write(partial(note, word="before"))
            journal._writing.exec_driver_sql("PRAGMA max_page_count = 1")
            results = await asyncio.gather(
                journal.write(partial(note, word="x" * MIB)),
                journal.write(partial(note, word="small")),
                return_exceptions=True,
            )
            journal._writing.exec_driver_sql("PRAGMA max_page_count = 1000000")
            await journal.write(partial(note, word="after"))
            assert ["the database: database or disk is full"] * 2 == [str(each) for each in results]
            assert {Unavailable} == {type(each) for each in results}

    run(body())
    assert ["before", "after"] == words(directory)


def test_another_programs_transaction_is_waited_for_without_stopping_the_loop(directory: Path) -> None:
    async def body() -> None:
        async with opened(directory) as journal:
            with closing(sqlite3.connect(directory / "ra.db", isolation_level=None)) as program:
                program.execute("BEGIN IMMEDIATE")
                writing = asyncio.create_task(journal.write(partial(note, word="said")))
                await asyncio.wait({writing}, timeout=0.05)
                assert not writing.done()
                program.execute("COMMIT")
            assert "said" == await writing

    run(body())


def test_another_processs_writer_is_waited_for_without_stopping_the_loop(directory: Path) -> None:
    async def body() -> None:
        async with opened(directory) as journal:
            lock = os.open(directory / "ra.db.lock", os.O_RDWR)
            fcntl.flock(lock, fcntl.LOCK_EX)
            writing = asyncio.create_task(journal.write(partial(note, word="said")))
            await asyncio.wait({writing}, timeout=0.05)
            assert not writing.done()
            os.close(lock)
            assert "said" == await writing

    run(body())


def test_what_comes_while_another_process_writes_is_committed_with_what_waited_already(directory: Path) -> None:
    async def body() -> None:
        async with opened(directory) as journal:
            commits = traced(journal)
            lock = os.open(directory / "ra.db.lock", os.O_RDWR)
            fcntl.flock(lock, fcntl.LOCK_EX)
            early = asyncio.create_task(journal.write(partial(note, word="early")))
            await asyncio.wait({early}, timeout=0.05)
            late = asyncio.create_task(journal.write(partial(note, word="late")))
            await asyncio.wait({late}, timeout=0.05)
            os.close(lock)
            await asyncio.gather(early, late)
            assert 1 == commits.count("COMMIT")

    run(body())
    assert ["early", "late"] == words(directory)


def test_a_turn_that_does_not_come_is_unavailable_and_nothing_is_committed_later(directory: Path) -> None:
    async def body() -> None:
        async with opened(directory, patience_seconds=0.05) as journal:
            lock = os.open(directory / "ra.db.lock", os.O_RDWR)
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(Unavailable, match="in time"):
                await journal.write(partial(note, word="late"))
            os.close(lock)

    run(body())
    assert [] == words(directory)


def test_what_is_cancelled_before_its_turn_is_not_written(directory: Path) -> None:
    async def body() -> None:
        async with opened(directory) as journal:
            writing = asyncio.create_task(journal.write(partial(note, word="cancelled")))
            await asyncio.sleep(0)
            writing.cancel()
            await journal.write(partial(note, word="said"))

    run(body())
    assert ["said"] == words(directory)


def test_closing_finishes_what_was_accepted_and_refuses_what_comes_later(directory: Path) -> None:
    async def body() -> None:
        async with opened(directory) as journal:
            writing = [asyncio.create_task(journal.write(partial(note, word=str(number)))) for number in range(100)]
            await asyncio.sleep(0)
        await asyncio.gather(*writing)
        assert not journal.is_alive
        with pytest.raises(Unavailable):
            await journal.write(partial(note, word="late"))

    run(body())
    assert [str(number) for number in range(100)] == words(directory)


def test_a_writer_that_dies_leaves_nobody_waiting(directory: Path) -> None:
    async def body() -> None:
        async with opened(directory) as journal:
            results = await asyncio.gather(
                journal.write(partial(note_and_raise, error=Fault())),
                journal.write(partial(note, word="beside")),
                return_exceptions=True,
            )
            assert [Unavailable, Unavailable] == [type(each) for each in results]
            assert not journal.is_alive
            with pytest.raises(Unavailable):
                await journal.write(partial(note, word="after"))
            async with opened(directory) as another:
                await another.write(partial(note, word="another process"))

    run(body())
    assert ["another process"] == words(directory)


# ---------------------------------------------------------------------------------------------- read


def test_a_read_sees_what_is_committed_also_after_one_that_failed(directory: Path) -> None:
    new = a_transaction()

    def read_and_raise(connection: Connection) -> None:
        connection.exec_driver_sql("SELECT * FROM audit").first()
        raise LookupError

    async def body() -> None:
        async with opened(directory) as journal:
            await journal.write(partial(note, word="said"))
            with pytest.raises(LookupError):
                await journal.read(read_and_raise)
            await journal.write(lambda c: authorise(c, new, NOW))
            assert new.id == (await journal.read(lambda c: get(c, new.id))).id
            assert ["said", "decision"] == [each.event["event"] for each in await journal.read(list_events)]

    run(body())


def test_a_read_that_writes_is_refused(directory: Path) -> None:
    async def body() -> None:
        async with opened(directory) as journal:
            with pytest.raises(Unavailable, match="readonly"):
                await journal.read(partial(note, word="never"))

    run(body())
    assert [] == words(directory)


def test_certificates_are_counted_and_renewals_among_them(directory: Path) -> None:
    async def body() -> None:
        async with opened(directory) as journal:
            for renewal_signer in (None, None, b"r" * 32):
                new = a_transaction(an_identity(renewal_signer=renewal_signer))
                transaction = await journal.write(partial(authorise, new=new, now=NOW))
                settle = partial(release, transaction=transaction, now=NOW, delivered=True)
                await journal.write(partial(settle, certificate=a_certificate()))
            statistics = await journal.read(count)
            assert (3, 1) == (statistics.issued, statistics.renewals)

    run(body())
