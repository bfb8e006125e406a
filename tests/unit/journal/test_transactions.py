from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Connection, func, select

from ra.errors import Reason, Refused
from ra.journal.audit import list_events
from ra.journal.records import NewTransaction, RequestIdentity, Transaction
from ra.journal.statements import MAX_ALIASES
from ra.journal.states import LostRace, State
from ra.journal.tables import aliases
from ra.journal.transactions import (
    REDELIVERY,
    authorise,
    authorise_anew,
    back_to_authorised,
    find,
    get,
    mark_delivered,
    quarantine,
    recall,
    release,
    remember,
    resume,
    retake,
    settle_pending,
    settle_rejected,
    settle_unknown,
)
from tests.fakes.enrolments import (
    CHAIN,
    MINUTE,
    NOW,
    a_certificate,
    a_secret,
    a_transaction,
    an_identity,
    digest,
)

OTHER = digest("another")
MICROSECOND = timedelta(microseconds=1)


def submitting(connection: Connection, new: NewTransaction | None = None) -> Transaction:
    return authorise(connection, new or a_transaction(), NOW)


def released(connection: Connection, new: NewTransaction, *, delivered: bool = True) -> Transaction:
    return release(connection, authorise(connection, new, NOW), a_certificate(), NOW, delivered=delivered)


def outcomes(connection: Connection) -> list[object]:
    return [each.event["outcome"] for each in list_events(connection)]


# ---------------------------------------------------------------------------------------------- authorise, release


def test_what_is_authorised_is_submitting_and_comes_back_as_it_was_written(connection: Connection) -> None:
    new = a_transaction()

    written = authorise(connection, new, NOW)

    assert written == get(connection, new.id)
    assert (new.id, new.idempotency_key, NOW) == (written.id, written.idempotency_key, written.created_at)
    assert (State.SUBMITTING, new.lease_until) == (written.state, written.lease_until)
    assert ("static", "first", {"team": "blue"}) == (
        written.grant_method,
        written.grant_label,
        written.grant_attributes,
    )
    assert written.is_named_by(new.identity)


def test_what_is_released_holds_its_certificate_and_comes_back_as_it_was_written(connection: Connection) -> None:
    new = a_transaction()
    certificate = a_certificate()
    transaction = authorise(connection, new, NOW)

    written = release(connection, transaction, certificate, NOW + MINUTE, delivered=True)

    assert written == get(connection, new.id)
    assert (State.RELEASED, NOW + MINUTE) == (written.state, written.delivered_at)
    assert (certificate.certificate, CHAIN) == (written.certificate, written.chain)
    assert (certificate.not_after, certificate.reference) == (written.not_after, written.reference)


def test_a_decision_and_its_outcome_leave_one_event_each_that_say_who_what_why_and_how_long(
    connection: Connection,
) -> None:
    new = a_transaction(an_identity(transaction_id=b"\x00id"))
    certificate = a_certificate()
    transaction = authorise(connection, new, NOW)
    release(connection, transaction, certificate, NOW + MINUTE, delivered=True)

    decision, outcome = list_events(connection)

    assert (NOW, NOW + MINUTE) == (decision.at, outcome.at)
    assert {
        "event": "decision",
        "outcome": "authorised",
        "transaction": str(new.id),
        "profile": "default",
        "transaction_id": "\x00id",
        "signer_key": new.identity.signer_key.hex(),
        "renewal_of": None,
        "csr_key": new.identity.csr_key.hex(),
        "subject": "CN=device",
        "grant_method": "static",
        "grant_label": "first",
        "grant_attributes": {"team": "blue"},
        "connector": "lab",
    } == decision.event
    assert {
        "event": "outcome",
        "outcome": "released",
        "transaction": str(new.id),
        "profile": "default",
        "reference": certificate.reference,
        "serial": f"{certificate.serial:x}",
        "reason": None,
        "detail": None,
        "latency_seconds": 60.0,
    } == outcome.event


def test_a_request_that_was_decided_already_is_no_second_decision(connection: Connection) -> None:
    new = a_transaction()
    authorise(connection, new, NOW)

    authorise(connection, a_transaction(new.identity), NOW)

    assert ["authorised"] == outcomes(connection)


