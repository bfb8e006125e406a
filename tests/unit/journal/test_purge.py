from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import Connection, func, insert, select, update

from connectors.api import RevocationReason
from ra.journal import outbox
from ra.journal.purge import Retention, purge, wipe
from ra.journal.records import Transaction
from ra.journal.settle import expire, issue, revoke, revoked, settle_pending, settle_rejected
from ra.journal.states import State
from ra.journal.tables import aliases, one_time_secrets, spent_secrets, transactions
from ra.journal.tables import outbox as letters
from ra.journal.transactions import authorise, get, recall, remember
from tests.fakes.enrolments import (
    DAY,
    MINUTE,
    NOW,
    a_certificate,
    a_letter,
    a_secret,
    a_transaction,
    an_identity,
    digest,
    released,
    submitting,
)

KEPT = Retention(
    rejected_days=1,
    expired_days=2,
    revoked_days=3,
    released_days_after_expiry=4,
    secrets_days_after_expiry=5,
    dead_letters_days=6,
)
NOTHING = dict.fromkeys(
    ("rejected", "expired", "revoked", "released", "outbox", "one_time_secrets", "spent_secrets"), 0
)
SOON = timedelta(microseconds=1)


def rejected(connection: Connection, *, told: bool = False) -> Transaction:
    some = (a_letter(),) if told else ()
    return settle_rejected(connection, submitting(connection), "policy", "no", NOW, letters=some)


def expired(connection: Connection) -> Transaction:
    transaction = authorise(connection, a_transaction(state=State.AUTHORISED), NOW)
    return expire(connection, transaction, "7 days", None, NOW)


def withdrawn(connection: Connection, *, days: int = 1) -> Transaction:
    certificate = a_certificate(not_after=NOW + days * DAY)
    held = issue(connection, submitting(connection), certificate, NOW, delivered=True, undelivered_until=None)
    revoking = revoke(connection, held, RevocationReason.UNSPECIFIED, "lost", NOW)
    return revoked(connection, revoking, NOW)


def outlived(connection: Connection) -> Transaction:
    certificate = a_certificate(not_after=NOW)
    transaction = submitting(connection)
    return issue(connection, transaction, certificate, NOW - DAY, delivered=True, undelivered_until=None)


def count(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(transactions)).scalar_one()


@pytest.mark.parametrize(
    ("end", "days", "name"),
    [(rejected, 1, "rejected"), (expired, 2, "expired"), (withdrawn, 3, "revoked"), (outlived, 4, "released")],
)
def test_what_has_ended_is_forgotten_when_its_days_are_over_and_not_before(
    connection: Connection, end: Callable[[Connection], Transaction], days: int, name: str
) -> None:
    end(connection)

    before = purge(connection, KEPT, NOW + days * DAY - SOON, 10)
    after = purge(connection, KEPT, NOW + days * DAY, 10)

    assert NOTHING == before
    assert NOTHING | {name: 1} == after
    assert 0 == count(connection)


def test_what_is_revoked_is_kept_until_it_has_expired(connection: Connection) -> None:
    withdrawn(connection, days=30)

    before = purge(connection, KEPT, NOW + 30 * DAY - SOON, 10)
    after = purge(connection, KEPT, NOW + 30 * DAY, 10)

    assert (NOTHING, NOTHING | {"revoked": 1}) == (before, after)


def test_its_names_go_with_it(connection: Connection) -> None:
    new = a_transaction()
    transaction = submitting(connection, new)
    remember(connection, transaction.id, an_identity())
    settle_rejected(connection, transaction, "policy", "no", NOW)

    purge(connection, KEPT, NOW + DAY, 10)

    assert 0 == connection.execute(select(func.count()).select_from(aliases)).scalar_one()


def test_nothing_is_forgotten_that_is_open_or_that_somebody_has_to_look_at(connection: Connection) -> None:
    submitting(connection)
    order = settle_pending(connection, submitting(connection), "order 1", NOW, NOW)
    expire(connection, order, "7 days", NOW + MINUTE, NOW)
    revoke(connection, released(connection), RevocationReason.UNSPECIFIED, "lost", NOW)
    issue(
        connection,
        submitting(connection),
        a_certificate(not_after=NOW),
        NOW - DAY,
        delivered=False,
        undelivered_until=NOW,
    )

    forgotten = purge(connection, KEPT, NOW + 1000 * DAY, 10)

    assert NOTHING == forgotten
    assert 4 == count(connection)


