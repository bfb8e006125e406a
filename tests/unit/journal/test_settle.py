from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, func, select

from connectors.api import RevocationReason
from ra.journal import stops, strays
from ra.journal.claims import claim_authorised
from ra.journal.records import NewTransaction, Transaction
from ra.journal.settle import (
    arrive_late,
    back_to_authorised,
    expire,
    issue,
    postpone,
    quarantine,
    release,
    revoke,
    revoked,
    settle_pending,
    settle_rejected,
    settle_unknown,
)
from ra.journal.states import OPEN, IllegalTransition, LostRace, NotItsOwn, State
from ra.journal.tables import outbox, spent_secrets, transactions
from ra.journal.texts import MAX_DETAIL, MAX_REFERENCE_BYTES
from ra.journal.transactions import approve, authorise, begin, get, mark_delivered, recall
from tests.fakes.enrolments import (
    A_STRAY,
    CHAIN,
    DAY,
    MINUTE,
    NOW,
    a_certificate,
    a_letter,
    a_secret,
    a_transaction,
    audited,
    outcomes,
    released,
    submitting,
)

LATER = NOW + timedelta(minutes=5)
CESSATION = RevocationReason.CESSATION_OF_OPERATION

Operation = Callable[[Connection, Transaction], Transaction]

OPERATIONS: dict[str, Operation] = {
    "issue": lambda c, t: issue(c, t, a_certificate(), LATER, delivered=True, undelivered_until=None),
    "settle_pending": lambda c, t: settle_pending(c, t, "order 1", LATER + MINUTE, LATER),
    "settle_rejected": lambda c, t: settle_rejected(c, t, "policy", "not you", LATER),
    "settle_unknown": lambda c, t: settle_unknown(c, t, "reset", LATER + MINUTE, LATER),
    "back_to_authorised": lambda c, t: back_to_authorised(c, t, "refused", LATER + MINUTE, LATER),
    "quarantine": lambda c, t: quarantine(c, t, A_STRAY, "another key", LATER),
    "expire": lambda c, t: expire(c, t, "7 days", None, LATER),
    "arrive_late": lambda c, t: arrive_late(c, t, a_certificate(), LATER),
    "revoke": lambda c, t: revoke(c, t, CESSATION, "lost", LATER),
    "revoked": lambda c, t: revoked(c, t, LATER),
}
POSTPONE: dict[str, Operation] = {"postpone": lambda c, t: postpone(c, t, "later", LATER, LATER)}
FROM = {
    "issue": "submitting pending unknown",
    "settle_pending": "submitting unknown pending",
    "settle_rejected": "submitting pending",
    "settle_unknown": "submitting",
    "back_to_authorised": "submitting unknown",
    "quarantine": "submitting pending unknown",
    "expire": "authorised awaiting-approval pending",
    "arrive_late": "expired",
    "revoke": "issued released",
    "revoked": "revoking",
}
LEGAL = [(name, State(before)) for name, befores in FROM.items() for before in befores.split()]
ILLEGAL = [(name, before) for name in FROM for before in State if (name, before) not in LEGAL]
FENCED = [(name, before) for name, before in LEGAL if name != "revoke"]


def brought_to(connection: Connection, state: State, new: NewTransaction | None = None) -> Transaction:
    """A transaction in that state, by a way that leads there."""
    new = new or a_transaction()
    if state in {State.AUTHORISED, State.AWAITING_APPROVAL, State.SUBMITTING}:
        return authorise(connection, replace(new, state=state), NOW)
    ways: dict[State, Callable[[Transaction], Transaction]] = {
        State.ISSUED: lambda t: issued(connection, t),
        State.RELEASED: lambda t: issue(
            connection, t, a_certificate(), NOW, delivered=False, undelivered_until=NOW + DAY
        ),
        State.PENDING: lambda t: settle_pending(connection, t, "order 1", NOW + MINUTE, NOW),
        State.UNKNOWN: lambda t: settle_unknown(connection, t, "reset", NOW + MINUTE, NOW),
        State.REJECTED: lambda t: settle_rejected(connection, t, "policy", "not you", NOW),
        State.QUARANTINED: lambda t: quarantine(connection, t, A_STRAY, "another key", NOW),
        State.EXPIRED: lambda t: expire(connection, pending(connection, t), "7 days", NOW + MINUTE, NOW),
        State.REVOKING: lambda t: revoke(connection, issued(connection, t), CESSATION, "lost", NOW),
        State.REVOKED: lambda t: revoked(
            connection, revoke(connection, issued(connection, t), CESSATION, "lost", NOW), NOW
        ),
    }
    return ways[state](submitting(connection, new))