@pytest.mark.parametrize(
    ("settle", "outcome"),
    [
        (lambda c, t: settle_pending(c, t, "order 1", NOW + MINUTE, NOW), State.PENDING),
        (lambda c, t: settle_rejected(c, t, "policy", "not you", NOW), State.REJECTED),
        (lambda c, t: settle_unknown(c, t, "no answer", NOW), State.UNKNOWN),
        (lambda c, t: quarantine(c, t, b"\x30\x00", "another key", NOW), State.QUARANTINED),
    ],
)
def test_every_other_outcome_is_committed_with_one_event(
    connection: Connection, settle: Callable[..., Transaction], outcome: State
) -> None:
    transaction = submitting(connection)

    settled = settle(connection, transaction)

    assert outcome == settled.state
    assert settled == get(connection, transaction.id)
    assert ["authorised", outcome.value] == outcomes(connection)


@pytest.mark.parametrize(
    "settle",
    [
        lambda c, t: settle_pending(c, t, "order 1", NOW + MINUTE, NOW),
        lambda c, t: settle_unknown(c, t, "no answer", NOW),
    ],
)
def test_what_was_open_for_a_while_is_released_in_the_end(
    connection: Connection, settle: Callable[..., Transaction]
) -> None:
    new = a_transaction()
    settled = settle(connection, submitting(connection, new))

    written = release(connection, settled, a_certificate(), NOW + MINUTE, delivered=False)

    assert (State.RELEASED, None, None) == (written.state, written.delivered_at, written.detail)
    assert written == recall(connection, new.identity, NOW + MINUTE)


def test_what_is_quarantined_is_kept_as_evidence(connection: Connection) -> None:
    quarantine(connection, submitting(connection), b"\x30\x00", "another key", NOW)

    event = list_events(connection)[-1].event

    assert ("another key", "3000") == (event["detail"], event["certificate"])


def test_a_fault_before_sending_is_no_outcome_and_is_resumed_with_the_same_idempotency_key(
    connection: Connection,
) -> None:
    first = submitting(connection)
    back = back_to_authorised(connection, first, "connection refused", NOW)

    resumed = resume(connection, first.id, first.csr_info, first.contents, lease_until=NOW + MINUTE, now=NOW)

    assert (State.AUTHORISED, None) == (back.state, back.lease_until)
    assert (State.SUBMITTING, first.idempotency_key, first.created_at) == (
        resumed.state,
        resumed.idempotency_key,
        resumed.created_at,
    )
    assert ["authorised"] == outcomes(connection)


@pytest.mark.parametrize("changed", ["csr_info", "contents"])
def test_another_request_does_not_resume_it(connection: Connection, changed: str) -> None:
    first = submitting(connection)
    back_to_authorised(connection, first, "connection refused", NOW)
    same = {"csr_info": first.csr_info, "contents": first.contents} | {changed: OTHER}

    with pytest.raises(LostRace):
        resume(connection, first.id, same["csr_info"], same["contents"], lease_until=NOW + MINUTE, now=NOW)


def test_an_unused_authorisation_is_replaced_by_a_new_one(connection: Connection) -> None:
    identity = an_identity()
    first = authorise(connection, a_transaction(identity, spend=a_secret()), NOW)
    back_to_authorised(connection, first, "connection refused", NOW)
    new = a_transaction(identity, spend=a_secret())

    anew = authorise_anew(connection, first.id, new, NOW + MINUTE)

    assert (first.id, first.transaction_id, new.idempotency_key, NOW + MINUTE) == (
        anew.id,
        anew.transaction_id,
        anew.idempotency_key,
        anew.created_at,
    )
    assert State.SUBMITTING is anew.state
    assert ["authorised", "authorised"] == outcomes(connection)


def test_what_was_sent_is_not_authorised_anew(connection: Connection) -> None:
    first = submitting(connection)

    with pytest.raises(LostRace):
        authorise_anew(connection, first.id, a_transaction(), NOW)


def test_of_two_that_settle_the_second_loses_and_changes_nothing(connection: Connection) -> None:
    transaction = submitting(connection)
    release(connection, transaction, a_certificate(), NOW, delivered=True)
    before = get(connection, transaction.id)

    with pytest.raises(LostRace):
        settle_unknown(connection, transaction, "too late", NOW)

    assert before == get(connection, transaction.id)
    assert ["authorised", "released"] == outcomes(connection)


