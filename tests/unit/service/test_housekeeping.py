"""Chores are done by one worker at a time, as often as its configuration says now."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from ra.errors import Unavailable
from ra.journal.chain import Chain
from ra.journal.database import Journal
from ra.service.housekeeping import LONGEST, Chore, Housekeeping
from tests.fakes.clock import FakeClock

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)
ONE, OTHER = UUID(int=1), UUID(int=2)


class Work:
    """Counts how often it is done; `fault` is what it ends with."""

    def __init__(self) -> None:
        self.done = 0
        self.fault: BaseException | None = None

    async def do(self) -> None:
        self.done += 1
        if self.fault is not None:
            raise self.fault


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def journal(journal_url: str) -> AsyncIterator[Journal]:
    opened = await Journal.open(journal_url, directory=Path(), companion=Chain())
    yield opened
    await opened.aclose()


def keeping(journal: Journal, clock: FakeClock, work: Work, *, minutes: int = 60, holder: UUID = ONE) -> Housekeeping:
    chore = Chore(name="ask", every=minutes * MINUTE, do=work.do)
    return Housekeeping(journal=journal, chores=(chore,), holder=holder, clock=clock)


async def test_a_chore_is_done_by_one_worker_and_again_when_it_is_due(journal: Journal, clock: FakeClock) -> None:
    work = Work()
    one, other = keeping(journal, clock, work), keeping(journal, clock, work, holder=OTHER)

    counts = []
    for minutes in (0, 59, 1, 1):
        clock.advance(minutes * MINUTE)
        await one.keep()
        await other.keep()
        counts.append(work.done)

    assert [1, 1, 2, 2] == counts


async def test_a_shorter_interval_counts_at_once(journal: Journal, clock: FakeClock) -> None:
    work = Work()
    await keeping(journal, clock, work, minutes=60).keep()
    clock.advance(MINUTE)

    await keeping(journal, clock, work, minutes=1, holder=OTHER).keep()

    assert 2 == work.done


async def test_a_chore_that_is_at_work_is_left_alone(journal: Journal, clock: FakeClock) -> None:
    work = Work()
    other = keeping(journal, clock, work, minutes=1, holder=OTHER)

    async def work_long() -> None:
        clock.advance(LONGEST - MINUTE)
        await other.keep()

    chore = Chore(name="ask", every=60 * MINUTE, do=work_long)
    await Housekeeping(journal=journal, chores=(chore,), holder=ONE, clock=clock).keep()

    assert 0 == work.done


async def test_what_a_worker_that_ends_has_begun_is_begun_anew_at_once(journal: Journal, clock: FakeClock) -> None:
    work = Work()
    work.fault = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await keeping(journal, clock, work).keep()
    work.fault = None

    await keeping(journal, clock, work, holder=OTHER).keep()

    assert 2 == work.done


async def test_what_a_worker_that_was_killed_has_begun_waits_for_its_lease(journal: Journal, clock: FakeClock) -> None:
    work, killed = Work(), asyncio.Event()

    async def die() -> None:
        killed.set()
        await asyncio.Event().wait()

    chore = Chore(name="ask", every=60 * MINUTE, do=die)
    dead = asyncio.create_task(Housekeeping(journal=journal, chores=(chore,), holder=ONE, clock=clock).keep())
    await killed.wait()
    other = keeping(journal, clock, work, holder=OTHER)

    await other.keep()
    early = work.done
    clock.advance(LONGEST)
    await other.keep()
    dead.cancel()

    assert (0, 1) == (early, work.done)


async def test_what_has_failed_is_put_off_until_it_is_due_again(journal: Journal, clock: FakeClock) -> None:
    work = Work()
    work.fault = Unavailable("away")
    keeper = keeping(journal, clock, work)
    with pytest.raises(Unavailable):
        await keeper.keep()

    await keeper.keep()

    assert 1 == work.done
