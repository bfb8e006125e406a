from __future__ import annotations

from sqlalchemy import Connection, text

from ra.journal.audit import list_events, record
from tests.fakes.enrolments import MINUTE, NOW


def test_events_come_back_in_the_order_of_their_commits(connection: Connection) -> None:
    record(connection, NOW + MINUTE, {"event": "first", "grant_attributes": {"team": "blue"}, "ok": True})
    record(connection, NOW, {"event": "second", "latency_seconds": 0.5, "reason": None})

    first, second = list_events(connection)

    assert (NOW + MINUTE, {"event": "first", "grant_attributes": {"team": "blue"}, "ok": True}) == (
        first.at,
        first.event,
    )
    assert {"event": "second", "latency_seconds": 0.5, "reason": None} == second.event
    assert first.seq < second.seq
    assert (second,) == list_events(connection, after=first.seq)
    assert (first,) == list_events(connection, count=1)


def test_an_event_is_one_line_of_json_whatever_a_device_calls_itself(connection: Connection) -> None:
    record(connection, NOW, {"event": "enrolment", "subject": 'CN=é"\n\x00'})

    stored = connection.execute(text("SELECT event FROM audit")).scalar_one()

    assert '{"event":"enrolment","subject":"CN=é\\"\\n\\u0000"}' == stored
