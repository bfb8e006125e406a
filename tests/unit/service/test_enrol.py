"""Enrolments over a real journal and both codecs; the CA is told what to answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import Connection

from connectors.api import (
    AuthFailed,
    BackendUnavailable,
    Capability,
    ConnectorError,
    Issued,
    Misconfigured,
    Pending,
    ProtocolViolation,
    Rejected,
    Rejection,
)
from ra.challenge.api import Accepted, Deny
from ra.challenge.api import Unavailable as NotNow
from ra.client import replies
from ra.client.names import FailInfo
from ra.errors import Unavailable
from ra.journal.records import RequestIdentity
from ra.journal.refusals import list_refusals
from ra.journal.statements import MAX_ALIASES
from ra.journal.transactions import REDELIVERY, remember
from ra.policy.grant import Grant, Spend
from ra.scep.errors import Unreadable
from tests.fakes import pki
from tests.fakes.assembled import CHALLENGE, FLOOR_SECONDS, Assembled, AttendedChallenge, assembled
from tests.fakes.device import Device, pooled_key
from tests.fakes.issuing import IssuingCa

pytestmark = pytest.mark.anyio

CA = pki.root()
NOT_SENT = BackendUnavailable("connection refused", maybe_issued=False)
LOST = BackendUnavailable("the answer was lost", maybe_issued=True)


@pytest.fixture
async def issuing() -> IssuingCa:
    return IssuingCa(CA, Capability.IDEMPOTENT)


@pytest.fixture
async def ra(tmp_path: Path, issuing: IssuingCa) -> AsyncIterator[Assembled]:
    async with assembled(tmp_path, issuing, CA) as registration_authority:
        yield registration_authority


async def enrol(
    ra: Assembled, device: Device, challenge: str | None = CHALLENGE, tid: str | None = None
) -> replies.Result:
    answer = await ra.answer(device.enrol_message(ra.ca, challenge=challenge, transaction_id=tid))
    return device.open(answer.body)


@pytest.mark.rfc8894("mandatory-enrolment")
async def test_a_device_with_the_challenge_is_certified(ra: Assembled) -> None:
    device = Device()

    certificate = device.obtain((await ra.answer(device.enrol_message(ra.ca, challenge=CHALLENGE))).body)

    assert device.key.public_key() == certificate.public_key()
    assert {"success": 1} == ra.counts.outcomes


async def test_a_decision_leaves_one_event_and_its_outcome_another(ra: Assembled) -> None:
    await enrol(ra, Device(subject="CN=device 7"))

    decision, outcome = await ra.events()

    assert ("decision", "authorised") == (decision["event"], decision["outcome"])
    assert ("outcome", "released") == (outcome["event"], outcome["outcome"])
    assert ("CN=device 7", "shared", "first") == tuple(
        decision[key] for key in ("subject", "grant_method", "grant_label")
    )


async def test_the_challenge_is_nowhere_in_the_audit(ra: Assembled) -> None:
    await enrol(ra, Device())

    assert CHALLENGE not in repr(await ra.events())


@pytest.mark.parametrize("challenge", ["another", None])
async def test_a_wrong_challenge_is_refused_late_and_without_a_word(
    ra: Assembled, issuing: IssuingCa, challenge: str | None
) -> None:
    result = await enrol(ra, Device(), challenge)

    assert replies.Failure(fail_info=FailInfo.BAD_REQUEST, text="") == result
    assert [FLOOR_SECONDS] == ra.clock.slept_seconds
    assert issuing.requests == []
    assert await ra.events() == []


async def test_a_policy_refusal_says_why_and_is_audited(ra: Assembled, issuing: IssuingCa) -> None:
    device = Device(subject="CN=one,CN=two")

    result = await enrol(ra, device)
    (event,) = await ra.events()

    assert isinstance(result, replies.Failure)
    assert "The subject name is not allowed." == result.text
    assert ("refused", "SUBJECT_NOT_ALLOWED") == (event["outcome"], event["reason"])
    assert issuing.requests == []
    assert ra.clock.slept_seconds == []


async def test_a_validator_that_cannot_tell_is_no_refusal(ra: Assembled, issuing: IssuingCa) -> None:
    ra.validator.verdict = NotNow(detail="the directory is away", retry_after_seconds=7)

    with pytest.raises(Unavailable) as caught:
        await enrol(ra, Device())

    assert 7 == caught.value.retry_after_seconds
    assert issuing.requests == []


async def test_what_was_put_off_or_refused_is_remembered_with_the_names_it_asked_for(ra: Assembled) -> None:
    for verdict in (NotNow(detail="the directory is away"), Deny(detail="unknown")):
        ra.validator.verdict = verdict
        with suppress(Unavailable):
            await enrol(ra, Device())
    await ra.work.refusals.flush()

    refused, put_off = await ra.journal.read(lambda c: list_refusals(c, None, None, 10))

    assert ("CHALLENGE_REFUSED", "UNAVAILABLE") == (refused.reason, put_off.reason)
    assert "the directory is away" == put_off.detail
    assert put_off.transaction_id
    assert {"CN=device.example, O=Example"} == {refused.asked_for, put_off.asked_for}


async def test_the_same_message_again_gets_the_same_certificate(ra: Assembled, issuing: IssuingCa) -> None:
    device = Device()
    message = device.enrol_message(ra.ca, challenge=CHALLENGE)

    first = device.obtain((await ra.answer(message)).body)
    second = device.obtain((await ra.answer(message)).body)

    assert first == second
    assert 1 == len(issuing.requests)
    assert 1 == ra.validator.asked


@pytest.mark.rfc8894("new-transaction-after-loss")
async def test_a_lost_answer_is_made_good_under_a_new_transaction_id(ra: Assembled, issuing: IssuingCa) -> None:
    device = Device()

    first = await enrol(ra, device, tid="the first")
    second = await enrol(ra, device, tid="the second")

    assert isinstance(first, replies.Success)
    assert isinstance(second, replies.Success)
    assert first.certificates == second.certificates
    assert 1 == len(issuing.requests)


@pytest.mark.rfc8894("new-transaction-after-loss")
async def test_a_certificate_that_waits_for_a_notice_is_polled_under_each_of_its_transaction_ids(
    tmp_path: Path, issuing: IssuingCa
) -> None:
    device, validator = Device(), AttendedChallenge()
    async with assembled(tmp_path, issuing, CA, validator=validator) as ra:
        first = await enrol(ra, device, tid="the first")
        second = await enrol(ra, device, tid="the second")
        polled = device.open((await ra.answer(device.poll_message(ra.ca, transaction_id="the second"))).body)
        validator.receipt = Accepted()
        ra.clock.advance(timedelta(minutes=1))
        await ra.work.deliveries.deliver_due()
        await ra.work.deliveries.drain()
        fetched = device.open((await ra.answer(device.poll_message(ra.ca, transaction_id="the second"))).body)

    assert [replies.Pending()] * 3 == [first, second, polled]
    assert isinstance(fetched, replies.Success)


async def test_a_device_with_too_many_transaction_ids_is_told_to_come_back_and_not_to_poll(
    ra: Assembled, issuing: IssuingCa
) -> None:
    device = Device()
    issuing.answer = Pending(reference="order 5", retry_after_seconds=60)
    await enrol(ra, device, tid="the first")
    open_one = (await ra.transactions())[0]

    def use_them_up(connection: Connection) -> None:
        name = RequestIdentity(
            profile="default",
            signer_key=open_one.signer_key,
            transaction_id=b"",
            csr_key=open_one.csr_key,
            names=open_one.names,
            csr_info=open_one.csr_info,
            renewal_signer=None,
        )
        for number in range(MAX_ALIASES):
            remember(connection, open_one.id, replace(name, transaction_id=f"again {number}".encode()))

    await ra.journal.write(use_them_up)
    with pytest.raises(Unavailable, match="too many transactionIDs"):
        await enrol(ra, device, tid="one more")
    known = await enrol(ra, device, tid="again 7")
    issuing.answer = None
    await ra.sweep(later=timedelta(minutes=2))
    served = await enrol(ra, device, tid="one more")

    assert replies.Pending() == known
    assert isinstance(served, replies.Success)


async def test_an_hour_after_delivery_the_same_request_is_a_new_one(ra: Assembled, issuing: IssuingCa) -> None:
    device = Device()
    first = await enrol(ra, device)
    ra.clock.advance(REDELIVERY)

    second = await enrol(ra, device)

    assert isinstance(first, replies.Success)
    assert isinstance(second, replies.Success)
    assert first.certificates != second.certificates
    assert 2 == len({each.idempotency_key for each in issuing.requests})


async def test_the_cas_no_is_told_with_the_public_sentence(ra: Assembled, issuing: IssuingCa) -> None:
    issuing.answer = Rejected(rejection=Rejection.POLICY, detail="quota of department 12 exceeded")

    result = await enrol(ra, Device())
    _, event = await ra.events()

    assert isinstance(result, replies.Failure)
    assert "The certificate authority refused the request." == result.text
    assert "quota of department 12 exceeded" == event["detail"]


@pytest.mark.parametrize(
    "error", [NOT_SENT, LOST, AuthFailed("token expired"), ProtocolViolation("200 with HTML")], ids=str
)
async def test_a_ca_that_is_away_is_pending_and_never_failure(
    ra: Assembled, issuing: IssuingCa, error: ConnectorError
) -> None:
    issuing.answer = error

    result = await enrol(ra, Device())

    assert replies.Pending() == result


@pytest.mark.parametrize(
    ("error", "alarms"),
    [
        (AuthFailed("token expired"), {"CA_SETTINGS": 1}),
        (Misconfigured("unknown role: x (see role)", settings=("role",)), {"CA_SETTINGS": 1}),
        (NOT_SENT, {}),
    ],
    ids=str,
)
async def test_what_only_a_person_can_mend_is_an_alarm_and_no_refusal(
    ra: Assembled, issuing: IssuingCa, error: ConnectorError, alarms: dict[str, int]
) -> None:
    issuing.answer = error
    device = Device()

    refused = await enrol(ra, device)
    raised = dict(ra.counts.alarms)
    issuing.answer = None
    await ra.sweep(timedelta(minutes=10))
    [settled] = await ra.transactions()

    assert replies.Pending() == refused
    assert alarms == raised
    assert {type(error).__name__: 1} == dict(ra.counts.failures)
    assert "released" == settled.state


async def test_a_connector_that_answers_with_something_else_leaves_the_attempt_open(
    ra: Assembled, issuing: IssuingCa
) -> None:
    issuing.answer = "a certificate, perhaps"

    answer = await ra.answer(Device().enrol_message(ra.ca, challenge=CHALLENGE))

    assert ("pending", "unknown: ProtocolViolation: the connector answered with str") == (answer.outcome, answer.detail)


async def test_a_connector_that_breaks_leaves_the_attempt_open(ra: Assembled, issuing: IssuingCa) -> None:
    issuing.answer = ZeroDivisionError("a fault of the plugin")

    answer = await ra.answer(Device().enrol_message(ra.ca, challenge=CHALLENGE))

    assert ("pending", "unknown: ZeroDivisionError: a fault of the plugin") == (answer.outcome, answer.detail)
    assert {"ZeroDivisionError": 1} == ra.counts.failures


async def test_a_journal_that_is_lost_after_the_first_commit_is_pending_and_no_503(
    ra: Assembled, issuing: IssuingCa
) -> None:
    device = Device()
    issuing.may_answer.clear()
    request = asyncio.create_task(enrol(ra, device))
    await issuing.asked.wait()

    closing = asyncio.create_task(ra.journal.aclose())
    await asyncio.sleep(0)
    issuing.may_answer.set()
    result = await request
    await closing

    assert replies.Pending() == result


async def test_a_stranger_whom_policy_refuses_leaves_no_audit(tmp_path: Path, issuing: IssuingCa) -> None:
    async with assembled(tmp_path, issuing, CA, challenge=False) as ra:
        result = await enrol(ra, Device(subject="CN=one,CN=two"), None)
        events = await ra.events()

    assert isinstance(result, replies.Failure)
    assert [] == events


async def test_a_theft_is_audited(ra: Assembled) -> None:
    spend = Spend(key=b"keyed hash", expires_at=pki.NOW + timedelta(hours=1))
    ra.validator.verdict = Grant(method="otp", label="ticket 3", spend=spend)
    await enrol(ra, Device(key=pooled_key(0)))

    await enrol(ra, Device(key=pooled_key(1)))
    *_, event = await ra.events()

    assert ("refused", "CHALLENGE_REFUSED", "ticket 3") == (event["outcome"], event["reason"], event["grant_label"])


async def test_a_device_that_hangs_up_cancels_nothing(ra: Assembled, issuing: IssuingCa) -> None:
    device = Device()
    issuing.may_answer.clear()
    request = asyncio.create_task(enrol(ra, device))
    await issuing.asked.wait()

    request.cancel()
    issuing.may_answer.set()
    await ra.work.background.drain()
    result = await enrol(ra, device)

    assert isinstance(result, replies.Success)
    assert 1 == len(issuing.requests)


async def test_sixteen_at_once_get_one_certificate(ra: Assembled, issuing: IssuingCa) -> None:
    device = Device()
    message = device.enrol_message(ra.ca, challenge=CHALLENGE)

    answers = await asyncio.gather(*(ra.answer(message) for _ in range(16)))
    results = [device.open(each.body) for each in answers]

    assert 1 == len(issuing.requests)
    assert 1 == len({each.certificates for each in results if isinstance(each, replies.Success)})


async def test_a_ca_that_takes_its_time_is_pending_until_it_has_decided(ra: Assembled, issuing: IssuingCa) -> None:
    device = Device()
    issuing.answer = Pending(reference="order 5", retry_after_seconds=60)

    first = await enrol(ra, device)
    polled = device.open((await ra.answer(device.poll_message(ra.ca))).body)

    assert replies.Pending() == first
    assert replies.Pending() == polled


@pytest.mark.rfc8894("no-nonce-chain")
async def test_a_poll_after_issuance_gets_the_certificate(ra: Assembled) -> None:
    device = Device()
    first = await enrol(ra, device)

    polled = device.open((await ra.answer(device.poll_message(ra.ca))).body)

    assert isinstance(first, replies.Success)
    assert isinstance(polled, replies.Success)
    assert first.certificates == polled.certificates


@pytest.mark.rfc8894("poll-by-transaction")
async def test_a_poll_by_another_key_finds_nothing(ra: Assembled) -> None:
    device, stranger = Device(key=pooled_key(0)), Device(key=pooled_key(1))
    await enrol(ra, device, tid="guessable")

    polled = stranger.open((await ra.answer(stranger.poll_message(ra.ca, transaction_id="guessable"))).body)

    assert isinstance(polled, replies.Failure)
    assert FailInfo.BAD_CERT_ID == polled.fail_info


async def test_a_wrong_certificate_is_kept_from_the_device(ra: Assembled, issuing: IssuingCa) -> None:
    stranger = CA.issue(pki.rsa_key(7), name="somebody else")
    issuing.answer = Issued(certificate=pki.der(stranger), chain=CA.chain, reference="order 9")

    result = await enrol(ra, Device())
    _, event, stopped = await ra.events()

    assert replies.Pending() == result
    assert "quarantined" == event["outcome"]
    assert "connector-stopped" == stopped["event"]
    assert {"QUARANTINED": 1} == ra.counts.alarms


@pytest.mark.rfc8894("one-time-challenge")
async def test_a_one_time_secret_is_good_for_one_key(ra: Assembled, issuing: IssuingCa) -> None:
    spend = Spend(key=b"keyed hash", expires_at=pki.NOW + timedelta(hours=1))
    ra.validator.verdict = Grant(method="otp", label="ticket 3", spend=spend)
    device, stranger = Device(key=pooled_key(0)), Device(key=pooled_key(1))

    first = await enrol(ra, device)
    again = await enrol(ra, device)
    theft = await enrol(ra, stranger)

    assert isinstance(first, replies.Success)
    assert first == again
    assert replies.Failure(fail_info=FailInfo.BAD_REQUEST, text="") == theft
    assert 1 == len(issuing.requests)
    assert {"CHALLENGE_REFUSED": 1} == ra.counts.alarms


async def test_a_signer_that_cannot_receive_is_told_before_anything_is_issued(
    ra: Assembled, issuing: IssuingCa
) -> None:
    device = Device(key=ec.generate_private_key(ec.SECP256R1()))

    result = await enrol(ra, device)

    assert isinstance(result, replies.Failure)
    assert FailInfo.BAD_ALG == result.fail_info
    assert issuing.requests == []


async def test_queries_are_answered_as_by_a_server_without_such_a_certificate(ra: Assembled) -> None:
    device = Device()

    answer = device.open((await ra.answer(device.get_cert_message(ra.ca, 7))).body)

    assert replies.Failure(fail_info=FailInfo.BAD_CERT_ID, text="") == answer


async def test_garbage_is_counted_and_costs_no_commit(ra: Assembled) -> None:
    before = await ra.journal.read(lambda c: c.exec_driver_sql("PRAGMA data_version").scalar_one())

    with pytest.raises(Unreadable):
        await ra.answer(b"\x30\x03\x02\x01\x05")

    after = await ra.journal.read(lambda c: c.exec_driver_sql("PRAGMA data_version").scalar_one())
    assert before == after
    assert {"unreadable": 1} == ra.counts.outcomes