def test_nothing_is_forgotten_that_somebody_is_still_to_be_told_of(connection: Connection) -> None:
    transaction = rejected(connection, told=True)

    forgotten = purge(connection, KEPT, NOW + 1000 * DAY, 10)

    assert NOTHING == forgotten
    assert transaction == get(connection, transaction.id)


def test_no_more_is_forgotten_at_once_than_asked_for(connection: Connection) -> None:
    for _ in range(5):
        rejected(connection)

    forgotten = [purge(connection, KEPT, NOW + DAY, 2)["rejected"] for _ in range(4)]

    assert [2, 2, 1, 0] == forgotten


def test_that_a_secret_is_spent_outlives_the_transaction_that_spent_it(connection: Connection) -> None:
    new = a_transaction(spend=a_secret())
    certificate = a_certificate(not_after=NOW)
    issue(connection, submitting(connection, new), certificate, NOW, delivered=True, undelivered_until=None)
    expires_at = a_secret().expires_at

    first = purge(connection, KEPT, NOW + 4 * DAY, 10)
    kept = connection.execute(select(spent_secrets.c.transaction)).scalars().all()
    second = purge(connection, KEPT, expires_at + 5 * DAY, 10)

    assert NOTHING | {"released": 1} == first
    assert [new.id] == kept
    assert NOTHING | {"spent_secrets": 1} == second


def test_a_secret_that_was_minted_is_forgotten_some_days_after_it_expired(connection: Connection) -> None:
    columns = {"method": "otp", "label": "one", "profile": None, "names": None, "created_at": NOW, "revoked_at": None}
    connection.execute(insert(one_time_secrets), columns | {"key": digest("one"), "expires_at": NOW})

    before = purge(connection, KEPT, NOW + 5 * DAY - SOON, 10)
    after = purge(connection, KEPT, NOW + 5 * DAY, 10)

    assert [0, 1] == [before["one_time_secrets"], after["one_time_secrets"]]


def test_a_dead_letter_is_forgotten_and_with_it_the_request_that_it_told_of(connection: Connection) -> None:
    transaction = rejected(connection, told=True)
    outbox.put(connection, None, (a_letter(deadline_at=NOW),), NOW)
    connection.execute(update(letters).values(due_at=None, deadline_at=NOW))

    before = purge(connection, KEPT, NOW + 6 * DAY - SOON, 10)
    assert transaction.request == get(connection, transaction.id).request
    after = purge(connection, KEPT, NOW + 6 * DAY, 10)

    assert NOTHING == before
    assert NOTHING | {"outbox": 2, "rejected": 1} == after


def test_a_letter_that_is_still_tried_is_not_forgotten(connection: Connection) -> None:
    outbox.put(connection, None, (a_letter(deadline_at=NOW),), NOW)

    assert NOTHING == purge(connection, KEPT, NOW + 1000 * DAY, 10)


def test_the_request_of_what_is_open_is_not_wiped(connection: Connection) -> None:
    new = a_transaction()
    transaction = submitting(connection, new)

    is_wiped = wipe(connection, transaction.id)

    assert not is_wiped
    assert new.request == get(connection, transaction.id).request


def test_a_request_is_wiped_once_the_last_letter_is_gone(connection: Connection) -> None:
    transaction = rejected(connection, told=True)

    with_letter = wipe(connection, transaction.id)
    connection.execute(letters.delete())
    without, again = wipe(connection, transaction.id), wipe(connection, transaction.id)

    assert [False, True, False] == [with_letter, without, again]
    assert get(connection, transaction.id).request is None


def test_after_it_is_forgotten_a_request_is_a_new_one(connection: Connection) -> None:
    new = a_transaction()
    settle_rejected(connection, submitting(connection, new), "policy", "no", NOW)
    purge(connection, KEPT, NOW + DAY, 10)

    assert recall(connection, new.identity, NOW + DAY) is None
    assert State.SUBMITTING is submitting(connection, a_transaction(new.identity)).state