def issued(connection: Connection, transaction: Transaction) -> Transaction:
    strict = (a_letter(is_strict=True),)
    return issue(connection, transaction, a_certificate(), NOW, delivered=True, letters=strict, undelivered_until=None)


def pending(connection: Connection, transaction: Transaction) -> Transaction:
    return settle_pending(connection, transaction, "order 1", NOW + MINUTE, NOW)


def request_key(connection: Connection, transaction: Transaction) -> object:
    return connection.execute(
        select(transactions.c.request_key).where(transactions.c.id == transaction.id)
    ).scalar_one()


def letters_of(connection: Connection, transaction: Transaction) -> int:
    return connection.execute(
        select(func.count()).select_from(outbox).where(outbox.c.transaction == transaction.id)
    ).scalar_one()


def spent(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(spent_secrets)).scalar_one()


# ---------------------------------------------------------------------------------------------- all of them


@pytest.mark.parametrize(("name", "before"), LEGAL)
def test_what_is_settled_is_what_is_stored_and_has_its_own_event(
    connection: Connection, name: str, before: State
) -> None:
    transaction = postpone(connection, brought_to(connection, before), "away", NOW + MINUTE, NOW)
    count = len(outcomes(connection))

    settled = OPERATIONS[name](connection, transaction)

    is_news = settled.state is not before
    assert settled == get(connection, transaction.id)
    beside = ["connector-stopped"] * (name == "quarantine")
    assert [settled.state.value] * is_news + beside == outcomes(connection)[count:]
    is_counted_on = not is_news or settled.state is State.AUTHORISED
    assert (LATER, 2 if is_counted_on else 0) == (settled.updated_at, settled.attempts)
    assert (settled.state in OPEN) == (request_key(connection, settled) is not None and settled.certificate is None)


@pytest.mark.parametrize(("name", "before"), ILLEGAL)
def test_nothing_is_settled_from_a_state_that_does_not_allow_it(
    connection: Connection, name: str, before: State
) -> None:
    transaction = brought_to(connection, before)
    count = len(outcomes(connection))

    with pytest.raises(IllegalTransition):
        OPERATIONS[name](connection, transaction)

    assert transaction == get(connection, transaction.id)
    assert [] == outcomes(connection)[count:]


@pytest.mark.parametrize(("name", "before"), LEGAL)
def test_of_two_that_settle_the_second_loses_and_changes_nothing(
    connection: Connection, name: str, before: State
) -> None:
    transaction = brought_to(connection, before)
    settled, count = OPERATIONS[name](connection, transaction), len(outcomes(connection))

    with pytest.raises(LostRace):
        OPERATIONS[name](connection, transaction)

    assert settled == get(connection, transaction.id)
    assert [] == outcomes(connection)[count:]


@pytest.mark.parametrize(("name", "before"), [*FENCED, *(("postpone", each) for each in State)])
def test_whoever_has_slept_past_its_lease_settles_nothing(connection: Connection, name: str, before: State) -> None:
    operation = (OPERATIONS | POSTPONE)[name]
    slept = brought_to(connection, before)
    taken_up = postpone(connection, slept, "somebody else is at it", NOW + 2 * MINUTE, NOW)

    with pytest.raises(LostRace):
        operation(connection, slept)

    assert taken_up == get(connection, slept.id)


# ---------------------------------------------------------------------------------------------- a certificate


