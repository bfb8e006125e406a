from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, func, select

from connectors.api import RevocationReason
from ra.errors import Reason, Refused
from ra.journal import one_time
from ra.journal.records import NewTransaction, RequestIdentity
from ra.journal.settle import back_to_authorised, expire, issue, revoke, settle_rejected
from ra.journal.statements import MAX_ALIASES
from ra.journal.states import IllegalTransition, LostRace, State
from ra.journal.tables import aliases, outbox, spent_secrets
from ra.journal.transactions import (
    REDELIVERY,
    approve,
    authorise,
    begin,
    deny,
    find,
    get,
    mark_delivered,
    recall,
    remember,
)
from ra.policy.grant import Notify
from tests.fakes.enrolments import (
    DAY,
    MINUTE,
    NOW,
    a_certificate,
    a_letter,
    a_minted,
    a_secret,
    a_transaction,
    an_identity,
    audited,
    digest,
    outcomes,
    released,
    submitting,
)

OTHER = digest("another")
MICROSECOND = timedelta(microseconds=1)


# ---------------------------------------------------------------------------------------------- authorise


@pytest.mark.parametrize("state", [State.AUTHORISED, State.AWAITING_APPROVAL, State.SUBMITTING])
def test_what_is_authorised_comes_back_as_it_was_written(connection: Connection, state: State) -> None:
    notify = (Notify(validator="intune", is_strict=True, patience=MINUTE),)
    new = a_transaction(state=state, notify=notify)

    written = authorise(connection, new, NOW)

    assert written == get(connection, new.id)
    assert (new.id, new.idempotency_key, NOW) == (written.id, written.idempotency_key, written.created_at)
    assert (state, new.due_at, new.expires_at, new.request) == (
        written.state,
        written.due_at,
        written.expires_at,
        written.request,
    )
    assert replace(new.grant, spend=None) == written.grant
    assert written.is_named_by(new.identity)


@pytest.mark.parametrize("state", sorted(set(State) - {State.AUTHORISED, State.AWAITING_APPROVAL, State.SUBMITTING}))
def test_nothing_begins_in_any_other_state(connection: Connection, state: State) -> None:
    new = a_transaction(state=state)

    with pytest.raises(IllegalTransition):
        authorise(connection, new, NOW)

    assert find(connection, "default", new.identity.signer_key, new.identity.transaction_id) is None


def test_a_decision_and_its_outcome_leave_one_event_each_that_say_who_what_why_and_how_long(
    connection: Connection,
) -> None:
    new = a_transaction(an_identity(transaction_id=b"\x00id"))
    certificate = a_certificate()
    transaction = authorise(connection, new, NOW)
    issue(connection, transaction, certificate, NOW + MINUTE, delivered=True, undelivered_until=None)

    (decided_at, decision), (settled_at, outcome) = audited(connection)

    assert (NOW, NOW + MINUTE) == (decided_at, settled_at)
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
    } == decision
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
    } == outcome


def test_a_request_that_was_decided_already_is_no_second_decision(connection: Connection) -> None:
    new = a_transaction()
    authorise(connection, new, NOW)

    authorise(connection, a_transaction(new.identity), NOW)

    assert ["authorised"] == outcomes(connection)


# ---------------------------------------------------------------------------------------------- begin


def test_what_was_authorised_for_later_begins_once(connection: Connection) -> None:
    authorised = authorise(connection, a_transaction(state=State.AUTHORISED), NOW)

    begun = begin(connection, authorised, NOW, due_at=NOW + 2 * MINUTE)

    assert (State.SUBMITTING, NOW + 2 * MINUTE, authorised.idempotency_key) == (
        begun.state,
        begun.due_at,
        begun.idempotency_key,
    )
    assert begun == get(connection, authorised.id)
    assert ["authorised", "submitting"] == outcomes(connection)
    with pytest.raises(LostRace):
        begin(connection, authorised, NOW, due_at=NOW + 2 * MINUTE)


def test_whoever_has_slept_while_it_was_sent_and_came_back_does_not_begin_it(connection: Connection) -> None:
    slept = authorise(connection, a_transaction(state=State.AUTHORISED), NOW)
    begun = begin(connection, slept, NOW, due_at=NOW + 2 * MINUTE)
    back_to_authorised(connection, begun, "refused", NOW + 3 * MINUTE, NOW)

    with pytest.raises(LostRace):
        begin(connection, slept, NOW, due_at=NOW + 2 * MINUTE)


# ---------------------------------------------------------------------------------------------- an approver's word


def waiting(connection: Connection, **values: Any) -> NewTransaction:
    new = a_transaction(state=State.AWAITING_APPROVAL, due_at=NOW + 7 * DAY, **values)
    authorise(connection, new, NOW)
    return new


def test_what_waits_for_approval_is_due_as_soon_as_it_is_approved(connection: Connection) -> None:
    new = waiting(connection)

    approved = approve(connection, new.id, "alice", NOW + DAY)

    assert (State.AUTHORISED, NOW + DAY, new.request) == (approved.state, approved.due_at, approved.request)
    assert approved == get(connection, new.id) == recall(connection, new.identity, NOW + DAY)
    assert ["awaiting-approval", "approved"] == outcomes(connection)
    assert "alice" == audited(connection)[-1][1]["who"]


