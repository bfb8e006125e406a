from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, create_engine, event, insert

from ra.journal import audit, outbox
from ra.journal.chain import Chain
from ra.journal.listing import (
    BadCursor,
    Cursor,
    Filter,
    Listed,
    events_of,
    find_transactions,
    letters_of,
    look_near,
    look_up,
    read_serial,
)
from ra.journal.states import State
from ra.journal.tables import MAX_SEARCHED, aliases, metadata
from tests.fakes.enrolments import DAY, MINUTE, NOW
from tests.fakes.letters import a_letter, a_row, store

ON_SQLITE = pytest.mark.parametrize("connection", ["sqlite"], indirect=True)
"""PostgreSQL plans by what a table holds, and here it holds nothing."""

ONE = UUID("0f8c2a4e-5a0b-4e0f-9d1c-6f0a4b1f7c11")
OTHER = UUID("0f8c2a4e-5a0b-4e0f-9d1c-6f0a4b1f7c12")
STRANGER = UUID("f17c0000-0000-4000-8000-000000000000")


def found(connection: Connection, which: Filter) -> set[UUID]:
    return {each.id for each in find_transactions(connection, which, None, 100).rows}


@pytest.mark.parametrize(
    ("which", "changes"),
    [
        (Filter(states=frozenset({State.PENDING, State.UNKNOWN})), {"state": State.PENDING}),
        (Filter(profile="printers"), {"profile": "printers"}),
        (Filter(connector="vault"), {"connector": "vault"}),
        (Filter(since=NOW + MINUTE), {"created_at": NOW + MINUTE}),
        (Filter(until=NOW), {"created_at": NOW - MINUTE}),
        (Filter(serials=("abc", "def")), {"serial": "def"}),
        (Filter(transaction_id=b"7XXEY"), {"transaction_id": b"7XXEY"}),
        (Filter(subject="printer-17"), {"subject": "CN=Printer-17,O=Example"}),
        (Filter(subject="GRÖSSE"), {"subject": "CN=größe"}),
        (Filter(subject="100%_/"), {"subject": "CN=100%_/"}),
        (Filter(not_after_since=NOW + 400 * DAY), {"not_after": NOW + 400 * DAY}),
        (Filter(not_after_until=NOW + DAY), {"not_after": NOW}),
        (Filter(may_be_orphan=True), {"orphans": 1}),
        (Filter(profile="printers", subject="17"), {"profile": "printers", "subject": "CN=17"}),
    ],
)
def test_what_is_found_is_what_the_filter_says(
    which: Filter, changes: dict[str, object], connection: Connection
) -> None:
    meant = store(connection, replace(a_row(State.RELEASED), **changes))  # type: ignore[arg-type]  # by the cases' care
    store(connection, a_row(State.RELEASED))

    assert {meant.id} == found(connection, which)


def test_an_empty_filter_finds_everything(connection: Connection) -> None:
    rows = [store(connection, a_row(state)) for state in State]

    assert {each.id for each in rows} == found(connection, Filter())


def test_a_part_of_two_filters_alone_is_not_enough(connection: Connection) -> None:
    store(connection, a_row(profile="printers"))
    store(connection, a_row(subject="CN=17"))

    assert set() == found(connection, Filter(profile="printers", subject="17"))


def test_a_transaction_is_found_by_another_name_of_the_device_too(connection: Connection) -> None:
    row = store(connection, a_row(State.PENDING))
    name = {"profile": "default", "signer_key": b"k" * 32, "transaction_id": b"second", "transaction": row.id}
    connection.execute(insert(aliases), name)

    assert {row.id} == found(connection, Filter(transaction_id=b"second"))
    assert [row.id] == [each.id for each in look_up(connection, "second", 10)]


def test_a_subject_of_any_length_is_stored_and_its_beginning_is_searched(connection: Connection) -> None:
    row = store(connection, a_row(subject="CN=begin," + "Ö" * 30_000 + ",OU=end"))

    assert {row.id} == found(connection, Filter(subject="begin"))
    assert set() == found(connection, Filter(subject="end"))
    assert len("cn=begin,") < MAX_SEARCHED