def test_what_is_released_at_once_holds_its_certificate_and_no_longer_its_request(connection: Connection) -> None:
    certificate = a_certificate()

    written = issue(connection, submitting(connection), certificate, NOW, delivered=True, undelivered_until=LATER)

    assert (State.RELEASED, NOW, None, None) == (written.state, written.delivered_at, written.due_at, written.request)
    assert (certificate.certificate, CHAIN) == (written.certificate, written.chain)
    assert (f"{certificate.serial:x}", certificate.not_after, certificate.reference) == (
        written.serial,
        written.not_after,
        written.reference,
    )


@pytest.mark.parametrize("until", [None, NOW + 7 * DAY])
def test_what_nobody_waits_for_is_looked_at_again_when_it_was_not_fetched_in_time(
    connection: Connection, until: Any
) -> None:
    written = issue(connection, submitting(connection), a_certificate(), NOW, delivered=False, undelivered_until=until)

    assert (State.RELEASED, None, until) == (written.state, written.delivered_at, written.due_at)


def test_a_certificate_that_somebody_must_be_told_of_first_waits_until_the_last_deadline(
    connection: Connection,
) -> None:
    letters = (
        a_letter(is_strict=True, deadline_at=NOW + MINUTE),
        a_letter(is_strict=True, deadline_at=NOW + 2 * MINUTE),
        a_letter(deadline_at=NOW + DAY),
    )
    new = a_transaction()

    written = issue(
        connection,
        submitting(connection, new),
        a_certificate(),
        NOW,
        delivered=True,
        letters=letters,
        undelivered_until=None,
    )

    assert (State.ISSUED, None, NOW + 2 * MINUTE) == (written.state, written.delivered_at, written.due_at)
    assert (3, new.request) == (letters_of(connection, written), written.request)
    assert written == recall(connection, new.identity, NOW + DAY)
    assert ["authorised", "issued"] == outcomes(connection)


def test_letters_that_nobody_waits_for_keep_the_request_and_not_the_certificate(connection: Connection) -> None:
    new = a_transaction()

    written = issue(
        connection,
        submitting(connection, new),
        a_certificate(),
        NOW,
        delivered=True,
        letters=(a_letter(),),
        undelivered_until=None,
    )

    assert (State.RELEASED, NOW, new.request) == (written.state, written.delivered_at, written.request)
    assert 1 == letters_of(connection, written)


def test_what_was_issued_is_released_once(connection: Connection) -> None:
    transaction = brought_to(connection, State.ISSUED)

    first = release(connection, transaction.id, LATER, undelivered_until=LATER + DAY)

    assert (State.RELEASED, LATER + DAY, None) == (first.state, first.due_at, first.delivered_at)
    assert first == get(connection, transaction.id)
    assert ["authorised", "issued", "released"] == outcomes(connection)
    with pytest.raises(LostRace):
        release(connection, transaction.id, LATER, undelivered_until=None)


def test_the_request_of_what_is_released_is_wiped_with_the_last_letter(connection: Connection) -> None:
    with_letter, without = brought_to(connection, State.ISSUED), brought_to(connection, State.ISSUED)
    connection.execute(outbox.delete().where(outbox.c.transaction == without.id))

    kept = release(connection, with_letter.id, LATER, undelivered_until=None)
    wiped = release(connection, without.id, LATER, undelivered_until=None)

    assert (with_letter.request, None) == (kept.request, wiped.request)
    assert (kept, wiped) == (get(connection, kept.id), get(connection, wiped.id))


# ---------------------------------------------------------------------------------------------- an open outcome


def test_an_order_that_is_still_open_is_looked_at_again_and_is_no_event(connection: Connection) -> None:
    first = pending(connection, submitting(connection))

    again = settle_pending(connection, first, "order 2", LATER, NOW)

    assert (State.PENDING, "order 2", LATER, 1) == (again.state, again.reference, again.due_at, again.attempts)
    assert ["authorised", "pending"] == outcomes(connection)