def test_what_is_denied_is_over_and_its_secret_stays_spent(connection: Connection) -> None:
    new = waiting(connection, spend=a_secret())

    denied = deny(connection, new.id, "alice", "not one of ours", NOW + DAY)

    assert (State.REJECTED, None, None, "not one of ours") == (
        denied.state,
        denied.due_at,
        denied.request,
        denied.detail,
    )
    assert denied == get(connection, new.id)
    assert recall(connection, new.identity, NOW + DAY) is None
    assert ["awaiting-approval", "denied"] == outcomes(connection)
    assert ("alice", "not one of ours") == (audited(connection)[-1][1]["who"], audited(connection)[-1][1]["detail"])
    with pytest.raises(Refused):
        authorise(connection, a_transaction(new.identity, spend=a_secret()), NOW + DAY)


def test_of_a_denial_somebody_is_told_in_the_same_commit_and_the_request_is_kept_until_then(
    connection: Connection,
) -> None:
    new = waiting(connection)

    deny(connection, new.id, "alice", "no", NOW, letters=(a_letter(),))

    assert [new.id] == connection.execute(select(outbox.c.transaction)).scalars().all()
    assert new.request == get(connection, new.id).request


def test_an_approver_has_one_word_and_on_what_waits_for_it_alone(connection: Connection) -> None:
    other, denied, approved = submitting(connection), waiting(connection), waiting(connection)
    deny(connection, denied.id, "alice", "no", NOW)
    approve(connection, approved.id, "alice", NOW)

    for which in (other.id, denied.id, approved.id):
        before = get(connection, which)
        with pytest.raises(LostRace):
            approve(connection, which, "bob", NOW)
        with pytest.raises(LostRace):
            deny(connection, which, "bob", "no", NOW)
        assert before == get(connection, which)


# ---------------------------------------------------------------------------------------------- delivery


def test_what_is_fetched_is_nobodys_concern_any_more(connection: Connection) -> None:
    transaction = submitting(connection)
    issue(connection, transaction, a_certificate(), NOW, delivered=False, undelivered_until=NOW + DAY)

    first = mark_delivered(connection, transaction.id, NOW + MINUTE)
    second = mark_delivered(connection, transaction.id, NOW + 2 * MINUTE)

    assert (NOW + MINUTE, None) == (first.delivered_at, first.due_at)
    assert first == second == get(connection, transaction.id)


def test_a_certificate_that_is_being_revoked_is_not_marked_as_delivered(connection: Connection) -> None:
    transaction = released(connection, delivered=False)
    revoking = revoke(connection, transaction, RevocationReason.UNSPECIFIED, "nobody fetched it", NOW)

    stands = mark_delivered(connection, transaction.id, NOW + MINUTE)

    assert revoking == stands == get(connection, transaction.id)


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
    certificate = a_certificate(not_after=NOW + MINUTE)
    issue(connection, submitting(connection, new), certificate, NOW, delivered=False, undelivered_until=None)

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

    kept = [
        remember(connection, transaction.id, replace(new.identity, transaction_id=f"again {number}".encode()))
        for number in (*range(MAX_ALIASES + 5), 0)
    ]

    assert [True] * MAX_ALIASES + [False] * 5 + [True] == kept
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

    assert (Reason.CHALLENGE_REFUSED, True) == (refused.value.reason, refused.value.alarm)


def test_a_secret_that_the_same_key_has_spent_on_other_names_is_refused_without_alarm(connection: Connection) -> None:
    new = a_transaction(spend=a_secret())
    authorise(connection, new, NOW)
    other = an_identity(csr_key=new.identity.csr_key)

    with pytest.raises(Refused) as refused:
        authorise(connection, a_transaction(other, spend=a_secret()), NOW)

    assert (Reason.CHALLENGE_REFUSED, False) == (refused.value.reason, refused.value.alarm)


def test_a_secret_that_was_withdrawn_since_it_was_looked_up_is_refused(connection: Connection) -> None:
    spend = a_secret(digest("one-time"))
    one_time.mint(connection, [a_minted(spend)], "alice")
    one_time.revoke(connection, one_time.Selection(), "bob", NOW)

    with pytest.raises(Refused, match="withdrawn") as refused:
        authorise(connection, a_transaction(spend=spend), NOW)

    assert (Reason.CHALLENGE_REFUSED, False) == (refused.value.reason, refused.value.alarm)


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


def test_what_has_expired_gives_its_secret_back(connection: Connection) -> None:
    new = a_transaction(state=State.AUTHORISED, spend=a_secret())
    expire(connection, authorise(connection, new, NOW), "7 days", None, NOW + 7 * DAY)

    second = authorise(connection, a_transaction(new.identity, spend=a_secret()), NOW + 7 * DAY)

    assert State.SUBMITTING is second.state


def test_that_a_secret_is_spent_is_kept_with_the_key_and_for_as_long_as_the_secret_says(connection: Connection) -> None:
    secret, new = a_secret(), a_transaction(spend=a_secret())
    authorise(connection, new, NOW)

    (row,) = connection.execute(select(spent_secrets)).all()

    assert (secret.key, new.id, new.identity.csr_key, secret.expires_at) == tuple(row)