def test_of_two_that_resume_the_second_loses(connection: Connection) -> None:
    transaction = submitting(connection)
    back_to_authorised(connection, transaction, "refused", NOW)
    csr_info, contents = transaction.csr_info, transaction.contents
    resume(connection, transaction.id, csr_info, contents, lease_until=NOW + MINUTE, now=NOW)

    with pytest.raises(LostRace):
        resume(connection, transaction.id, csr_info, contents, lease_until=NOW + MINUTE, now=NOW)


# ---------------------------------------------------------------------------------------------- a lost answer


def test_an_unknown_outcome_is_taken_up_once_with_the_same_request(connection: Connection) -> None:
    transaction = submitting(connection)
    settle_unknown(connection, transaction, "reset", NOW)

    taken = retake(
        connection, transaction.id, transaction.csr_info, transaction.contents, lease_until=NOW + MINUTE, now=NOW
    )

    assert (State.SUBMITTING, transaction.idempotency_key) == (taken.state, taken.idempotency_key)
    with pytest.raises(LostRace):
        retake(
            connection, transaction.id, transaction.csr_info, transaction.contents, lease_until=NOW + MINUTE, now=NOW
        )


def test_a_submission_is_taken_up_when_its_lease_has_ended_and_not_before(connection: Connection) -> None:
    transaction = submitting(connection)
    same, ends = (transaction.csr_info, transaction.contents), NOW + MINUTE

    with pytest.raises(LostRace):
        retake(connection, transaction.id, same[0], same[1], lease_until=ends + MINUTE, now=ends - MICROSECOND)
    taken = retake(connection, transaction.id, same[0], same[1], lease_until=ends + MINUTE, now=ends)

    assert ends + MINUTE == taken.lease_until


@pytest.mark.parametrize("differs", ["csr_info", "contents"])
def test_a_lost_answer_is_not_taken_up_by_a_request_that_asks_for_or_is_granted_something_else(
    connection: Connection, differs: str
) -> None:
    transaction = submitting(connection)
    settle_unknown(connection, transaction, "reset", NOW)
    attempt = {"csr_info": transaction.csr_info, "contents": transaction.contents} | {differs: OTHER}

    with pytest.raises(LostRace):
        retake(connection, transaction.id, **attempt, lease_until=NOW + MINUTE, now=NOW)


# ---------------------------------------------------------------------------------------------- the same request

NEW, SAME, CONFLICT = "new", "same", "conflict"

RESEND = [
    pytest.param({}, (SAME, SAME), id="the very same message"),
    pytest.param({"transaction_id": b"other"}, (SAME, SAME), id="other transactionID"),
    pytest.param({"csr_info": OTHER}, (SAME, SAME), id="other CSR, same key and names"),
    pytest.param({"csr_info": OTHER, "names": OTHER}, (CONFLICT, NEW), id="other CSR, same key, other names"),
    pytest.param({"transaction_id": b"other", "csr_info": OTHER}, (SAME, SAME), id="other transactionID and CSR"),
    pytest.param(
        {"transaction_id": b"other", "csr_info": OTHER, "names": OTHER}, (NEW, NEW), id="other but for the key"
    ),
    pytest.param({"csr_key": OTHER, "csr_info": OTHER}, (CONFLICT, NEW), id="same transaction and signer, other key"),
    pytest.param(
        {"csr_key": OTHER, "csr_info": OTHER, "signer_key": OTHER}, (NEW, NEW), id="same transactionID, other signer"
    ),
    pytest.param({"signer_key": OTHER}, (SAME, SAME), id="signed anew with another throw-away key"),
    pytest.param({"profile": "other"}, (NEW, NEW), id="another profile"),
    pytest.param({"renewal_signer": OTHER, "transaction_id": b"other"}, (NEW, NEW), id="same-key renewal"),
    pytest.param({"renewal_signer": OTHER}, (CONFLICT, NEW), id="same-key renewal under the same transactionID"),
]


