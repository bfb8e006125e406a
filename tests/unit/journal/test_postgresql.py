"""What is PostgreSQL's own: connections that are lost, and transactions of other processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from threading import Barrier

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from connectors.api import Secret
from ra.errors import Misconfigured, Unavailable
from ra.journal.database import Journal, place_of
from ra.journal.lines import CONNECT_TIMEOUT_SECONDS
from ra.journal.postgresql import READERS, HiddenFailure
from ra.journal.wakeup import announce
from tests.fakes.notes import NOWHERE, Notebook, note, opened, read_words, run, words
from tests.fakes.postgres import Cluster

pytestmark = pytest.mark.peer

HANG_UP = text(
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
    "WHERE application_name = 'scep-ra' AND pid <> pg_backend_pid()"
)
MARK = text("UPDATE refusals SET detail = detail || '!' WHERE seq = :seq")


@pytest.fixture
def url(postgres: Cluster) -> str:
    return postgres.journal()


@pytest.fixture
def restarted(postgres: Cluster) -> Iterator[Callable[[], None]]:
    """Starts the server again after a test has stopped it."""
    yield postgres.start
    if not postgres.is_running:
        postgres.start()


def hang_up(connection: Connection) -> None:
    """Ends the server's side of this very connection."""
    connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")


def hang_up_on_everybody(url: str) -> None:
    with place_of(url, directory=NOWHERE).alone() as connection:
        connection.execute(HANG_UP)


# ---------------------------------------------------------------------------------------------- lost connections


def test_a_connection_that_is_lost_in_between_costs_nothing(url: str) -> None:
    async def body() -> None:
        async with opened(url, companion=Notebook()) as journal:
            await journal.write(partial(note, word="before"))
            assert ["before"] == await journal.read(read_words)
            hang_up_on_everybody(url)
            await journal.write(partial(note, word="after"))
            assert ["before", "after"] == await journal.read(read_words)
            assert await journal.write(lambda connection: "companion" in connection.info)

    run(body())


def test_a_connection_that_is_lost_half_way_is_unavailable_to_all_and_undone(url: str) -> None:
    companion = Notebook()

    async def body() -> None:
        async with opened(url, companion=companion) as journal:
            results = await asyncio.gather(
                journal.write(partial(note, word="before")), journal.write(hang_up), return_exceptions=True
            )
            assert [Unavailable, Unavailable] == [type(each) for each in results]
            assert "terminating connection" in str(results[0])
            await journal.write(partial(note, word="after"))

    run(body())
    assert ["after"] == words(url)
    assert ["abandoned", "committed"] == companion.told


def test_a_connection_that_is_lost_while_committing_is_unavailable_and_tried_no_second_time(url: str) -> None:
    done: list[str] = []

    def lose(point: str) -> None:
        if point == "journal:before-commit" and len(done) == 1:
            hang_up_on_everybody(url)

    def operation(connection: Connection) -> None:
        done.append(note(connection, "said"))

    async def body() -> None:
        async with opened(url, reached=lose) as journal:
            with pytest.raises(Unavailable):
                await journal.write(operation)
            assert ["said"] == done

    run(body())


def test_a_read_whose_connection_is_lost_is_unavailable(url: str) -> None:
    async def body() -> None:
        async with opened(url) as journal:
            with pytest.raises(Unavailable):
                await journal.read(hang_up)
            assert [] == await journal.read(read_words)

    run(body())


def test_a_server_that_is_away_is_waited_for(url: str, postgres: Cluster, restarted: Callable[[], None]) -> None:
    async def body() -> None:
        async with opened(url) as journal:
            postgres.stop()
            writing = asyncio.create_task(journal.write(partial(note, word="said")))
            with pytest.raises(Unavailable):
                await journal.read(read_words)
            assert not writing.done()
            await asyncio.to_thread(restarted)
            assert "said" == await writing

    run(body())
    assert ["said"] == words(url)


@pytest.mark.usefixtures("restarted")
def test_a_server_that_stays_away_is_unavailable_and_does_not_keep_the_journal_from_closing(
    url: str, postgres: Cluster
) -> None:
    async def body() -> None:
        async with opened(url, patience_seconds=0.1) as journal:
            postgres.stop()
            with pytest.raises(Unavailable, match="in time"):
                await journal.write(partial(note, word="late"))

    run(body())


# ---------------------------------------------------------------------------------------------- no answer


def test_a_server_that_answers_nothing_is_unavailable_in_time_and_used_again_once_it_does(
    url: str, postgres: Cluster
) -> None:
    patience = 0.5

    async def body() -> None:
        loop = asyncio.get_running_loop()
        async with opened(url, patience_seconds=patience) as journal:
            await journal.write(partial(note, word="before"))
            with postgres.frozen():
                begun = loop.time()
                results = await asyncio.gather(
                    *(journal.read(read_words) for _ in range(READERS + 1)),
                    journal.write(partial(note, word="unheard")),
                    return_exceptions=True,
                )
                seconds = loop.time() - begun
            assert {Unavailable} == {type(each) for each in results}
            assert seconds < 3 * patience
            await journal.write(partial(note, word="after"))
            assert {"before", "after"} <= set(await journal.read(read_words))

    run(body())


def test_a_server_that_answers_nothing_does_not_keep_the_journal_from_closing(url: str, postgres: Cluster) -> None:
    async def body() -> None:
        journal = await Journal.open(url, directory=NOWHERE, patience_seconds=0.2)
        await journal.wait_for_work(0.01)
        reading = asyncio.create_task(journal.read(read_words))
        await journal.read(read_words)
        with postgres.frozen():
            writing = asyncio.create_task(journal.write(partial(note, word="unheard")))
            abandoned = asyncio.create_task(journal.read(read_words))
            await asyncio.sleep(0)
            abandoned.cancel()
            await asyncio.wait_for(journal.aclose(), 2 * CONNECT_TIMEOUT_SECONDS)
            results = await asyncio.gather(reading, writing, abandoned, return_exceptions=True)
        assert [Unavailable, asyncio.CancelledError] == [type(each) for each in results[1:]]

    run(body())


