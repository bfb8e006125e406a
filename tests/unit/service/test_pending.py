"""What is PENDING: who is told so, how the device asks again, and what it gets in the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from connectors.api import Capability, Pending, Rejected, Rejection
from ra.client import replies
from ra.client.names import FailInfo
from ra.errors import Unavailable
from ra.journal import transactions
from ra.policy.grant import Grant
from tests.fakes import pki
from tests.fakes.assembled import CHALLENGE, Assembled, assembled
from tests.fakes.device import Device, pooled_key
from tests.fakes.issuing import IssuingCa
from tests.fakes.publishing import PublishingCa

pytestmark = pytest.mark.anyio

CA = pki.root()
Ask = Callable[[Assembled, Device], Awaitable[replies.Result]]

ORDER = Pending(reference="order 1", retry_after_seconds=60)


@pytest.fixture
async def ca() -> IssuingCa:
    return IssuingCa(CA, Capability.IDEMPOTENT, Capability.POLL)


@pytest.fixture
async def ra(tmp_path: Path, ca: IssuingCa) -> AsyncIterator[Assembled]:
    async with assembled(tmp_path, ca, CA, wait_seconds=0) as registration_authority:
        yield registration_authority


async def enrol(ra: Assembled, device: Device) -> replies.Result:
    return device.open((await ra.answer(device.enrol_message(ra.ca, challenge=CHALLENGE))).body)


async def poll(ra: Assembled, device: Device) -> replies.Result:
    return device.open((await ra.answer(device.poll_message(ra.ca))).body)


def held_for_approval(ra: Assembled) -> None:
    ra.validator.verdict = Grant(method="shared", label="first", needs_approval=True)


@pytest.mark.rfc8894("manual-authorisation")
async def test_what_waits_for_a_person_is_pending_however_it_is_asked_for(ra: Assembled, ca: IssuingCa) -> None:
    held_for_approval(ra)
    device = Device()

    told = [await enrol(ra, device), await poll(ra, device), await enrol(ra, device)]

    assert [replies.Pending()] * 3 == told
    assert 1 == len(await ra.transactions())
    assert [] == ca.requests


async def test_the_list_of_those_who_wait_for_a_person_is_bounded(ra: Assembled) -> None:
    held_for_approval(ra)
    ra.endpoint = replace(ra.endpoint, profile=replace(ra.endpoint.profile, max_awaiting_approval=2))
    first, second, third = (Device(subject=f"CN=device {number}") for number in range(3))
    told = [await enrol(ra, first), await enrol(ra, second)]

    with pytest.raises(Unavailable, match="max_awaiting_approval"):
        await enrol(ra, third)
    again = await enrol(ra, first)
    (waiting, _) = await ra.transactions()
    await ra.journal.write(lambda c: transactions.deny(c, waiting.id, "helpdesk", "not ours", ra.clock.now()))
    later = await enrol(ra, third)

    assert [replies.Pending()] * 4 == [*told, again, later]


@pytest.mark.parametrize("ask", [enrol, poll], ids=["the same request", "CertPoll"])
async def test_what_a_person_has_approved_is_issued_and_handed_to_whoever_asks_again(ra: Assembled, ask: Ask) -> None:
    held_for_approval(ra)
    device = Device()
    await enrol(ra, device)
    (waiting,) = await ra.transactions()

    await ra.journal.write(lambda c: transactions.approve(c, waiting.id, "helpdesk", ra.clock.now()))
    await ra.sweep()
    result = await ask(ra, device)

    assert isinstance(result, replies.Success)
    assert device.key.public_key() == result.certificates[0].public_key()


async def test_what_a_person_has_denied_has_failed_for_whoever_polls(ra: Assembled, ca: IssuingCa) -> None:
    held_for_approval(ra)
    device = Device()
    await enrol(ra, device)
    (waiting,) = await ra.transactions()

    await ra.journal.write(lambda c: transactions.deny(c, waiting.id, "helpdesk", "not ours", ra.clock.now()))
    result = await poll(ra, device)

    assert isinstance(result, replies.Failure)
    assert FailInfo.BAD_REQUEST == result.fail_info
    assert [] == ca.requests


async def test_what_nobody_approves_in_time_has_failed(ra: Assembled) -> None:
    held_for_approval(ra)
    device = Device()
    await enrol(ra, device)

    await ra.sweep(timedelta(days=ra.endpoint.profile.pending_expires_days))
    result = await poll(ra, device)

    assert isinstance(result, replies.Failure)
    assert "The transaction has ended without a certificate." == result.text


@pytest.mark.parametrize("ask", [enrol, poll], ids=["the same request", "CertPoll"])
async def test_a_ca_that_takes_its_time_has_its_certificate_handed_to_whoever_asks_again(
    ra: Assembled, ca: IssuingCa, ask: Ask
) -> None:
    ca.answer = ORDER
    device = Device()

    told = [await enrol(ra, device), await ask(ra, device)]
    await ra.work.background.drain()
    await ra.sweep(timedelta(minutes=1))
    result = await ask(ra, device)

    assert [replies.Pending()] * 2 == told
    assert isinstance(result, replies.Success)
    assert ["order 1"] == ca.polls


async def test_a_ca_that_refuses_after_all_is_told_to_whoever_polls(ra: Assembled, ca: IssuingCa) -> None:
    ca.answer, ca.polled = ORDER, Rejected(rejection=Rejection.POLICY, detail="the quota is used up")
    device = Device()
    await enrol(ra, device)
    await ra.work.background.drain()

    await ra.sweep(timedelta(minutes=1))
    result = await poll(ra, device)

    assert isinstance(result, replies.Failure)
    assert "The certificate authority refused the request." == result.text


async def test_a_certificate_that_comes_when_nobody_waits_any_more_is_kept(ra: Assembled, ca: IssuingCa) -> None:
    device = Device()
    ca.may_answer.clear()

    first = await enrol(ra, device)
    ca.may_answer.set()
    await ra.work.background.drain()
    (kept,) = await ra.transactions()
    second = await enrol(ra, device)

    assert replies.Pending() == first
    assert kept.delivered_at is None
    assert isinstance(second, replies.Success)
    assert 1 == len(ca.requests)


async def test_a_request_is_held_open_for_the_ca_as_long_as_the_profile_says(tmp_path: Path, ca: IssuingCa) -> None:
    device = Device()
    ca.may_answer.clear()
    async with assembled(tmp_path, ca, CA, wait_seconds=30) as ra:
        request = asyncio.create_task(enrol(ra, device))
        await ca.asked.wait()
        ca.may_answer.set()
        result = await request

    assert isinstance(result, replies.Success)


@pytest.mark.rfc8894("poll-needs-a-request")
async def test_a_poll_for_what_nobody_has_asked_for_is_refused(ra: Assembled) -> None:
    result = await poll(ra, Device())

    assert isinstance(result, replies.Failure)
    assert FailInfo.BAD_CERT_ID == result.fail_info


@pytest.mark.rfc8894("poll-needs-a-request", "poll-by-transaction")
async def test_a_pending_request_is_not_found_by_another_key_under_the_same_transaction_id(
    ra: Assembled, ca: IssuingCa
) -> None:
    ca.answer = ORDER
    device, stranger = Device(key=pooled_key(0)), Device(key=pooled_key(1))
    await enrol(ra, device)
    known = (await ra.transactions())[0].transaction_id.decode()

    result = stranger.open((await ra.answer(stranger.poll_message(ra.ca, transaction_id=known))).body)

    assert isinstance(result, replies.Failure)
    assert FailInfo.BAD_CERT_ID == result.fail_info


async def test_a_pending_renewal_is_polled_with_the_certificate_that_signed_it(tmp_path: Path) -> None:
    ca = PublishingCa(CA, Capability.CRL, Capability.POLL)
    async with assembled(tmp_path, ca, CA, default_validity_days=20) as ra:
        device, new = Device(key=pooled_key(0)), pooled_key(1)
        device.obtain((await ra.answer(device.enrol_message(ra.ca, challenge=CHALLENGE))).body)
        ca.answer = ORDER
        message = device.renew_message(ra.ca, new)
        assert device.request is not None
        named = device.request.transaction_id

        told = device.open((await ra.answer(message)).body)
        await ra.sweep(timedelta(minutes=1))
        result = device.open((await ra.answer(device.poll_message(ra.ca, transaction_id=named))).body)

    assert replies.Pending() == told
    assert isinstance(result, replies.Success)
    assert new.public_key() == result.certificates[0].public_key()