def seen(connection: Connection, identity: RequestIdentity, first: NewTransaction, *, after: timedelta) -> str:
    """How the journal takes a second request, and that `authorise` takes it like `recall`."""
    second = replace(a_transaction(identity), grant=first.grant)
    try:
        recalled = recall(connection, identity, NOW + after)
    except Refused as error:
        with pytest.raises(Refused, match=error.reason.name):
            authorise(connection, second, NOW + after)
        return {Reason.TRANSACTION_CONFLICT: CONFLICT}[error.reason]
    authorised = authorise(connection, second, NOW + after)
    if recalled is None:
        assert second.id == authorised.id
        return NEW
    assert first.id == recalled.id == authorised.id
    return SAME


@pytest.mark.parametrize(("changes", "expected"), RESEND)
def test_before_issuance_a_second_request_is_taken_as_the_table_says(
    connection: Connection, changes: dict[str, bytes], expected: tuple[str, str]
) -> None:
    first = a_transaction()
    submitting(connection, first)

    assert expected[0] == seen(connection, replace(first.identity, **changes), first, after=MINUTE)  # type: ignore[arg-type]  # by the table's care


@pytest.mark.parametrize(("changes", "expected"), RESEND)
def test_once_issued_a_second_request_is_taken_as_the_table_says(
    connection: Connection, changes: dict[str, bytes], expected: tuple[str, str]
) -> None:
    first = a_transaction()
    released(connection, first)

    assert expected[1] == seen(connection, replace(first.identity, **changes), first, after=MINUTE)  # type: ignore[arg-type]  # by the table's care


@pytest.mark.parametrize(("changes", "expected"), RESEND)
def test_an_hour_after_delivery_every_request_is_a_new_one(
    connection: Connection, changes: dict[str, bytes], expected: tuple[str, str]
) -> None:
    first = a_transaction()
    released(connection, first)

    assert expected[1] in {SAME, NEW}
    assert NEW == seen(connection, replace(first.identity, **changes), first, after=REDELIVERY)  # type: ignore[arg-type]  # by the table's care


def test_the_same_certificate_is_handed_out_until_an_hour_after_the_first_delivery(connection: Connection) -> None:
    new = a_transaction()
    released(connection, new, delivered=False)
    much_later = NOW + timedelta(days=30)

    undelivered = recall(connection, new.identity, much_later)
    mark_delivered(connection, new.id, much_later)
    mark_delivered(connection, new.id, much_later + MINUTE)
    last = recall(connection, new.identity, much_later + REDELIVERY - MICROSECOND)

    assert undelivered is not None
    assert last is not None
    assert last.certificate == undelivered.certificate
    assert last.delivered_at == much_later
    assert recall(connection, new.identity, much_later + REDELIVERY) is None


def test_an_expired_certificate_is_not_handed_out(connection: Connection) -> None:
    new = a_transaction()
    release(connection, authorise(connection, new, NOW), a_certificate(not_after=NOW + MINUTE), NOW, delivered=False)

    assert recall(connection, new.identity, NOW + MINUTE - MICROSECOND) is not None
    assert recall(connection, new.identity, NOW + MINUTE) is None


def test_after_a_rejection_the_same_request_is_a_new_one(connection: Connection) -> None:
    first = submitting(connection)
    new = a_transaction()
    settle_rejected(connection, submitting(connection, new), "policy", "not you", NOW)

    second = authorise(connection, a_transaction(new.identity), NOW)

    assert second.id not in {first.id, new.id}


# ---------------------------------------------------------------------------------------------- CertPoll


def test_certpoll_finds_only_what_the_same_signer_began_in_the_same_profile(connection: Connection) -> None:
    new = a_transaction()
    transaction = submitting(connection, new)
    identity = new.identity

    assert transaction == find(connection, "default", identity.signer_key, identity.transaction_id)
    assert find(connection, "default", OTHER, identity.transaction_id) is None
    assert find(connection, "other", identity.signer_key, identity.transaction_id) is None
    assert find(connection, "default", identity.signer_key, b"other") is None