def test_why_it_was_unknown_is_forgotten_once_it_is_known(connection: Connection) -> None:
    unknown = brought_to(connection, State.UNKNOWN)

    found = issue(connection, unknown, a_certificate(), LATER, delivered=False, undelivered_until=None)

    assert ("reset", None) == (unknown.detail, found.detail)


def test_what_is_sent_again_is_the_same_request_with_the_same_key(connection: Connection) -> None:
    unknown = brought_to(connection, State.UNKNOWN)

    again = back_to_authorised(connection, unknown, "a certain no", LATER, NOW)

    assert (unknown.idempotency_key, unknown.request, 0) == (again.idempotency_key, again.request, again.orphans)


def test_how_often_it_was_not_sent_is_counted_until_the_ca_has_answered(connection: Connection) -> None:
    transaction = brought_to(connection, State.SUBMITTING)
    for _ in range(2):
        authorised = back_to_authorised(connection, transaction, "away", NOW, NOW)
        (transaction,) = claim_authorised(connection, "lab", NOW, LATER, 1)
        authorised = back_to_authorised(connection, transaction, "away", NOW, NOW)
        transaction = begin(connection, authorised, NOW, due_at=LATER)

    unknown = settle_unknown(connection, transaction, "reset", LATER, NOW)

    assert (4, 0) == (transaction.attempts, unknown.attempts)
    assert unknown == get(connection, unknown.id)


WORDS = "a\0b\ud800" + "c" * 9_999


@pytest.mark.parametrize(
    "settle",
    [
        lambda c, t: settle_pending(c, t, WORDS, LATER, NOW),
        lambda c, t: settle_rejected(c, t, WORDS, WORDS, NOW),
        lambda c, t: settle_unknown(c, t, WORDS, LATER, NOW),
        lambda c, t: back_to_authorised(c, t, WORDS, LATER, NOW),
        lambda c, t: quarantine(c, t, A_STRAY, WORDS, NOW),
        lambda c, t: postpone(c, t, WORDS, LATER, NOW),
        lambda c, t: issue(
            c, t, replace(a_certificate(), reference=WORDS), NOW, delivered=True, undelivered_until=None
        ),
    ],
    ids=["pending", "rejected", "unknown", "authorised", "quarantined", "postponed", "issued"],
)
def test_what_a_connector_says_is_kept_as_far_as_a_database_can(connection: Connection, settle: Operation) -> None:
    settled = settle(connection, brought_to(connection, State.SUBMITTING))

    said = [each for each in (settled.detail, settled.reason) if each]
    assert settled == get(connection, settled.id)
    assert said or settled.reference
    assert all(("a?b?c", MAX_DETAIL) == (each[:5], len(each)) for each in said)
    assert settled.reference is None or ("a?b?c", MAX_REFERENCE_BYTES) == (
        settled.reference[:5],
        len(settled.reference),
    )


def test_what_is_sent_again_blindly_is_counted_and_told(connection: Connection) -> None:
    once = back_to_authorised(connection, brought_to(connection, State.UNKNOWN), "blindly", NOW, NOW, orphan=True)

    (_, event) = audited(connection)[-1]

    assert (1, 1) == (once.orphans, get(connection, once.id).orphans)
    assert ["authorised", "unknown", "authorised", "orphan"] == outcomes(connection)
    assert (str(once.id), "lab", "blindly") == (event["transaction"], event["connector"], event["detail"])


def test_what_is_quarantined_is_kept_as_evidence_and_looked_at_by_a_person(connection: Connection) -> None:
    kept = quarantine(connection, submitting(connection), A_STRAY, "another key", NOW)

    outcome, stopped = (each for _, each in audited(connection)[-2:])
    (stray,) = strays.of_transaction(connection, kept.id)
    (stop,) = stops.list_stops(connection)
    assert (None, None) == (kept.due_at, kept.certificate)
    assert kept.request is not None
    assert ("another key", "3000") == (outcome["detail"], outcome["certificate"])
    assert ("connector-stopped", "lab") == (stopped["event"], stopped["connector"])
    assert (b"\x30\x00", "7", "another key", NOW) == (stray.certificate, stray.serial, stray.reason, stray.due_at)
    assert ("lab", kept.id, "another key") == (stop.connector, stop.transaction, stop.detail)


