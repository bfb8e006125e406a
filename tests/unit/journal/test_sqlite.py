"""What is SQLite's own: the file, its lock, and whom it makes wait."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import stat
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection

from ra.errors import Misconfigured, Unavailable
from ra.journal import transactions
from ra.journal.chain import Chain
from ra.journal.database import Journal
from ra.journal.sqlite import SqliteBackend
from tests.fakes.enrolments import NOW, a_transaction
from tests.fakes.notes import Notebook, note, opened, run, words

MIB = 1 << 20


@pytest.fixture
def url(tmp_path: Path) -> str:
    Journal.create("sqlite:///ra.db", directory=tmp_path)
    return f"sqlite:///{tmp_path}/ra.db"


# ---------------------------------------------------------------------------------------------- the file


def test_the_file_is_the_owners_and_in_wal_mode(url: str, tmp_path: Path) -> None:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        assert ("wal",) == connection.execute("PRAGMA journal_mode").fetchone()
    assert 0o600 == stat.S_IMODE((tmp_path / "ra.db").stat().st_mode)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "ra.db").write_bytes(b"something else" * 100)

    with pytest.raises(Misconfigured, match=r"ra\.db cannot be written: file is not a database"):
        Journal.create("sqlite:///ra.db", directory=tmp_path)
    with pytest.raises(Misconfigured, match=r"ra\.db cannot be opened: file is not a database"):
        run(Journal.open("sqlite:///ra.db", directory=tmp_path))  # type: ignore[arg-type]  # it raises


def test_a_row_that_cannot_be_read_is_the_databases_fault(url: str) -> None:
    new = a_transaction()

    def recalled(connection: Connection) -> None:
        transactions.recall(connection, new.identity, NOW)

    async def body() -> None:
        async with opened(url, companion=Chain()) as journal:
            await journal.write(lambda c: transactions.authorise(c, new, NOW))
            with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as other:
                other.execute("UPDATE transactions SET subject = CAST(x'ff' AS TEXT)")
                other.commit()
            with pytest.raises(Unavailable):
                await journal.read(recalled)
            with pytest.raises(Unavailable):
                await journal.write(recalled)

    run(body())


# ---------------------------------------------------------------------------------------------- write


def test_a_full_disk_is_unavailable_until_there_is_room(url: str) -> None:
    companion = Notebook()

    async def body() -> None:
        async with opened(url, companion=companion) as journal:
            await journal.write(partial(note, word="before"))
            backend = journal._backend
            assert isinstance(backend, SqliteBackend)
            backend._writing.exec_driver_sql("PRAGMA max_page_count = 1")
            results = await asyncio.gather(
                journal.write(partial(note, word="x" * MIB)),
                journal.write(partial(note, word="small")),
                return_exceptions=True,
            )
            backend._writing.exec_driver_sql("PRAGMA max_page_count = 1000000")
            await journal.write(partial(note, word="after"))
            assert ["the database: database or disk is full"] * 2 == [str(each) for each in results]
            assert {Unavailable} == {type(each) for each in results}

    run(body())
    assert ["before", "after"] == words(url)
    assert ["committed", "abandoned", "committed"] == companion.told


def test_another_programs_transaction_is_waited_for_without_stopping_the_loop(url: str, tmp_path: Path) -> None:
    async def body() -> None:
        async with opened(url) as journal:
            with closing(sqlite3.connect(tmp_path / "ra.db", isolation_level=None)) as program:
                program.execute("BEGIN IMMEDIATE")
                writing = asyncio.create_task(journal.write(partial(note, word="said")))
                await asyncio.wait({writing}, timeout=0.05)
                assert not writing.done()
                program.execute("COMMIT")
            assert "said" == await writing

    run(body())


def test_another_processs_writer_is_waited_for_without_stopping_the_loop(url: str, tmp_path: Path) -> None:
    async def body() -> None:
        async with opened(url) as journal:
            lock = os.open(tmp_path / "ra.db.lock", os.O_RDWR)
            fcntl.flock(lock, fcntl.LOCK_EX)
            writing = asyncio.create_task(journal.write(partial(note, word="said")))
            await asyncio.wait({writing}, timeout=0.05)
            assert not writing.done()
            os.close(lock)
            assert "said" == await writing

    run(body())


def test_what_comes_while_another_process_writes_is_committed_with_what_waited_already(
    url: str, tmp_path: Path
) -> None:
    companion = Notebook()

    async def body() -> None:
        async with opened(url, companion=companion) as journal:
            lock = os.open(tmp_path / "ra.db.lock", os.O_RDWR)
            fcntl.flock(lock, fcntl.LOCK_EX)
            early = asyncio.create_task(journal.write(partial(note, word="early")))
            await asyncio.wait({early}, timeout=0.05)
            late = asyncio.create_task(journal.write(partial(note, word="late")))
            await asyncio.wait({late}, timeout=0.05)
            os.close(lock)
            await asyncio.gather(early, late)

    run(body())
    assert ["committed"] == companion.told
    assert ["early", "late"] == words(url)


def test_a_turn_that_does_not_come_is_unavailable_and_nothing_is_committed_later(url: str, tmp_path: Path) -> None:
    async def body() -> None:
        async with opened(url, patience_seconds=0.05) as journal:
            lock = os.open(tmp_path / "ra.db.lock", os.O_RDWR)
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(Unavailable, match="in time"):
                await journal.write(partial(note, word="late"))
            os.close(lock)

    run(body())
    assert [] == words(url)