def test_certpoll_finds_an_open_transaction_under_each_of_its_names(connection: Connection) -> None:
    new = a_transaction()
    transaction = submitting(connection, new)
    again = replace(new.identity, transaction_id=b"again", signer_key=OTHER)

    remember(connection, transaction.id, again)
    remember(connection, transaction.id, again)

    assert not transaction.is_named_by(again)
    assert transaction == find(connection, "default", OTHER, b"again")
    assert transaction == find(connection, "default", new.identity.signer_key, new.identity.transaction_id)


def test_an_identical_request_that_was_slower_is_findable_under_its_own_name(connection: Connection) -> None:
    new = a_transaction()
    transaction = submitting(connection, new)
    slower = a_transaction(replace(new.identity, transaction_id=b"slower"))

    authorise(connection, slower, NOW)

    assert transaction == find(connection, "default", new.identity.signer_key, b"slower")


def test_a_name_that_is_taken_by_an_open_transaction_conflicts_for_another_request(connection: Connection) -> None:
    new = a_transaction()
    remember(connection, submitting(connection, new).id, replace(new.identity, transaction_id=b"again"))

    with pytest.raises(Refused) as refused:
        recall(connection, an_identity(signer_key=new.identity.signer_key, transaction_id=b"again"), NOW)

    assert Reason.TRANSACTION_CONFLICT == refused.value.reason


def test_names_are_free_to_invent_so_their_number_is_limited(connection: Connection) -> None:
    new = a_transaction()
    transaction = submitting(connection, new)

    for number in range(MAX_ALIASES + 5):
        remember(connection, transaction.id, replace(new.identity, transaction_id=f"again {number}".encode()))

    assert MAX_ALIASES == connection.execute(select(func.count()).select_from(aliases)).scalar_one()
    assert transaction == find(connection, "default", new.identity.signer_key, b"again 0")


def test_certpoll_prefers_what_is_open_and_else_the_newest(connection: Connection) -> None:
    identity = an_identity()
    for reason, at in (("newest", NOW + MINUTE), ("oldest", NOW - MINUTE)):
        settle_rejected(connection, authorise(connection, a_transaction(identity), at), reason, "", at)
    third = authorise(connection, a_transaction(identity), NOW)

    opened = find(connection, "default", identity.signer_key, identity.transaction_id)
    settle_rejected(connection, third, "third", "", NOW)
    closed = find(connection, "default", identity.signer_key, identity.transaction_id)

    assert third == opened
    assert closed is not None
    assert "newest" == closed.reason


# ---------------------------------------------------------------------------------------------- one-time secrets


def test_a_secret_that_another_key_has_spent_is_an_alarm(connection: Connection) -> None:
    authorise(connection, a_transaction(spend=a_secret()), NOW)
    thief = a_transaction(spend=a_secret())

    with pytest.raises(Refused) as refused:
        authorise(connection, thief, NOW)

    assert Reason.CHALLENGE_REFUSED == refused.value.reason


def test_a_secret_that_the_same_key_has_spent_on_other_names_is_refused_without_alarm(connection: Connection) -> None:
    new = a_transaction(spend=a_secret())
    authorise(connection, new, NOW)
    other = an_identity(csr_key=new.identity.csr_key)

    with pytest.raises(Refused) as refused:
        authorise(connection, a_transaction(other, spend=a_secret()), NOW)

    assert (Refused, Reason.CHALLENGE_REFUSED) == (type(refused.value), refused.value.reason)


def test_the_same_request_may_present_its_secret_again(connection: Connection) -> None:
    new = a_transaction(spend=a_secret())
    first = authorise(connection, new, NOW)

    second = authorise(connection, a_transaction(new.identity, spend=a_secret()), NOW)

    assert first == second


def test_the_cas_refusal_gives_the_secret_back(connection: Connection) -> None:
    new = a_transaction(spend=a_secret())
    settle_rejected(connection, authorise(connection, new, NOW), "policy", "not yet", NOW)

    second = authorise(connection, a_transaction(spend=a_secret()), NOW)

    assert State.SUBMITTING == second.state


def test_after_issuance_a_spent_secret_authorises_nothing_afresh(connection: Connection) -> None:
    new = a_transaction(spend=a_secret())
    released(connection, new)

    with pytest.raises(Refused):
        authorise(connection, a_transaction(new.identity, spend=a_secret()), NOW + REDELIVERY)
