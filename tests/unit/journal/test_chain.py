from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy.exc import DatabaseError

from ra.journal import audit
from ra.journal.audit import Event, list_events
from ra.journal.chain import CLOSED_WITHIN, MAX_AGE, MAX_EVENTS, NOTHING_BEFORE, digest
from tests.fakes.audited import AuditedJournal, audited
from tests.fakes.enrolments import NOW

FIRST, SECOND = UUID("00000000-0000-4000-8000-000000000001"), UUID("00000000-0000-4000-8000-000000000002")


@pytest.fixture
def journal() -> Iterator[AuditedJournal]:
    with audited() as journal:
        yield journal


def told(journal: AuditedJournal) -> list[tuple[UUID, int, str]]:
    return [(each.chain, each.number, each.read()["event"]) for each in list_events(journal.connection)]


def test_the_digest_covers_what_the_page_says_in_its_order() -> None:
    text = '{"event":"closed"}'
    encoded = (
        bytes(range(32))
        + FIRST.bytes
        + (7).to_bytes(8)
        + (1_795_435_200_000_001).to_bytes(8, signed=True)
        + text.encode()
    )

    assert hashlib.sha256(encoded).digest() == digest(bytes(range(32)), FIRST, 7, 1_795_435_200_000_001, text)


def test_a_chain_begins_with_its_first_event_and_each_digest_covers_the_one_before(journal: AuditedJournal) -> None:
    chain = journal.process()
    journal.commit(chain)
    journal.commit(chain, "decision")
    journal.commit(chain, "outcome", "outcome")

    previous = NOTHING_BEFORE
    for each in list_events(journal.connection):
        previous = digest(previous, each.chain, each.number, audit.microseconds(each.at), each.event)
        assert previous == each.digest
    assert [(FIRST, 1, "opened"), (FIRST, 2, "decision"), (FIRST, 3, "outcome"), (FIRST, 4, "outcome")] == told(journal)
    assert "1.2.3" == list_events(journal.connection)[0].read()["version"]


def test_an_operation_that_failed_leaves_no_event(journal: AuditedJournal) -> None:
    chain = journal.process()
    journal.connection.info["companion"] = chain
    audit.record(journal.connection, NOW, {"event": "decision"})
    mark = chain.mark()
    audit.record(journal.connection, NOW, {"event": "outcome"})
    audit.record(journal.connection, NOW, {"event": "outcome"})
    chain.undo_to(mark)

    journal.commit(chain, "approved")

    assert ["opened", "decision", "approved"] == [kind for _, _, kind in told(journal)]


def test_what_is_rolled_back_before_it_was_written_is_forgotten_and_the_chain_goes_on(journal: AuditedJournal) -> None:
    chain = journal.process()
    journal.commit(chain, "decision")
    audit.record(journal.connection, NOW, {"event": "outcome"})
    chain.abandoned()

    journal.commit(chain, "denied")

    assert [(FIRST, 1, "opened"), (FIRST, 2, "decision"), (FIRST, 3, "denied")] == told(journal)


@pytest.mark.parametrize("is_durable", [True, False])
def test_after_a_commit_of_which_nothing_is_known_another_chain_begins(
    journal: AuditedJournal, is_durable: bool
) -> None:
    chain = journal.process()
    journal.commit(chain, "decision")
    journal.connection.exec_driver_sql("SAVEPOINT commit_in_doubt")
    audit.record(journal.connection, journal.now, {"event": "outcome"})
    chain.before_commit(journal.connection)
    chain.abandoned()
    if not is_durable:
        journal.connection.exec_driver_sql("ROLLBACK TO commit_in_doubt")
    journal.connection.exec_driver_sql("RELEASE commit_in_doubt")
    journal.now += timedelta(seconds=1)

    journal.commit(chain, "outcome")
    journal.commit(chain, "outcome")

    assert [(SECOND, 1, "opened"), (SECOND, 2, "outcome"), (SECOND, 3, "outcome")] == told(journal)[-3:]
    assert 0 == journal.verify().broken


def test_a_write_that_fails_leaves_the_chain_usable(journal: AuditedJournal) -> None:
    chain = journal.process()
    journal.connection.exec_driver_sql("ALTER TABLE audit_events RENAME TO away")
    with pytest.raises(DatabaseError):
        journal.commit(chain, "decision")
    chain.abandoned()
    journal.connection.exec_driver_sql("ALTER TABLE away RENAME TO audit_events")

    journal.commit(chain, "decision")

    assert [(SECOND, 1, "opened"), (SECOND, 2, "decision")] == told(journal)


def test_an_orderly_end_is_an_event_and_what_comes_later_begins_anew(journal: AuditedJournal) -> None:
    chain = journal.process()
    journal.end(chain)
    journal.commit(chain, "decision")
    journal.end(chain)
    journal.end(chain)
    journal.commit(chain, "outcome")

    assert [
        (FIRST, 1, "opened"),
        (FIRST, 2, "decision"),
        (FIRST, 3, "closed"),
        (SECOND, 1, "opened"),
        (SECOND, 2, "outcome"),
    ] == told(journal)


def test_an_old_chain_is_closed_and_another_one_begun_in_the_same_commit(journal: AuditedJournal) -> None:
    chain = journal.process()
    journal.commit(chain, "decision")
    journal.now += MAX_AGE
    journal.commit(chain, "outcome")

    assert [
        (FIRST, 1, "opened"),
        (FIRST, 2, "decision"),
        (FIRST, 3, "closed"),
        (SECOND, 1, "opened"),
        (SECOND, 2, "outcome"),
    ] == told(journal)


@pytest.mark.parametrize("ends", [True, False])
def test_a_chain_that_may_have_been_removed_is_left_as_it_is(journal: AuditedJournal, ends: bool) -> None:
    chain = journal.process()
    journal.commit(chain, "decision")
    journal.now += CLOSED_WITHIN
    if ends:
        journal.end(chain)
    journal.commit(chain, "outcome")

    assert [(FIRST, 1, "opened"), (FIRST, 2, "decision"), (SECOND, 1, "opened"), (SECOND, 2, "outcome")] == told(
        journal
    )
    assert 0 == journal.verify().broken


def test_a_chain_is_no_longer_than_is_said(journal: AuditedJournal) -> None:
    chain = journal.process()
    journal.commit(chain, *["outcome"] * (MAX_EVENTS + 5))

    lengths: dict[UUID, int] = {}
    last: dict[UUID, Event] = {}
    for each in list_events(journal.connection):
        lengths[each.chain] = lengths.get(each.chain, 0) + 1
        last[each.chain] = each
    assert {FIRST: MAX_EVENTS, SECOND: 8} == lengths
    assert "closed" == last[FIRST].read()["event"]
    assert 0 == journal.verify().broken