@pytest.mark.parametrize("before", sorted(State))
def test_what_is_postponed_stays_where_it_is(connection: Connection, before: State) -> None:
    transaction = brought_to(connection, before)
    count = len(outcomes(connection))

    once = postpone(connection, transaction, "away", LATER, NOW)
    twice = postpone(connection, once, "still away", LATER + MINUTE, NOW)

    assert (before, "still away", LATER + MINUTE, 2) == (twice.state, twice.detail, twice.due_at, twice.attempts)
    assert twice == get(connection, transaction.id)
    assert [] == outcomes(connection)[count:]


# ---------------------------------------------------------------------------------------------- an end


@pytest.mark.parametrize("before", [State.SUBMITTING, State.PENDING])
def test_the_cas_no_gives_the_secret_back_and_wipes_the_request(connection: Connection, before: State) -> None:
    new = a_transaction(spend=a_secret())
    transaction = brought_to(connection, before, new)

    rejected = settle_rejected(connection, transaction, "policy", "not you", NOW)

    assert ("policy", "not you", None, None) == (rejected.reason, rejected.detail, rejected.due_at, rejected.request)
    assert 0 == spent(connection)
    assert recall(connection, new.identity, NOW) is None


@pytest.mark.parametrize("before", [State.AUTHORISED, State.AWAITING_APPROVAL, State.PENDING])
def test_what_took_too_long_gives_the_secret_back_and_wipes_the_request(connection: Connection, before: State) -> None:
    new = a_transaction(spend=a_secret())
    transaction = brought_to(connection, before, new)

    expired = expire(connection, transaction, "7 days", None, NOW + 7 * DAY)

    assert (State.EXPIRED, None, None) == (expired.state, expired.due_at, expired.request)
    assert 0 == spent(connection)
    assert recall(connection, new.identity, NOW + 7 * DAY) is None


@pytest.mark.parametrize(
    "before", [State.ISSUED, State.RELEASED, State.UNKNOWN, State.QUARANTINED, State.REVOKING, State.REVOKED]
)
def test_whatever_else_becomes_of_it_the_secret_stays_spent(connection: Connection, before: State) -> None:
    brought_to(connection, before, a_transaction(spend=a_secret()))

    assert 1 == spent(connection)


@pytest.mark.parametrize(
    "end",
    [
        lambda c, t, letters: settle_rejected(c, t, "policy", "not you", NOW, letters=letters),
        lambda c, t, letters: expire(c, t, "7 days", None, NOW, letters=letters),
    ],
)
def test_of_an_end_somebody_is_told_in_the_same_commit_and_the_request_is_kept_until_then(
    connection: Connection, end: Callable[..., Transaction]
) -> None:
    transaction = brought_to(connection, State.PENDING)

    ended = end(connection, transaction, (a_letter(),))

    assert (transaction.request, 1) == (ended.request, letters_of(connection, ended))


def test_an_order_of_what_has_expired_is_polled_until_it_is_closed(connection: Connection) -> None:
    expired = expire(connection, brought_to(connection, State.PENDING), "7 days", LATER, NOW)

    closed = postpone(connection, expired, "the CA has closed the order", None, LATER)

    assert expired.request is not None
    assert (State.EXPIRED, None, None) == (closed.state, closed.due_at, closed.request)
    assert closed == get(connection, expired.id)


def test_what_arrives_too_late_is_revoked_and_never_answers(connection: Connection) -> None:
    new, certificate = a_transaction(), a_certificate()
    expired = brought_to(connection, State.EXPIRED, new)

    late = arrive_late(connection, expired, certificate, LATER)

    assert (State.REVOKING, LATER, CESSATION.value) == (late.state, late.due_at, late.revocation)
    assert (certificate.certificate, f"{certificate.serial:x}") == (late.certificate, late.serial)
    assert recall(connection, new.identity, LATER) is None


