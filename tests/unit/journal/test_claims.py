from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy import Connection

from ra.journal.claims import claim_authorised, claim_due, due, is_free, lose_leases, take_lease
from ra.journal.records import Transaction
from ra.journal.settle import expire, postpone, settle_pending, settle_unknown
from ra.journal.states import LostRace, State
from ra.journal.transactions import authorise, get
from tests.fakes.enrolments import DAY, MINUTE, NOW, a_transaction, outcomes, released, submitting

LATER, UNTIL = NOW + 5 * MINUTE, NOW + 6 * MINUTE
ME, OTHER = UUID(int=1), UUID(int=2)

Claim = Callable[..., tuple[Transaction, ...]]


def authorised(connection: Connection, *, minutes: int = 0, connector: str = "lab") -> Transaction:
    new = a_transaction(state=State.AUTHORISED, due_at=NOW + minutes * MINUTE)
    return authorise(connection, replace(new, connector=connector), NOW + minutes * MINUTE)


def unknown(connection: Connection) -> Transaction:
    return settle_unknown(connection, submitting(connection), "reset", NOW, NOW)


def test_what_is_authorised_and_due_is_claimed_to_be_submitted(connection: Connection) -> None:
    transaction = authorised(connection)

    (claimed,) = claim_authorised(connection, "lab", LATER, UNTIL, 10)

    assert (transaction.id, State.SUBMITTING, UNTIL, 0) == (
        claimed.id,
        claimed.state,
        claimed.due_at,
        claimed.attempts,
    )
    assert claimed == get(connection, transaction.id)
    assert ["authorised", "submitting"] == outcomes(connection)


def test_what_has_lost_its_lease_is_unknown_and_to_be_found_out(connection: Connection) -> None:
    transaction = submitting(connection)

    before_its_end = lose_leases(connection, "lab", NOW, UNTIL, 10)
    (lost,) = lose_leases(connection, "lab", LATER, UNTIL, 10)

    assert () == before_its_end
    assert (transaction.id, State.UNKNOWN, UNTIL) == (lost.id, lost.state, lost.due_at)
    assert lost == get(connection, transaction.id)
    assert ["authorised", "unknown"] == outcomes(connection)
    with pytest.raises(LostRace):
        settle_pending(connection, transaction, "order 1", LATER, LATER)


def test_what_else_is_due_is_claimed_as_it_stands(connection: Connection) -> None:
    order = settle_pending(connection, submitting(connection), "order 1", NOW, NOW)
    lost = unknown(connection)
    overdue = expire(connection, authorised(connection), "7 days", NOW, NOW)
    waiting = authorise(connection, a_transaction(state=State.AWAITING_APPROVAL, due_at=NOW), NOW)
    count = len(outcomes(connection))

    claimed = claim_due(connection, "lab", LATER, UNTIL, 10)

    stood = {each.id: each.state for each in (order, lost, overdue, waiting)}
    assert stood == {each.id: each.state for each in claimed}
    assert {UNTIL} == {each.due_at for each in claimed}
    assert list(claimed) == [get(connection, each.id) for each in claimed]
    assert [] == outcomes(connection)[count:]


def test_what_was_authorised_and_has_expired_is_due_and_not_to_be_submitted(connection: Connection) -> None:
    transaction = authorised(connection)

    submitted = claim_authorised(connection, "lab", NOW + 7 * DAY, UNTIL + 7 * DAY, 10)
    (claimed,) = claim_due(connection, "lab", NOW + 7 * DAY, UNTIL + 7 * DAY, 10)

    assert () == submitted
    assert (transaction.id, State.AUTHORISED) == (claimed.id, claimed.state)


def test_what_is_in_hand_or_at_rest_is_claimed_by_nobody(connection: Connection) -> None:
    submitting(connection)
    authorised(connection)
    released(connection)

    claimed = claim_due(connection, "lab", LATER, UNTIL, 10)

    assert () == claimed


CLAIMS = [
    pytest.param(claim_authorised, authorised, id="authorised"),
    pytest.param(lose_leases, submitting, id="lost"),
    pytest.param(claim_due, unknown, id="due"),
]


@pytest.mark.parametrize(("claim", "make"), CLAIMS)
def test_what_is_claimed_is_nobody_elses_until_the_lease_is_over(
    connection: Connection, claim: Claim, make: Callable[[Connection], Transaction]
) -> None:
    make(connection)

    first = claim(connection, "lab", LATER, UNTIL, 10)
    second = claim(connection, "lab", LATER, UNTIL, 10)

    assert [1, 0] == [len(first), len(second)]


@pytest.mark.parametrize(("claim", "make"), CLAIMS)
def test_what_another_connector_is_asked_for_is_left_to_it(
    connection: Connection, claim: Claim, make: Callable[[Connection], Transaction]
) -> None:
    make(connection)

    assert () == claim(connection, "other", LATER, UNTIL, 10)


def test_no_more_is_claimed_than_asked_for_and_what_has_waited_longest_first(connection: Connection) -> None:
    rows = [authorised(connection, minutes=minutes) for minutes in (3, 1, 2, 4)]

    first = claim_authorised(connection, "lab", LATER, UNTIL, 2)
    second = claim_authorised(connection, "lab", LATER, UNTIL, 10)

    assert [rows[1].id, rows[2].id] == [each.id for each in first]
    assert [rows[0].id, rows[3].id] == [each.id for each in second]


def test_a_connector_is_named_once_something_is_due_for_it(connection: Connection) -> None:
    for connector, minutes in (("lab", 1), ("lab", 2), ("vault", 3)):
        authorised(connection, minutes=minutes, connector=connector)

    assert () == due(connection, NOW)
    assert ("lab",) == due(connection, NOW + 2 * MINUTE)
    assert {"lab", "vault"} == set(due(connection, LATER))


def test_what_was_put_off_is_counted_and_due_again_then(connection: Connection) -> None:
    unknown(connection)
    (claimed,) = claim_due(connection, "lab", NOW, UNTIL, 10)
    postpone(connection, claimed, "away", LATER, NOW)

    early = claim_due(connection, "lab", NOW + MINUTE, UNTIL, 10)
    (again,) = claim_due(connection, "lab", LATER, UNTIL, 10)

    assert () == early
    assert ("away", 1) == (again.detail, again.attempts)


# ---------------------------------------------------------------------------------------------- jobs


def test_a_job_is_one_holders_until_its_time_is_over(connection: Connection) -> None:
    taken = take_lease(connection, "seal", ME, NOW, LATER)

    assert taken
    assert not is_free(connection, "seal", NOW)
    assert not take_lease(connection, "seal", OTHER, NOW, LATER)
    assert is_free(connection, "seal", LATER)
    assert take_lease(connection, "seal", OTHER, LATER, UNTIL)


def test_who_has_a_job_may_keep_it_longer(connection: Connection) -> None:
    take_lease(connection, "seal", ME, NOW, LATER)

    assert take_lease(connection, "seal", ME, NOW, UNTIL)
    assert not is_free(connection, "seal", LATER)


def test_jobs_do_not_stand_in_each_others_way(connection: Connection) -> None:
    take_lease(connection, "seal", ME, NOW, LATER)

    assert is_free(connection, "purge", NOW)
    assert take_lease(connection, "purge", OTHER, NOW, LATER)
