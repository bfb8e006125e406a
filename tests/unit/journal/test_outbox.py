"""Letters in the outbox: who gets them, and what an answer does to the transaction that waits for it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Executable, select

from connectors.api import RevocationReason
from ra.journal import outbox, receipts
from ra.journal.events import undocumented
from ra.journal.outbox import HEAD_START, RETRY_PATIENCE, Letter, NewLetter, NotRetryable
from ra.journal.records import Transaction
from ra.journal.states import LostRace, State
from ra.journal.tables import outbox as table
from ra.journal.tables import transactions
from ra.journal.texts import MAX_DETAIL
from tests.fakes.enrolments import audited
from tests.fakes.letters import NOW, a_letter, a_row, store

SECOND = timedelta(seconds=1)
LATER, LEASE = NOW + timedelta(minutes=1), NOW + timedelta(minutes=2)


def a_waiting(connection: Connection, *letters: NewLetter, **changes: Any) -> Transaction:
    """A transaction with letters."""
    row = store(connection, a_row(**changes))
    outbox.put(connection, row.id, letters, NOW)
    return row


def claimed(connection: Connection, validator: str = "intune") -> Letter:
    (letter,) = outbox.claim(connection, validator, LATER, LEASE, 10)
    return letter


def stands(connection: Connection, row: Transaction) -> tuple[State, bytes | None]:
    """Its state, and its sealed request."""
    found = connection.execute(
        select(transactions.c.state, transactions.c.request).where(transactions.c.id == row.id)
    ).one()
    return found.state, found.request


def accept(connection: Connection, letter: Letter) -> None:
    receipts.accepted(connection, letter, LATER, undelivered_until=None)


def refuse(connection: Connection, letter: Letter) -> None:
    receipts.refused(connection, letter, "no", LATER)


def time_out(connection: Connection, letter: Letter) -> None:
    receipts.failed(connection, letter, "away", None, LATER)


# ---------------------------------------------------------------- claims


def test_a_letter_is_due_at_once_and_a_strict_one_is_left_to_its_writer_first(connection: Connection) -> None:
    a_waiting(connection, a_letter(validator="intune"), a_letter(validator="hook", is_strict=False))

    at_once = outbox.due(connection, NOW)
    later = outbox.due(connection, NOW + HEAD_START)

    assert {"hook"} == set(at_once)
    assert {"hook", "intune"} == set(later)


def test_a_claimed_letter_is_nobody_elses_until_its_lease_is_over(connection: Connection) -> None:
    a_waiting(connection, a_letter())

    first = outbox.claim(connection, "intune", LATER, LEASE, 10)
    meanwhile = outbox.claim(connection, "intune", LEASE - SECOND, LEASE, 10)
    afterwards = outbox.claim(connection, "intune", LEASE, LEASE + SECOND, 10)

    assert [1] == [each.attempts for each in first]
    assert () == meanwhile
    assert [2] == [each.attempts for each in afterwards]


def test_a_claim_takes_no_more_than_asked_and_of_one_validator_alone(connection: Connection) -> None:
    letters = [a_letter(is_strict=False) for _ in range(3)]
    outbox.put(connection, None, [*letters, a_letter(validator="hook")], NOW)

    taken = outbox.claim(connection, "intune", LATER, LEASE, 2)

    assert {each.id for each in taken} < {each.id for each in letters}
    assert 2 == len(taken)


def test_the_writer_takes_the_strict_letters_of_its_own_transaction_once(connection: Connection) -> None:
    strict = a_letter()
    row = a_waiting(connection, strict, a_letter(is_strict=False))
    a_waiting(connection, a_letter())

    first = outbox.claim_of(connection, row.id, LEASE)
    second = outbox.claim_of(connection, row.id, LEASE)

    assert [(strict.id, LEASE)] == [(each.id, each.due_at) for each in first]
    assert () == second


def test_the_writer_finds_nothing_where_another_process_was_faster(connection: Connection) -> None:
    row = a_waiting(connection, a_letter())
    claimed(connection)

    taken = outbox.claim_of(connection, row.id, LEASE)

    assert () == taken


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (outbox._DUE, "outbox_validators (validator=? AND due_at<?)"),
        (outbox._CLAIM, "outbox_validators (validator=? AND due_at<?)"),
        (outbox._CLAIM_OF, "ix_outbox_transaction (transaction=?)"),
        (outbox._WAITING, "ix_outbox_due_at (due_at>?)"),
    ],
    ids=["due", "claim", "claim_of", "waiting"],
)
def test_letters_are_found_by_an_index(connection: Connection, statement: Executable, index: str) -> None:
    if connection.dialect.name != "sqlite":
        pytest.skip("PostgreSQL plans by what a table holds")
    compiled = statement.compile(dialect=connection.dialect)  # type: ignore[attr-defined]  # every statement is a ClauseElement

    plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", tuple(1 for _ in compiled.params)).all()

    steps = [each.detail for each in plan]
    assert [each for each in steps if each.endswith(index)]
    assert "SCAN outbox" not in steps


# ---------------------------------------------------------------- answers


def test_an_accepted_letter_releases_the_certificate_that_waits_for_it(connection: Connection) -> None:
    row = a_waiting(connection, a_letter())

    accept(connection, claimed(connection))

    assert (State.RELEASED, None) == stands(connection, row)
    assert () == outbox.waiting(connection, 10)


def test_a_released_certificate_is_due_when_nobody_has_fetched_it_in_time(connection: Connection) -> None:
    row = a_waiting(connection, a_letter())
    until = LATER + timedelta(days=3)

    receipts.accepted(connection, claimed(connection), LATER, undelivered_until=until)

    assert until == connection.execute(select(transactions.c.due_at).where(transactions.c.id == row.id)).scalar_one()


def test_the_last_of_several_strict_letters_releases(connection: Connection) -> None:
    row = a_waiting(connection, a_letter(validator="intune"), a_letter(validator="hook"))

    accept(connection, claimed(connection, "intune"))
    after_one = stands(connection, row)
    accept(connection, claimed(connection, "hook"))
    after_both = stands(connection, row)

    assert (State.ISSUED, b"sealed") == after_one
    assert (State.RELEASED, None) == after_both


def test_a_letter_that_nothing_waits_for_changes_no_state_and_keeps_the_request(connection: Connection) -> None:
    row = a_waiting(connection, a_letter(validator="hook", is_strict=False), a_letter())

    accept(connection, claimed(connection, "hook"))

    assert (State.ISSUED, b"sealed") == stands(connection, row)


@pytest.mark.parametrize("state", [State.RELEASED, State.REJECTED, State.REVOKED])
def test_the_request_of_a_settled_transaction_goes_with_its_last_letter(connection: Connection, state: State) -> None:
    letters = [a_letter(validator="hook", is_strict=False), a_letter(validator="mail", is_strict=False)]
    row = a_waiting(connection, *letters, state=state)

    accept(connection, claimed(connection, "hook"))
    after_one = stands(connection, row)
    accept(connection, claimed(connection, "mail"))
    after_both = stands(connection, row)

    assert (state, b"sealed") == after_one
    assert (state, None) == after_both


@pytest.mark.parametrize(("due_at", "request_"), [(LATER, b"sealed"), (None, None)])
def test_the_request_of_an_expired_one_stays_while_its_order_is_polled(
    connection: Connection, due_at: Any, request_: bytes | None
) -> None:
    row = a_waiting(connection, a_letter(is_strict=False), state=State.EXPIRED, due_at=due_at)

    accept(connection, claimed(connection))

    assert (State.EXPIRED, request_) == stands(connection, row)


@pytest.mark.parametrize("end", [refuse, time_out])
def test_a_certificate_that_waits_in_vain_is_revoked(
    connection: Connection, end: Callable[[Connection, Letter], None]
) -> None:
    row = a_waiting(connection, a_letter(validator="intune"), a_letter(validator="hook"))

    end(connection, claimed(connection, "intune"))

    found = connection.execute(select(transactions).where(transactions.c.id == row.id)).one()
    assert (State.REVOKING, LATER) == (found.state, found.due_at)
    assert RevocationReason.CESSATION_OF_OPERATION == found.revocation
    assert () == outbox.due(connection, LATER + timedelta(days=1))
    assert {"intune", "hook"} == {each.validator for each in outbox.dead(connection, 10)}


@pytest.mark.parametrize("end", [refuse, time_out])
def test_a_letter_that_nothing_waits_for_dies_alone(
    connection: Connection, end: Callable[[Connection, Letter], None]
) -> None:
    row = a_waiting(connection, a_letter(is_strict=False), state=State.RELEASED)

    end(connection, claimed(connection))

    assert (State.RELEASED, b"sealed") == stands(connection, row)
    assert [None] == [each.due_at for each in outbox.dead(connection, 10)]


def test_a_letter_that_failed_is_due_again_with_what_was_said(connection: Connection) -> None:
    row = a_waiting(connection, a_letter())

    receipts.failed(connection, claimed(connection), "HTTP 503", LEASE + SECOND, LATER)

    (waiting,) = outbox.waiting(connection, 10)
    assert (LEASE + SECOND, 1, "HTTP 503") == (waiting.due_at, waiting.attempts, waiting.detail)
    assert (State.ISSUED, b"sealed") == stands(connection, row)


def test_what_a_receiver_says_is_kept_as_far_as_a_database_can(connection: Connection) -> None:
    a_waiting(connection, a_letter())

    receipts.failed(connection, claimed(connection), "a\0b\ud800" + "c" * 9_999, LEASE + SECOND, LATER)

    (waiting,) = outbox.waiting(connection, 10)
    assert waiting.detail is not None
    assert ("a?b?c", MAX_DETAIL) == (waiting.detail[:5], len(waiting.detail))


@pytest.mark.parametrize("end", [refuse, time_out])
def test_who_slept_past_his_lease_settles_nothing(
    connection: Connection, end: Callable[[Connection, Letter], None]
) -> None:
    row = a_waiting(connection, a_letter())
    slept = claimed(connection)
    outbox.claim(connection, "intune", LEASE, LEASE + timedelta(minutes=1), 10)

    with pytest.raises(LostRace):
        end(connection, slept)

    assert (State.ISSUED, b"sealed") == stands(connection, row)


def test_an_acceptance_counts_whoever_has_the_letter_by_now_and_once(connection: Connection) -> None:
    row = a_waiting(connection, a_letter())
    slept = claimed(connection)
    (awake,) = outbox.claim(connection, "intune", LEASE, LEASE + timedelta(minutes=1), 10)

    accept(connection, slept)
    accept(connection, awake)

    assert (State.RELEASED, None) == stands(connection, row)


def test_a_letter_without_a_transaction_is_accepted_and_dies_like_any_other(connection: Connection) -> None:
    outbox.put(connection, None, [a_letter(is_strict=False), a_letter(is_strict=False)], NOW)

    first, second = outbox.claim(connection, "intune", LATER, LEASE, 10)
    accept(connection, first)
    refuse(connection, second)

    assert [second.id] == [each.id for each in outbox.dead(connection, 10)]


def test_what_becomes_of_a_letter_is_audited_beside_its_transaction(connection: Connection) -> None:
    released = a_waiting(connection, a_letter(validator="intune"))
    accept(connection, claimed(connection, "intune"))
    revoking = a_waiting(connection, a_letter(validator="hook"), a_letter(validator="mail"))
    refuse(connection, claimed(connection, "hook"))

    events = [event for _, event in audited(connection)]

    told = [(event["transaction"], event["event"], event["outcome"], event.get("validator")) for event in events]
    assert [
        (str(released.id), "notified", "accepted", "intune"),
        (str(released.id), "outcome", "released", None),
        (str(revoking.id), "notified", "refused", "hook"),
        (str(revoking.id), "notified", "dead", "mail"),
        (str(revoking.id), "outcome", "revoking", None),
    ] == told
    assert [] == [each for event in events for each in undocumented(event)]


# ---------------------------------------------------------------- giving up


def test_a_certificate_whose_time_is_over_is_given_up_with_its_letters(connection: Connection) -> None:
    row = a_waiting(connection, a_letter(validator="intune"), a_letter(validator="hook", is_strict=False))

    settled, letters = receipts.give_up(connection, row, LEASE, undelivered_until=None)

    assert State.REVOKING is settled.state
    assert "not accepted in time by intune" == settled.detail
    assert ["intune"] == [each.validator for each in letters]
    assert ["hook"] == [each.validator for each in outbox.waiting(connection, 10)]


def test_a_certificate_that_was_released_in_the_last_moment_stays(connection: Connection) -> None:
    row = a_waiting(connection, a_letter())
    accept(connection, claimed(connection))

    settled, letters = receipts.give_up(connection, row, LEASE, undelivered_until=None)

    assert (State.RELEASED, ()) == (settled.state, letters)


# ---------------------------------------------------------------- dead letters


def test_a_dead_letter_is_tried_again_when_a_person_asks_for_it(connection: Connection) -> None:
    a_waiting(connection, a_letter(is_strict=False), state=State.RELEASED)
    refuse(connection, claimed(connection))
    (dead,) = outbox.dead(connection, 10)

    outbox.retry(connection, dead.id, "ann", LEASE)

    (again,) = outbox.claim(connection, "intune", LEASE, LEASE + SECOND, 10)
    at, event = audited(connection)[-1]
    assert (LEASE, "outbox-retried", str(dead.id), "ann") == (at, event["event"], event["letter"], event["who"])
    assert [] == undocumented(event)
    assert (1, LEASE + RETRY_PATIENCE) == (again.attempts, again.deadline_at)


def test_all_dead_letters_are_tried_again_but_those_whose_certificate_is_revoked(connection: Connection) -> None:
    a_waiting(connection, a_letter(is_strict=False), state=State.RELEASED)
    a_waiting(connection, a_letter(is_strict=True))
    for each in outbox.claim(connection, "intune", LATER, LEASE, 10):
        refuse(connection, each)

    retried = outbox.retry(connection, None, "ann", LEASE)

    assert [False] == [each.is_strict for each in retried]
    assert [True] == [each.is_strict for each in outbox.dead(connection, 10)]


def test_what_is_not_dead_is_not_retried(connection: Connection) -> None:
    letter = a_letter(is_strict=False)
    a_waiting(connection, letter)

    with pytest.raises(NotRetryable, match="is not a dead letter"):
        outbox.retry(connection, letter.id, "ann", LEASE)


def test_the_lists_hold_no_more_than_asked_and_no_secret_shows(connection: Connection) -> None:
    a_waiting(connection, a_letter(is_strict=False), a_letter(is_strict=False))

    shown = outbox.waiting(connection, 1)

    assert 1 == len(shown)
    assert "sealed" not in repr(shown)
    assert 2 == len(connection.execute(select(table.c.id)).all())
