from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Coroutine
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, select

from ra.journal.audit import list_events
from ra.journal.chain import Chain
from ra.journal.database import Journal
from ra.journal.events import undocumented
from ra.journal.records import Refusal
from ra.journal.refusals import (
    FLUSH_EVERY_SECONDS,
    MAX_DETAIL,
    MAX_KEPT,
    MAX_WAITING,
    SUMMARY_EVERY,
    RefusalLog,
)
from ra.journal.tables import refusals
from tests.fakes.clock import FakeClock
from tests.fakes.enrolments import NOW
from tests.unit.journal.conftest import URL


def a_refusal(number: int = 0, *, detail: str = "no such secret") -> Refusal:
    return Refusal(
        at=NOW + timedelta(seconds=number),
        profile="default",
        reason="CHALLENGE_REFUSED",
        detail=detail,
        transaction_id=str(number).encode(),
    )


def kept(connection: Connection) -> list[Refusal]:
    """What is in the table, oldest first."""
    columns = (refusals.c[name] for name in Refusal.__slots__)
    return [Refusal(**row) for row in connection.execute(select(*columns).order_by(refusals.c.seq)).mappings()]


def summaries(connection: Connection) -> list[dict[str, Any]]:
    return [event for event in (each.read() for each in list_events(connection)) if event["event"] == "summary"]


def writes(directory: Path, *, are_let_in: bool) -> None:
    """By a trigger: whatever else the journal does goes on."""
    with closing(sqlite3.connect(directory / "ra.db")) as connection:
        if are_let_in:
            connection.execute("DROP TRIGGER away")
        else:
            connection.execute(
                "CREATE TRIGGER away BEFORE INSERT ON refusals BEGIN SELECT * FROM json_each('no JSON'); END"
            )


async def opened(directory: Path) -> Journal:
    return await Journal.open(URL, directory=directory, companion=Chain())


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 20))


def test_noting_a_refusal_writes_nothing_until_the_next_flush(directory: Path) -> None:
    async def body() -> None:
        journal = await opened(directory)
        log = RefusalLog(journal, FakeClock().now)
        log.note(a_refusal(1))
        log.note(a_refusal(2))
        before = await journal.read(kept)
        await log.flush()
        after = await journal.read(kept)
        await journal.aclose()
        assert [] == before
        assert [a_refusal(1), a_refusal(2)] == after

    run(body())


def test_what_is_too_much_is_forgotten_oldest_first_and_details_are_cut(directory: Path) -> None:
    async def body() -> None:
        journal = await opened(directory)
        log = RefusalLog(journal, FakeClock().now)
        for number in range(MAX_WAITING + 7):
            log.note(a_refusal(number, detail="x" * (MAX_DETAIL + 1)))
        await log.flush()
        rows = await journal.read(kept)
        await journal.aclose()
        assert MAX_WAITING == len(rows)
        assert (b"7", MAX_DETAIL) == (rows[0].transaction_id, len(rows[0].detail))

    run(body())


def test_the_table_is_bounded(directory: Path) -> None:
    async def body() -> None:
        journal = await opened(directory)
        log = RefusalLog(journal, FakeClock().now)
        for number in range(MAX_KEPT + MAX_WAITING):
            log.note(a_refusal(number))
            if number % MAX_WAITING == MAX_WAITING - 1:
                await log.flush()
        rows = await journal.read(lambda c: c.execute(select(func.count()).select_from(refusals)).scalar_one())
        await journal.aclose()
        assert MAX_KEPT == rows

    run(body())


def test_with_the_database_away_refusals_wait_for_it(directory: Path) -> None:
    async def body() -> None:
        journal = await opened(directory)
        log = RefusalLog(journal, FakeClock().now)
        log.note(a_refusal(1))
        writes(directory, are_let_in=False)
        await log.flush()
        log.note(a_refusal(2))
        writes(directory, are_let_in=True)
        await log.flush()
        rows = await journal.read(kept)
        await journal.aclose()
        assert [a_refusal(1), a_refusal(2)] == rows

    run(body())


def test_a_minute_is_summed_up_in_one_event(directory: Path) -> None:
    async def body() -> None:
        journal = await opened(directory)
        clock = FakeClock()
        log = RefusalLog(journal, clock.now)
        for number in range(MAX_WAITING + 7):
            log.note(a_refusal(number))
        log.count("default", "GetCACaps")
        log.count("default", "GetCACaps")
        log.count("other", "GetCACert")
        clock.advance(SUMMARY_EVERY / 2)
        await log.flush()
        before = await journal.read(summaries)
        clock.advance(SUMMARY_EVERY / 2)
        await log.flush()
        await log.flush()
        (event,) = await journal.read(summaries)
        await journal.aclose()
        assert [] == before
        assert {
            "event": "summary",
            "since": "2026-11-23T12:00:00.000000Z",
            "refusals": {"default": {"CHALLENGE_REFUSED": MAX_WAITING + 7}},
            "reads": {"default": {"GetCACaps": 2}, "other": {"GetCACert": 1}},
        } == event
        assert [] == undocumented(event)

    run(body())


def test_a_minute_without_strangers_leaves_no_event(directory: Path) -> None:
    async def body() -> None:
        journal = await opened(directory)
        clock = FakeClock()
        log = RefusalLog(journal, clock.now)
        for _ in range(3):
            clock.advance(SUMMARY_EVERY)
            await log.flush()
        events = await journal.read(list_events)
        await journal.aclose()
        assert () == events

    run(body())


def test_with_the_database_away_nothing_is_counted_less(directory: Path) -> None:
    async def body() -> None:
        journal = await opened(directory)
        clock = FakeClock()
        log = RefusalLog(journal, clock.now)
        log.count("default", "GetCACaps")
        log.note(a_refusal(1))
        clock.advance(SUMMARY_EVERY)
        writes(directory, are_let_in=False)
        flushing = asyncio.create_task(log.flush())
        await asyncio.sleep(0)
        log.count("default", "GetCACaps")
        log.note(a_refusal(2))
        await flushing
        writes(directory, are_let_in=True)
        await log.flush()
        (event,) = await journal.read(summaries)
        await journal.aclose()
        assert {"default": {"GetCACaps": 2}} == event["reads"]
        assert {"default": {"CHALLENGE_REFUSED": 2}} == event["refusals"]
        assert "2026-11-23T12:00:00.000000Z" == event["since"]

    run(body())


def test_the_log_is_flushed_every_second_and_once_more_at_the_end(directory: Path) -> None:
    slept: list[float] = []

    async def body() -> None:
        journal = await opened(directory)
        log = RefusalLog(journal, FakeClock().now)

        async def sleep(seconds: float) -> None:
            slept.append(seconds)
            log.note(a_refusal(len(slept)))
            if len(slept) > 1:
                raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await log.run(sleep)
        rows = await journal.read(kept)
        (event,) = await journal.read(summaries)
        await journal.aclose()
        assert [a_refusal(1), a_refusal(2)] == rows
        assert {"default": {"CHALLENGE_REFUSED": 2}} == event["refusals"]

    run(body())
    assert [FLUSH_EVERY_SECONDS] * 2 == slept