def test_pages_follow_each_other_newest_first_and_none_is_missed_or_told_twice(connection: Connection) -> None:
    rows = [store(connection, a_row(created_at=NOW + timedelta(seconds=number // 3))) for number in range(10)]

    seen: list[Listed] = []
    after = None
    for _ in range(4):
        page = find_transactions(connection, Filter(), after, 3)
        seen += page.rows
        after = Cursor.read(str(page.after)) if page.after else None

    assert after is None
    newest_first = sorted(rows, key=lambda each: (each.created_at, each.id), reverse=True)
    assert [each.id for each in newest_first] == [each.id for each in seen]


def test_what_comes_in_meanwhile_does_not_shift_the_next_page(connection: Connection) -> None:
    first, second = (store(connection, a_row(created_at=NOW + number * MINUTE)) for number in (2, 1))
    page = find_transactions(connection, Filter(), None, 1)
    store(connection, a_row(created_at=NOW + DAY))

    following = find_transactions(connection, Filter(), page.after, 1)

    assert [first.id] == [each.id for each in page.rows]
    assert [second.id] == [each.id for each in following.rows]


def test_a_page_that_is_just_full_is_the_last_one(connection: Connection) -> None:
    store(connection, a_row())

    assert find_transactions(connection, Filter(), None, 1).after is None


@pytest.mark.parametrize("text", ["", "seven", "1-2", f"-1-{ONE.hex}", f"{'9' * 18}-{ONE.hex}", f"1-{ONE}"])
def test_what_is_no_cursor_is_not_taken_for_one(text: str) -> None:
    with pytest.raises(BadCursor):
        Cursor.read(text)


@pytest.mark.parametrize(
    "text",
    [str(ONE), ONE.hex, str(ONE).upper(), str(ONE)[:-1], "0f8c2a4e-5", "0f8c", "a1:b2:C3", "0xa1b2c3", "10597059"],
)
def test_a_transaction_is_looked_up_by_id_or_prefix_or_serial(text: str, connection: Connection) -> None:
    row = store(connection, a_row(id=ONE, serial="a1b2c3"))
    store(connection, a_row(id=STRANGER))

    assert [row.id] == [each.id for each in look_up(connection, text, 10)]


@pytest.mark.parametrize("text", ["", "0f8", "zzzz", "0f8d", f"{ONE}0", "a1b2", "\udcff", "9" * 5000])
def test_what_nothing_is_called_finds_nothing(text: str, connection: Connection) -> None:
    store(connection, a_row(id=ONE, serial="a1b2c3"))

    assert () == look_up(connection, text, 10)


def test_all_that_a_text_may_mean_is_found_newest_first(connection: Connection) -> None:
    older = store(connection, a_row(id=OTHER, created_at=NOW))
    newer = store(connection, a_row(id=ONE, created_at=NOW + MINUTE))
    by_serial = store(connection, a_row(serial="f8c2", created_at=NOW - MINUTE))

    assert [newer.id, older.id, by_serial.id] == [each.id for each in look_up(connection, "0f8c2", 10)]
    assert [newer.id] == [each.id for each in look_up(connection, "0f8c2", 1)]


@pytest.mark.parametrize(
    "text", ["0f8c2a4e-5a0b-4e0f-9d1c-6f0a4b1f7c13", "0f8c2a4f", "0f8cffff", "0f8c-2zz", "A1:B2:C4"]
)
def test_the_nearest_begins_alike(text: str, connection: Connection) -> None:
    row = store(connection, a_row(id=ONE, serial="a1b2c3"))
    store(connection, a_row(id=STRANGER, serial="a000"))

    nearest = look_near(connection, text)

    assert nearest is not None
    assert row.id == nearest.id


@pytest.mark.parametrize("text", ["", "0f80", "zebra", "7" * 100])
def test_what_is_unlike_everything_has_nothing_near(text: str, connection: Connection) -> None:
    store(connection, a_row(id=ONE, serial="a1b2c3"))

    assert look_near(connection, text) is None


@pytest.mark.parametrize(
    ("text", "serials"),
    [
        ("0A:0b", ("a0b",)),
        ("0xAB", ("ab",)),
        ("255", ("255", "ff")),
        ("0255", ("255", "ff")),
        ("00", ("0",)),
        ("ab-cd", ("abcd",)),
        ("printer", ()),
        ("1" * 50, ()),
    ],
)
def test_a_serial_is_read_as_hex_or_decimal(text: str, serials: tuple[str, ...]) -> None:
    assert serials == read_serial(text)


def test_the_events_of_a_transaction_are_its_own_in_the_order_of_time() -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        metadata.create_all(connection)
        connection.info["companion"] = chain = Chain()
        for minutes, said in (
            (2, {"event": "outcome", "transaction": str(ONE)}),
            (1, {"event": "decision", "transaction": str(ONE)}),
            (1, {"event": "decision", "transaction": str(OTHER)}),
            (3, {"event": "decision", "transaction": str(OTHER), "grant_attributes": {"transaction": str(ONE)}}),
            (4, {"event": "decision", "transaction": str(OTHER), "detail": f'"transaction":"{ONE}"'}),
        ):
            audit.record(connection, NOW + minutes * MINUTE, said)  # type: ignore[arg-type]  # mypy joins the dicts too widely
        chain.before_commit(connection)

        events = events_of(connection, ONE, NOW)

        assert ["decision", "outcome"] == [each.read()["event"] for each in events]
        assert 1 == len(events_of(connection, ONE, NOW + 2 * MINUTE))
    engine.dispose()


def test_the_letters_of_a_transaction_are_found_dead_or_alive(connection: Connection) -> None:
    row, other = store(connection, a_row()), store(connection, a_row())
    letter = a_letter()
    outbox.put(connection, row.id, (letter,), NOW)
    outbox.put(connection, other.id, (a_letter(),), NOW)

    assert [letter.id] == [each.id for each in letters_of(connection, row.id)]


@ON_SQLITE
@pytest.mark.parametrize(
    "which",
    [
        Filter(),
        Filter(states=frozenset({State.PENDING})),
        Filter(subject="printer"),
        Filter(profile="a"),
        Filter(not_after_since=NOW, not_after_until=NOW),
        Filter(profile="a", connector="b", since=NOW, until=NOW, not_after_until=NOW),
        Filter(transaction_id=b"7XXEY"),
        Filter(serials=("ab",)),
        Filter(may_be_orphan=True),
    ],
)
def test_no_search_reads_rows_that_are_not_on_the_page(which: Filter, connection: Connection) -> None:
    plans = _plans(connection)

    find_transactions(connection, which, Cursor(created_at=NOW, id=ONE), 10)

    assert [] == _wasteful(plans)


@ON_SQLITE
@pytest.mark.parametrize("by_device", [False, True])
def test_no_look_up_reads_rows_that_are_not_meant(by_device: bool, connection: Connection) -> None:
    plans = _plans(connection)

    look_up(connection, "0f8c2a4e", 10, by_device=by_device)
    look_near(connection, "0f8c2a4e")

    assert [] == _wasteful(plans)
    assert by_device == any("transactions_listed" in step for plan in plans for step in plan)


def _wasteful(plans: list[list[str]]) -> list[str]:
    """Steps that read whole rows, but by their id, or by an index that leads to few."""
    few = ("(id=?)", "(id>? AND id<?)", "(id<?)", "(id>?)", "transactions_certificates (serial", "transactions_orphans")
    steps = [step for plan in plans for step in plan if " transactions " in step]
    assert steps
    return [step for step in steps if "COVERING INDEX" not in step and not any(each in step for each in few)]


def _plans(connection: Connection) -> list[list[str]]:
    """The plans of what is asked from now on."""
    plans: list[list[str]] = []

    def note(*details: Any) -> None:
        statement, parameters = details[2], details[3]
        if statement.startswith("SELECT"):
            raw = connection.connection.cursor()
            raw.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.append([str(row[3]) for row in raw.fetchall()])

    event.listen(connection, "before_cursor_execute", note)
    return plans
