from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta, timezone

import pytest

from ra.journal import audit
from ra.journal.audit import Event, list_events, record, stream_part, write_event, write_time
from ra.journal.chain import Chain
from tests.fakes.audited import AuditedJournal, audited
from tests.fakes.enrolments import MINUTE, NOW


@pytest.fixture
def journal() -> Iterator[AuditedJournal]:
    with audited() as journal:
        yield journal


def kinds(events: tuple[Event, ...]) -> list[str]:
    return [each.read()["event"] for each in events]


def test_an_event_comes_back_as_it_was_recorded(journal: AuditedJournal) -> None:
    chain = journal.process()
    journal.connection.info["companion"] = chain
    record(journal.connection, NOW, {"event": "decision", "grant_attributes": {"team": "blue"}, "latency_seconds": 0.5})
    before = list_events(journal.connection)
    chain.before_commit(journal.connection)

    opened, event = list_events(journal.connection)

    assert () == before
    assert {"event": "decision", "grant_attributes": {"team": "blue"}, "latency_seconds": 0.5} == event.read()
    assert (opened.chain, 2, NOW) == (event.chain, event.number, event.at)


def test_events_are_listed_by_their_time_and_those_of_one_time_by_their_number(journal: AuditedJournal) -> None:
    one, other = journal.process(), journal.process()
    journal.commit(one, "first", "second")
    journal.commit(other, "third")
    journal.commit(one, "fourth")

    assert ["opened", "first", "second", "opened", "third", "fourth"] == kinds(list_events(journal.connection))
    assert ["opened", "first"] == kinds(list_events(journal.connection, count=2))


def test_a_time_has_a_beginning_that_counts_and_an_end_that_does_not(journal: AuditedJournal) -> None:
    chain = journal.process()
    for each in ("first", "second", "third"):
        journal.commit(chain, each)
    second = timedelta(seconds=1)

    found = list_events(journal.connection, since=NOW + second, until=NOW + 2 * second)

    assert ["second"] == kinds(found)


def test_more_than_a_page_is_read_in_pages(journal: AuditedJournal) -> None:
    chain = journal.process()
    journal.commit(chain, *["outcome"] * (2 * audit.PAGE))
    name = list_events(journal.connection, count=1)[0].chain

    everything = list_events(journal.connection)
    part = tuple(stream_part(journal.connection, name, 10, audit.PAGE + 20))

    assert list(range(1, 2 * audit.PAGE + 2)) == [each.number for each in everything]
    assert list(range(11, audit.PAGE + 21)) == [each.number for each in part]


def test_an_event_is_one_line_of_ascii_whatever_a_device_calls_itself() -> None:
    assert '{"event":"decision","subject":"CN=\\u00e9\\"\\n\\u0000\\ud800"}' == write_event(
        {"event": "decision", "subject": 'CN=é"\n\x00\ud800'}
    )


def test_a_time_is_written_in_utc_with_microseconds() -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=2)))

    assert "2026-11-23T12:00:00.000000Z" == write_time(elsewhere)
    assert "2026-11-23T12:01:00.000001Z" == write_time(elsewhere + MINUTE + timedelta(microseconds=1))


@pytest.mark.parametrize("event", ["no JSON", "[1]", "1", ""])
def test_what_was_changed_into_no_event_reads_as_nothing(event: str, journal: AuditedJournal) -> None:
    journal.commit(Chain(), "decision")
    journal.connection.exec_driver_sql("UPDATE audit_events SET event = ?", (event,))

    assert [{}, {}] == [each.read() for each in list_events(journal.connection)]
