"""The audit is sealed by whichever worker has the lease, each with what it remembers."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, update
from structlog.testing import capture_logs

from ra.journal import audit
from ra.journal.chain import Chain
from ra.journal.checkpoints import newest
from ra.journal.database import Journal, place_of
from ra.journal.export import stream_sealed
from ra.journal.tables import audit_checkpoints, audit_events
from ra.journal.verify import Report, verify
from ra.service.seal import Sealing
from tests.fakes.audited import SIGNER
from tests.fakes.clock import FakeClock

pytestmark = pytest.mark.anyio

DAY = timedelta(days=1)
HERE = Path()
"""Nothing lies beside a database whose URL is absolute."""


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


async def opened(url: str) -> Journal:
    return await Journal.open(url, directory=HERE, companion=Chain())


async def write(journal: Journal, clock: FakeClock, kind: str = "decision") -> None:
    await journal.write(lambda c: audit.record(c, clock.now(), {"event": kind}))


def look(url: str) -> Report:
    with place_of(url, directory=HERE).snapshot() as connection:
        return verify(connection, SIGNER.public_key(), newest(connection))


def sealing(journal: Journal, clock: FakeClock, *, keep_days: int = 0) -> Sealing:
    return Sealing(journal=journal, signer=SIGNER, clock=clock, keep_days=keep_days)


async def test_two_workers_seal_in_turn_what_both_have_written(journal_url: str, clock: FakeClock) -> None:
    one, other = await opened(journal_url), await opened(journal_url)
    first, second = sealing(one, clock), sealing(other, clock)
    for journal, seals in ((one, second), (other, first), (one, first), (other, second)):
        await write(journal, clock)
        await seals.seal()

    report = look(journal_url)

    await one.aclose()
    await other.aclose()
    assert ((), 2, 4, 4, 0) == (
        report.breaks,
        report.chains,
        report.checkpoints,
        report.sealed_by,
        report.unsealed,
    )


async def test_what_is_new_is_sealed_once(journal_url: str, clock: FakeClock) -> None:
    journal = await opened(journal_url)
    seals = sealing(journal, clock)
    await seals.seal()
    await write(journal, clock)
    await seals.seal()
    await seals.seal()

    report = look(journal_url)

    await journal.aclose()
    assert (1, 2) == (report.checkpoints, report.events)


async def test_a_chain_that_was_killed_is_sealed_by_the_next_process(journal_url: str, clock: FakeClock) -> None:
    killed = await opened(journal_url)
    await write(killed, clock)
    await killed.aclose()
    journal = await opened(journal_url)
    await write(journal, clock)
    await sealing(journal, clock).seal()

    report = look(journal_url)

    await journal.aclose()
    assert ((), 2, 0) == (report.breaks, report.chains, report.unsealed)


@pytest.mark.parametrize(("keep_days", "kept"), [(0, 4), (30, 2)])
async def test_the_audit_is_kept_as_long_as_is_said(
    journal_url: str, clock: FakeClock, keep_days: int, kept: int
) -> None:
    before = await opened(journal_url)
    await write(before, clock)
    await sealing(before, clock).seal()
    await before.aclose()
    clock.advance(31 * DAY)
    journal = await opened(journal_url)
    await write(journal, clock)
    await sealing(journal, clock, keep_days=keep_days).seal()

    report = look(journal_url)

    await journal.aclose()
    assert (0, kept) == (report.broken, report.events)


async def test_a_worker_that_had_nothing_to_audit_for_longer_than_it_is_kept_begins_anew(
    journal_url: str, clock: FakeClock
) -> None:
    idle, busy = await opened(journal_url), await opened(journal_url)
    await write(idle, clock)
    await sealing(busy, clock, keep_days=1).seal()
    clock.advance(3 * DAY)
    await write(busy, clock)
    await sealing(busy, clock, keep_days=1).seal()

    await write(idle, clock)
    await sealing(busy, clock, keep_days=1).seal()

    report = look(journal_url)
    await idle.aclose()
    await busy.aclose()
    assert ((), 2, 4, 0) == (report.breaks, report.chains, report.events, report.unsealed)


async def test_what_cannot_be_read_is_logged_once(journal_url: str, clock: FakeClock) -> None:
    journal = await opened(journal_url)
    seals = sealing(journal, clock)
    for _ in range(2):
        await write(journal, clock)
        await seals.seal()
    await journal.write(lambda c: c.execute(update(audit_checkpoints).values(statement="gone")).rowcount)
    with capture_logs() as logs:
        again = sealing(journal, clock)
        for _ in range(2):
            await write(journal, clock)
            await again.seal()

    await journal.aclose()
    assert ["checkpoint 1", "checkpoint 2"] == [each["row"] for each in logs]


async def test_what_was_changed_is_found_and_what_was_not_is_exported(journal_url: str, clock: FakeClock) -> None:
    journal = await opened(journal_url)
    await write(journal, clock)
    await sealing(journal, clock).seal()
    clock.advance(DAY / 2)
    await write(journal, clock, "outcome")
    await sealing(journal, clock).seal()
    change = update(audit_events).where(audit_events.c.number == 2, audit_events.c.at < clock.now())

    def look_and_change(connection: Connection) -> tuple[list[str], list[str]]:
        connection.execute(change.values(event='{"event":"outcome"}'))
        by_time = [each.read()["event"] for each in audit.stream(connection)]
        return by_time, [each.read()["event"] for each in stream_sealed(connection, 1, 2)]

    by_time, sealed_later = await journal.write(look_and_change)
    report = look(journal_url)

    await journal.aclose()
    assert ["opened", "outcome", "closed", "opened", "outcome"] == by_time[:2] + sorted(by_time[2:])
    assert ["closed", "opened", "outcome"] == sorted(sealed_later)
    assert (1, 2, None) == (report.broken, report.breaks[0].number, report.sealed_by)