# ---------------------------------------------------------------------------------------------- other processes


def test_what_two_processes_lock_in_the_opposite_order_is_committed_by_both(url: str) -> None:
    both_hold_one = Barrier(2, timeout=10)
    tries = []

    def lock_both(connection: Connection, first: int, second: int) -> None:
        tries.append(first)
        connection.execute(MARK, {"seq": first})
        if len(tries) <= 2:
            both_hold_one.wait()
        connection.execute(MARK, {"seq": second})

    async def body() -> None:
        async with opened(url) as one, opened(url) as another:
            await one.write(partial(note, word="1"))
            await one.write(partial(note, word="2"))
            await asyncio.gather(
                one.write(partial(lock_both, first=1, second=2)), another.write(partial(lock_both, first=2, second=1))
            )

    run(body())
    assert ["1!!", "2!!"] == words(url)
    assert 3 <= len(tries)


def test_a_row_that_somebody_locks_for_too_long_is_unavailable(url: str) -> None:
    async def body() -> None:
        async with opened(url, patience_seconds=0.2) as journal:
            await journal.write(partial(note, word="said"))
            with place_of(url, directory=NOWHERE).alone() as somebody:
                somebody.execute(text("SELECT * FROM refusals FOR UPDATE"))
                with pytest.raises(Unavailable, match="lock timeout"):
                    await journal.write(lambda c: c.execute(text("DELETE FROM refusals")).rowcount)
            assert 1 == await journal.write(lambda c: c.execute(text("DELETE FROM refusals")).rowcount)

    run(body())


@pytest.mark.parametrize("why", ["lock timeout", "statement timeout"])
def test_of_those_that_wait_together_only_the_one_that_is_blocked_is_unavailable(url: str, why: str) -> None:
    def block(connection: Connection) -> None:
        slow = "DELETE FROM refusals WHERE detail = 'said'" if why == "lock timeout" else "SELECT pg_sleep(9)"
        connection.exec_driver_sql(slow)

    async def body() -> None:
        async with opened(url, patience_seconds=0.4) as journal:
            await journal.write(partial(note, word="said"))
            with place_of(url, directory=NOWHERE).alone() as somebody:
                somebody.execute(text("SELECT * FROM refusals FOR UPDATE"))
                results = await asyncio.gather(
                    journal.write(partial(note, word="one")),
                    journal.write(block),
                    journal.write(partial(note, word="two")),
                    return_exceptions=True,
                )
            assert ["one", Unavailable, "two"] == [
                type(each) if isinstance(each, Exception) else each for each in results
            ]
            assert why in str(results[1])

    run(body())
    assert ["one", "said", "two"] == sorted(words(url))


def test_a_failure_that_an_operation_hides_is_not_taken_for_a_commit(url: str) -> None:
    def hide(connection: Connection) -> str:
        note(connection, "hidden")
        with pytest.raises(IntegrityError):
            connection.exec_driver_sql("INSERT INTO facts (name, value) VALUES (NULL, NULL)")
        return "fine"

    async def body() -> None:
        async with opened(url) as journal:
            results = await asyncio.gather(
                journal.write(hide), journal.write(partial(note, word="beside")), return_exceptions=True
            )
            assert [HiddenFailure, str] == [type(each) for each in results]

    run(body())
    assert ["beside"] == words(url)


def test_work_is_announced_to_other_processes_also_after_a_lost_connection(url: str) -> None:
    async def body() -> None:
        async with opened(url) as one, opened(url) as another:
            for _ in range(2):
                waiting = asyncio.create_task(one.wait_for_work(60))
                while not waiting.done():
                    await another.write(announce)
                hang_up_on_everybody(url)

    run(body())


# ---------------------------------------------------------------------------------------------- settings


def test_commits_are_durable_and_waits_are_bounded_whatever_the_server_is_set_to(url: str, postgres: Cluster) -> None:
    name = url.partition("@/")[2].partition("?")[0]
    postgres.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")

    def settings(connection: Connection) -> list[str]:
        names = ("synchronous_commit", "lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
        return [str(connection.exec_driver_sql(f"SHOW {each}").scalar()) for each in names]

    async def body() -> None:
        async with opened(url, patience_seconds=8) as journal:
            assert ["on", "4s", "8s", "8s"] == await journal.write(settings)

    run(body())


def test_the_password_is_handed_over_and_never_shown() -> None:
    place = place_of("postgresql://ra@127.0.0.1:1/ra", directory=NOWHERE, password=Secret("s3cret"))

    with pytest.raises(Unavailable) as refused:
        place.check()

    assert "s3cret" in place._url.render_as_string(hide_password=False)  # type: ignore[attr-defined]  # PostgreSQL's
    assert "s3cret" not in f"{place}{refused.value}"


def test_a_server_that_is_away_is_not_misconfigured_and_one_that_says_no_is(url: str) -> None:
    nobody = url.replace("/journal", "/nobody_has_made")
    for wrong, kind in (("postgresql://ra@127.0.0.1:1/ra", Unavailable), (nobody, Misconfigured)):
        with pytest.raises(kind, match=r"^\[database\] url: postgresql:"):
            place_of(wrong, directory=NOWHERE).check()
        with pytest.raises(kind):
            asyncio.run(Journal.open(wrong, directory=NOWHERE))