# ---------------------------------------------------------------------------------------------- revocation


@pytest.mark.parametrize("before", [State.ISSUED, State.RELEASED])
def test_from_the_moment_it_is_to_be_revoked_a_certificate_answers_no_more(
    connection: Connection, before: State
) -> None:
    new = a_transaction()
    held = brought_to(connection, before, new)

    revoking = revoke(connection, held, RevocationReason.KEY_COMPROMISE, "stolen", LATER)

    assert (State.REVOKING, LATER, "keyCompromise") == (revoking.state, revoking.due_at, revoking.revocation)
    assert recall(connection, new.identity, LATER) is None
    assert "keyCompromise" == audited(connection)[-1][1]["revocation"]


def test_whoever_has_it_in_hand_a_person_may_revoke(connection: Connection) -> None:
    held = brought_to(connection, State.RELEASED)
    postpone(connection, held, "somebody else is at it", NOW + 2 * MINUTE, NOW)

    assert State.REVOKING is revoke(connection, held, CESSATION, "lost", LATER).state


def test_what_the_device_has_fetched_meanwhile_is_not_revoked_for_nobody_fetched_it(connection: Connection) -> None:
    undelivered = released(connection, delivered=False)
    mark_delivered(connection, undelivered.id, NOW)

    with pytest.raises(LostRace):
        revoke(connection, undelivered, CESSATION, "nobody fetched it", LATER)

    assert State.RELEASED is get(connection, undelivered.id).state


def test_once_it_is_revoked_why_is_kept_and_the_request_is_not(connection: Connection) -> None:
    revoking = revoke(connection, released(connection), CESSATION, "stolen", NOW)

    done = revoked(connection, revoking, LATER)

    assert (State.REVOKED, None, "stolen", None) == (done.state, done.due_at, done.detail, done.request)


def test_an_approved_request_goes_the_way_of_all_others(connection: Connection) -> None:
    new = a_transaction(state=State.AWAITING_APPROVAL)
    authorise(connection, new, NOW)
    approved = approve(connection, new.id, "alice", NOW)

    expired = expire(connection, approved, "7 days", None, LATER)

    assert State.EXPIRED is expired.state


def test_what_arrives_late_and_another_request_has_is_not_revoked(connection: Connection) -> None:
    expired = brought_to(connection, State.EXPIRED)
    other = brought_to(connection, State.RELEASED)
    same = replace(a_certificate(), serial=int(str(other.serial), 16))

    left = arrive_late(connection, expired, same, LATER)

    assert (State.EXPIRED, None) == (left.state, left.due_at)
    assert State.RELEASED is get(connection, other.id).state


def test_a_certificate_that_another_request_has_is_not_taken(connection: Connection) -> None:
    other, mine = brought_to(connection, State.RELEASED), submitting(connection)
    same = replace(a_certificate(), serial=int(str(other.serial), 16))

    with pytest.raises(NotItsOwn):
        issue(connection, mine, same, LATER, delivered=True, undelivered_until=None)

    assert State.SUBMITTING is get(connection, mine.id).state


def test_another_connector_may_give_the_same_number(connection: Connection) -> None:
    other = brought_to(connection, State.RELEASED)
    mine = submitting(connection, replace(a_transaction(), connector="another"))
    same = replace(a_certificate(), serial=int(str(other.serial), 16))

    issued = issue(connection, mine, same, LATER, delivered=True, undelivered_until=None)

    assert (State.RELEASED, other.serial) == (issued.state, issued.serial)


def test_whoever_is_too_late_hears_that_and_not_whose_the_certificate_is(connection: Connection) -> None:
    mine = submitting(connection)
    settle_rejected(connection, mine, "policy", "not you", NOW)

    with pytest.raises(LostRace):
        issue(connection, mine, a_certificate(), LATER, delivered=True, undelivered_until=None)
