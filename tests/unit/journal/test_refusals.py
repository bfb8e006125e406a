from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, select

from ra.journal.database import Journal
from ra.journal.records import Refusal
from ra.journal.refusals import FLUSH_EVERY_SECONDS, MAX_DETAIL, MAX_KEPT, MAX_WAITING, RefusalLog
from ra.journal.tables import refusals
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


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 20))


def test_noting_a_refusal_writes_nothing_until_the_next_flush(directory: Path) -> None:
    async def body() -> None:
        journal = await Journal.open(URL, directory=directory)
        log = RefusalLog(journal)
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
        journal = await Journal.open(URL, directory=directory)
        log = RefusalLog(journal)
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
        journal = await Journal.open(URL, directory=directory)
        log = RefusalLog(journal)
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
        journal = await Journal.open(URL, directory=directory)
        log = RefusalLog(journal)
        log.note(a_refusal(1))
        journal._writing.exec_driver_sql("PRAGMA query_only = ON")
        await log.flush()
        log.note(a_refusal(2))
        journal._writing.exec_driver_sql("PRAGMA query_only = OFF")
        await log.flush()
        rows = await journal.read(kept)
        await journal.aclose()
        assert [a_refusal(1), a_refusal(2)] == rows

    run(body())


def test_the_log_is_flushed_every_second_and_once_more_at_the_end(directory: Path) -> None:
    slept: list[float] = []

    async def body() -> None:
        journal = await Journal.open(URL, directory=directory)
        log = RefusalLog(journal)

        async def sleep(seconds: float) -> None:
            slept.append(seconds)
            log.note(a_refusal(len(slept)))
            if len(slept) > 1:
                raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await log.run(sleep)
        rows = await journal.read(kept)
        await journal.aclose()
        assert [a_refusal(1), a_refusal(2)] == rows

    run(body())
    assert [FLUSH_EVERY_SECONDS] * 2 == slept
