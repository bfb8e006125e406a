"""What holds for a journal whatever database it is in."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection

from ra.errors import Misconfigured, Unavailable
from ra.journal.database import Journal
from ra.journal.wakeup import announce
from tests.fakes.notes import (
    NOWHERE,
    Fault,
    Notebook,
    note,
    note_and_raise,
    note_twice,
    opened,
    read_words,
    run,
    words,
)

# ---------------------------------------------------------------------------------------------- place


@pytest.mark.parametrize(
    "url",
    [
        "ra.db",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite+x:///ra.db",
        "mysql://host/ra",
        "postgresql://host",
        "a://b:c",
    ],
)
def test_a_url_that_names_no_database_is_refused_with_what_to_write_instead(tmp_path: Path, url: str) -> None:
    with pytest.raises(Misconfigured, match=r"write sqlite:///ra\.db or postgresql://USER@HOST/NAME"):
        Journal.create(url, directory=tmp_path)


# ---------------------------------------------------------------------------------------------- write


def test_what_is_written_is_durable_when_the_call_returns(journal_url: str) -> None:
    async def body() -> None:
        async with opened(journal_url) as journal:
            assert "said" == await journal.write(partial(note, word="said"))
            assert ["said"] == words(journal_url)

    run(body())


def test_what_waits_together_is_committed_together(journal_url: str) -> None:
    companion = Notebook()

    async def body() -> None:
        async with opened(journal_url, companion=companion) as journal:
            await asyncio.gather(*(journal.write(partial(note, word=str(number))) for number in range(20)))

    run(body())
    assert ["committed"] == companion.told
    assert [str(number) for number in range(20)] == words(journal_url)


def test_an_operation_that_fails_is_undone_alone(journal_url: str) -> None:
    error = LookupError("the operation's own")

    async def body() -> None:
        async with opened(journal_url) as journal:
            results = await asyncio.gather(
                journal.write(partial(note, word="before")),
                journal.write(partial(note_and_raise, error=error)),
                journal.write(partial(note, word="after")),
                return_exceptions=True,
            )
            assert ("before", error, "after") == tuple(results)

    run(body())
    assert ["before", "after"] == words(journal_url)


def test_a_statement_that_fails_is_its_operations_own_failure(journal_url: str) -> None:
    def break_a_rule(connection: Connection) -> None:
        note(connection, "undone")
        connection.exec_driver_sql("INSERT INTO facts (name, value) VALUES (NULL, NULL)")

    async def body() -> None:
        async with opened(journal_url) as journal:
            results = await asyncio.gather(
                journal.write(partial(note, word="before")), journal.write(break_a_rule), return_exceptions=True
            )
            assert ["before", "IntegrityError"] == [results[0], type(results[1]).__name__]

    run(body())
    assert ["before"] == words(journal_url)


def test_the_companion_writes_with_the_operations_it_belongs_to(journal_url: str) -> None:
    companion = Notebook()

    def note_twice_and_raise(connection: Connection) -> None:
        note_twice(connection, "undone")
        raise LookupError

    async def body() -> None:
        async with opened(journal_url, companion=companion) as journal:
            await asyncio.gather(
                journal.write(partial(note_twice, word="one")),
                journal.write(note_twice_and_raise),
                journal.write(partial(note_twice, word="two")),
                return_exceptions=True,
            )

    run(body())
    assert ["one", "two", "with one", "with two"] == sorted(words(journal_url))
    assert {"abandoned", "committed"} == set(companion.told)


def test_the_points_before_and_after_the_commit_are_named(journal_url: str) -> None:
    seen: list[tuple[str, list[str]]] = []

    def look(point: str) -> None:
        seen.append((point, words(journal_url)))

    async def body() -> None:
        async with opened(journal_url, reached=look) as journal:
            await journal.write(partial(note, word="said"))

    run(body())
    assert [("journal:before-commit", []), ("journal:after-commit", ["said"])] == seen


def test_what_is_cancelled_before_its_turn_is_not_written(journal_url: str) -> None:
    async def body() -> None:
        async with opened(journal_url) as journal:
            writing = asyncio.create_task(journal.write(partial(note, word="cancelled")))
            await asyncio.sleep(0)
            writing.cancel()
            await journal.write(partial(note, word="said"))

    run(body())
    assert ["said"] == words(journal_url)


def test_closing_finishes_what_was_accepted_and_refuses_what_comes_later(journal_url: str) -> None:
    async def body() -> None:
        async with opened(journal_url) as journal:
            writing = [asyncio.create_task(journal.write(partial(note, word=str(number)))) for number in range(100)]
            await asyncio.sleep(0)
        await asyncio.gather(*writing)
        assert not journal.is_alive
        with pytest.raises(Unavailable):
            await journal.write(partial(note, word="late"))

    run(body())
    assert [str(number) for number in range(100)] == words(journal_url)


def test_a_writer_that_dies_leaves_nobody_waiting_and_nothing_locked(journal_url: str) -> None:
    async def body() -> None:
        async with opened(journal_url) as journal:
            results = await asyncio.gather(
                journal.write(partial(note_and_raise, error=Fault())),
                journal.write(partial(note, word="beside")),
                return_exceptions=True,
            )
            assert [Unavailable, Unavailable] == [type(each) for each in results]
            assert not journal.is_alive
            with pytest.raises(Unavailable):
                await journal.write(partial(note, word="after"))
            async with opened(journal_url) as another:
                await another.write(partial(note, word="another process"))

    run(body())
    assert ["another process"] == words(journal_url)


# ---------------------------------------------------------------------------------------------- read


def test_a_read_sees_what_is_committed_also_after_one_that_failed(journal_url: str) -> None:
    def read_and_raise(connection: Connection) -> None:
        read_words(connection)
        raise LookupError

    async def body() -> None:
        async with opened(journal_url) as journal:
            await journal.write(partial(note, word="one"))
            with pytest.raises(LookupError):
                await journal.read(read_and_raise)
            await journal.write(partial(note, word="two"))
            assert ["one", "two"] == await journal.read(read_words)

    run(body())


def test_a_read_that_writes_is_refused(journal_url: str) -> None:
    async def body() -> None:
        async with opened(journal_url) as journal:
            with pytest.raises(Unavailable, match=r"read-?only"):
                await journal.read(partial(note, word="never"))

    run(body())
    assert [] == words(journal_url)


# ---------------------------------------------------------------------------------------------- wait_for_work


def note_and_announce(connection: Connection) -> None:
    note(connection, "work")
    announce(connection)


def test_who_waits_for_work_is_woken_by_a_commit_that_announces_some(journal_url: str) -> None:
    async def body() -> None:
        async with opened(journal_url) as journal:
            waiting = [asyncio.create_task(journal.wait_for_work(60)) for _ in range(2)]
            while not all(each.done() for each in waiting):
                await journal.write(note_and_announce)

    run(body())


def test_who_waits_for_work_sleeps_through_commits_that_announce_none(journal_url: str) -> None:
    async def body() -> None:
        async with opened(journal_url) as journal:
            waiting = asyncio.create_task(journal.wait_for_work(60))
            for number in range(20):
                await journal.write(partial(note, word=str(number)))
            assert not waiting.done()
            waiting.cancel()

    run(body())


def test_waiting_for_work_ends_by_itself(journal_url: str) -> None:
    async def body() -> None:
        async with opened(journal_url) as journal:
            await journal.wait_for_work(0.01)

    run(body())


# ---------------------------------------------------------------------------------------------- open


def test_a_journal_that_was_not_created_is_not_opened(empty_database_url: str) -> None:
    with pytest.raises(Misconfigured, match=r"does not exist|run `scep-ra db upgrade`"):
        run(opened(empty_database_url).__aenter__())  # type: ignore[arg-type]  # it raises before there is a journal


def test_a_journal_in_a_directory_or_on_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"absent/ra\.db cannot be written"):
        Journal.create("sqlite:///absent/ra.db", directory=tmp_path)
    with pytest.raises(Unavailable, match=r"postgresql://ra:\*\*\*@127\.0\.0\.1:1/ra: .*refused"):
        Journal.create("postgresql://ra:secret@127.0.0.1:1/ra", directory=NOWHERE)
