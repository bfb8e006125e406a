"""What goes on without a request: over a real journal; the CA is told what to answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import update

from connectors.api import (
    BackendUnavailable,
    Capability,
    Issued,
    Misconfigured,
    Pending,
    RateLimited,
    Rejected,
    Rejection,
    RevocationReason,
)
from ra.client import replies
from ra.client.names import FailInfo
from ra.journal.states import State
from ra.journal.tables import transactions
from ra.policy.grant import Grant, Spend
from ra.service.sweep import IDLE_SECONDS
from tests.fakes import pki
from tests.fakes.assembled import CHALLENGE, LEASE, Assembled, assembled
from tests.fakes.device import Device
from tests.fakes.issuing import IssuingCa

pytestmark = pytest.mark.anyio

CA = pki.root()
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
NOT_SENT = BackendUnavailable("connection refused", maybe_issued=False)
LOST = BackendUnavailable("the answer was lost", maybe_issued=True)
ORDER = Pending(reference="order 7", retry_after_seconds=60)
NO = Rejected(rejection=Rejection.POLICY, detail="no such name")
SPEND = Spend(key=b"keyed hash", expires_at=pki.NOW + timedelta(days=30))


@pytest.fixture
async def issuing() -> IssuingCa:
    return IssuingCa(CA, Capability.FIND_ISSUED, Capability.POLL, Capability.REVOKE)


@pytest.fixture
async def ra(tmp_path: Path, issuing: IssuingCa) -> AsyncIterator[Assembled]:
    async with assembled(tmp_path, issuing, CA) as registration_authority:
        yield registration_authority


async def enrol(ra: Assembled, device: Device) -> replies.Result:
    answer = await ra.answer(device.enrol_message(ra.ca, challenge=CHALLENGE, transaction_id=device.subject))
    return device.open(answer.body)


async def poll(ra: Assembled, device: Device) -> replies.Result:
    answer = await ra.answer(device.poll_message(ra.ca, transaction_id=device.subject))
    return device.open(answer.body)


async def state(ra: Assembled) -> State:
    *_, newest = await ra.transactions()
    return newest.state


# ---------------------------------------------------------------- what was not sent
async def test_what_was_not_sent_is_sent_later_and_fetched_by_the_next_try(ra: Assembled, issuing: IssuingCa) -> None:
    device = Device()
    issuing.answer = NOT_SENT
    before = await enrol(ra, device)
    issuing.answer = None

    await ra.sweep(later=MINUTE)
    after = await enrol(ra, device)

    assert replies.Pending() == before
    assert isinstance(after, replies.Success)
    assert 1 == len({(each.idempotency_key, each.requested_at, each.csr) for each in issuing.requests})
    assert 1 == ra.validator.asked


async def test_what_is_sent_later_is_what_was_decided(tmp_path: Path, issuing: IssuingCa) -> None:
    issuing.answer = NOT_SENT
    async with assembled(tmp_path, issuing, CA, default_validity_days=365) as before:
        await enrol(before, Device())
    issuing.answer = None
    async with assembled(tmp_path, issuing, CA, default_validity_days=90) as after:
        await after.sweep(later=MINUTE)

    assert [timedelta(days=365)] * 2 == [each.contents.validity for each in issuing.requests]


async def test_an_unused_authorisation_does_not_last_for_ever(ra: Assembled, issuing: IssuingCa) -> None:
    device = Device()
    issuing.answer = NOT_SENT
    await enrol(ra, device)

    await ra.sweep(later=7 * DAY)
    expired = await state(ra)
    issuing.answer = None
    result = await enrol(ra, device)

    assert State.EXPIRED is expired
    assert isinstance(result, replies.Success)
    assert 2 == ra.validator.asked


async def test_a_ca_with_its_hands_full_gets_the_rest_when_it_has_room(tmp_path: Path, issuing: IssuingCa) -> None:
    issuing.may_answer.clear()
    async with assembled(tmp_path, issuing, CA, max_concurrent=1, wait_seconds=0) as ra:
        waiting = [await enrol(ra, Device(subject=f"CN=device {number}")) for number in range(3)]
        asked_at_once = len(issuing.requests)
        issuing.may_answer.set()
        await ra.work.background.drain()
        states = [each.state for each in await ra.transactions()]

    assert [replies.Pending()] * 3 == waiting
    assert 1 == asked_at_once
    assert [State.RELEASED] * 3 == states


async def test_what_is_sent_later_follows_at_the_pace_of_the_ca(tmp_path: Path, issuing: IssuingCa) -> None:
    issuing.answer = NOT_SENT
    async with assembled(tmp_path, issuing, CA, max_concurrent=1) as ra:
        for number in range(4):
            await enrol(ra, Device(subject=f"CN=device {number}"))
        issuing.answer = None
        ra.clock.advance(MINUTE)
        sweeping = asyncio.create_task(ra.work.sweeper.run())
        async with asyncio.timeout(2 * IDLE_SECONDS):
            while len(issuing.requests) < 4 + 4:
                issuing.asked.clear()
                await issuing.asked.wait()
        sweeping.cancel()


async def test_a_ca_that_says_wait_is_left_alone_for_so_long(ra: Assembled, issuing: IssuingCa) -> None:
    issuing.answer = RateLimited("slow down", retry_after_seconds=3600)
    await enrol(ra, Device())
    issuing.answer = None

    await ra.sweep(later=30 * MINUTE)
    after_half_an_hour = len(issuing.requests)
    await ra.sweep(later=31 * MINUTE)

    assert 1 == after_half_an_hour
    assert State.RELEASED is await state(ra)


# ---------------------------------------------------------------- lost answers
async def test_a_certificate_whose_answer_was_lost_is_found(ra: Assembled, issuing: IssuingCa) -> None:
    device = Device()
    issuing.answer = LOST
    before = await enrol(ra, device)
    issuing.keep_issued()

    await ra.sweep(later=MINUTE)
    after = await enrol(ra, device)

    assert replies.Pending() == before
    assert isinstance(after, replies.Success)
    assert 1 == len(issuing.requests)


async def test_what_the_ca_surely_has_not_issued_is_sent_again(ra: Assembled, issuing: IssuingCa) -> None:
    issuing.answer = LOST
    await enrol(ra, Device())
    issuing.answer = None

    await ra.sweep(later=MINUTE)
    after_the_first_no = len(issuing.requests)
    await ra.sweep(later=LEASE)

    assert 1 == after_the_first_no
    assert State.RELEASED is await state(ra)
    assert 2 == len(issuing.requests)


async def test_a_ca_that_issues_after_it_has_said_no_is_not_asked_for_a_second_certificate(
    ra: Assembled, issuing: IssuingCa
) -> None:
    issuing.answer = LOST
    await enrol(ra, Device())
    await ra.sweep(later=MINUTE)
    issuing.keep_issued()

    await ra.sweep(later=LEASE)

    assert State.RELEASED is await state(ra)
    assert 1 == len(issuing.requests)


async def test_a_no_before_the_ca_was_away_does_not_count(ra: Assembled, issuing: IssuingCa) -> None:
    issuing.answer = LOST
    await enrol(ra, Device())
    await ra.sweep(later=MINUTE)
    issuing.found = NOT_SENT
    await ra.sweep(later=LEASE)
    issuing.found = None

    await ra.sweep(later=MINUTE)

    assert State.UNKNOWN is await state(ra)
    assert 1 == len(issuing.requests)


async def test_a_ca_that_cannot_be_asked_about_a_lost_answer_leaves_it_and_alarms(
    ra: Assembled, issuing: IssuingCa
) -> None:
    issuing.answer = LOST
    await enrol(ra, Device())
    issuing.found = NOT_SENT

    await ra.sweep(later=MINUTE)

    assert State.UNKNOWN is await state(ra)
    assert 1 == len(issuing.requests)
    assert ra.counts.alarms["UNKNOWN"]


async def test_an_idempotent_ca_is_asked_again_with_the_same_key(tmp_path: Path) -> None:
    issuing = IssuingCa(CA, Capability.IDEMPOTENT)
    issuing.answer = LOST
    async with assembled(tmp_path, issuing, CA) as ra:
        await enrol(ra, Device())
        issuing.answer = None
        await ra.sweep(later=MINUTE)
        settled = await state(ra)

    assert State.RELEASED is settled
    assert 1 == len({each.idempotency_key for each in issuing.requests})


async def test_a_ca_that_can_never_tell_holds_a_lost_answer_for_a_person(tmp_path: Path) -> None:
    issuing = IssuingCa(CA)
    issuing.answer = LOST
    async with assembled(tmp_path, issuing, CA) as ra:
        await enrol(ra, Device())
        issuing.answer = None
        for _ in range(6):
            await ra.sweep(later=DAY)
        held = await state(ra)

    assert State.UNKNOWN is held
    assert 1 == len(issuing.requests)
    assert ra.counts.alarms["UNKNOWN"]


async def test_a_lost_answer_is_sent_again_blindly_only_where_that_is_configured_and_then_counted(
    tmp_path: Path,
) -> None:
    issuing = IssuingCa(CA)
    issuing.answer = LOST
    async with assembled(tmp_path, issuing, CA, resubmit_after=15 * MINUTE) as ra:
        await enrol(ra, Device())
        issuing.answer = None
        await ra.sweep(later=MINUTE)
        before = len(issuing.requests)
        await ra.sweep(later=15 * MINUTE)
        [transaction] = await ra.transactions()
        kinds = [each["event"] for each in await ra.events()]

    assert (1, 2) == (before, len(issuing.requests))
    assert (State.RELEASED, 1) == (transaction.state, transaction.orphans)
    assert "orphan" in kinds


async def test_what_a_crash_cut_off_is_found_out_about_when_its_lease_is_over(tmp_path: Path) -> None:
    device = Device()
    hanging, healthy = IssuingCa(CA), IssuingCa(CA, Capability.FIND_ISSUED)
    hanging.may_answer.clear()
    async with assembled(tmp_path, hanging, CA) as crashed:
        asking = asyncio.create_task(enrol(crashed, Device(key=device.key)))
        await hanging.asked.wait()
        async with assembled(tmp_path, healthy, CA) as restarted:
            await restarted.sweep(later=LEASE - MINUTE)
            before = await enrol(restarted, device)
            await restarted.sweep(later=2 * MINUTE)
            await restarted.sweep(later=LEASE)
            after = await enrol(restarted, device)
        hanging.answer = NOT_SENT
        hanging.may_answer.set()
        late = await asking

    assert replies.Pending() == before
    assert isinstance(after, replies.Success)
    assert after == late


async def test_an_answer_after_the_lease_is_as_good_as_one_that_is_found(tmp_path: Path) -> None:
    """A process that slept; another one has taken the transaction up and cannot find out anything."""
    device = Device()
    slow, blind = IssuingCa(CA), IssuingCa(CA)
    slow.may_answer.clear()
    async with assembled(tmp_path, slow, CA) as sleeping:
        asking = asyncio.create_task(enrol(sleeping, Device(key=device.key)))
        await slow.asked.wait()
        async with assembled(tmp_path, blind, CA) as other:
            await other.sweep(later=2 * MINUTE)
            given_up = await state(other)
        slow.may_answer.set()
        result = await asking

    assert State.UNKNOWN is given_up
    assert isinstance(result, replies.Success)


async def test_a_second_certificate_is_revoked_and_never_handed_out(tmp_path: Path) -> None:
    device = Device()
    slow, other_ca = IssuingCa(CA, Capability.REVOKE), IssuingCa(CA, Capability.FIND_ISSUED)
    slow.may_answer.clear()
    async with assembled(tmp_path, slow, CA) as sleeping:
        asking = asyncio.create_task(enrol(sleeping, Device(key=device.key)))
        await slow.asked.wait()
        async with assembled(tmp_path, other_ca, CA) as awake:
            await awake.sweep(later=2 * MINUTE)
            await awake.sweep(later=LEASE)
            first = await enrol(awake, device)
        slow.serial_offset = 2
        slow.may_answer.set()
        second = await asking
        await sleeping.sweep()
        kinds = [each["event"] for each in await sleeping.events()]

    assert isinstance(first, replies.Success)
    assert first == second
    assert [RevocationReason.CESSATION_OF_OPERATION] == [reason for _, reason in slow.revoked]
    assert "orphan" in kinds


async def test_a_second_certificate_with_the_number_of_another_device_is_not_revoked(tmp_path: Path) -> None:
    """It would be the other device's that is revoked."""
    device = Device()
    slow, other_ca = IssuingCa(CA, Capability.REVOKE), IssuingCa(CA, Capability.FIND_ISSUED)
    async with assembled(tmp_path, slow, CA) as sleeping:
        await enrol(sleeping, Device())
        [other] = await sleeping.transactions()
        slow.asked.clear()
        slow.may_answer.clear()
        asking = asyncio.create_task(enrol(sleeping, Device(key=device.key)))
        await slow.asked.wait()
        async with assembled(tmp_path, other_ca, CA) as awake:
            await awake.sweep(later=2 * MINUTE)
            await awake.sweep(later=LEASE)
            first = await enrol(awake, device)
        slow.serial = int(str(other.serial), 16)
        slow.may_answer.set()
        second = await asking
        await sleeping.sweep()

    assert isinstance(first, replies.Success)
    assert first == second
    assert [] == slow.revoked
    assert sleeping.counts.alarms["QUARANTINED"]


async def test_what_comes_for_a_settled_transaction_and_is_another_one_s_is_not_revoked(tmp_path: Path) -> None:
    issuing = IssuingCa(CA, Capability.REVOKE)
    async with assembled(tmp_path, issuing, CA) as ra:
        await enrol(ra, Device())
        await enrol(ra, Device())
        mine, other = await ra.transactions()
        anothers = Issued(certificate=other.certificate or b"", chain=CA.chain, reference="late")
        await ra.work.sweeper._issuing._abandon(ra.endpoint.backend, mine, anothers)
        await ra.sweep()
        kinds = [each["event"] for each in await ra.events()]

    assert [] == issuing.revoked
    assert "orphan" in kinds


async def test_a_late_answer_of_an_idempotent_ca_is_taken_and_not_revoked(tmp_path: Path) -> None:
    """The sweeper has given the transaction back to be sent again: that would yield the very same certificate."""
    device = Device()
    slow, other_ca = IssuingCa(CA, Capability.IDEMPOTENT, Capability.REVOKE), IssuingCa(CA, Capability.IDEMPOTENT)
    slow.may_answer.clear()
    async with assembled(tmp_path, slow, CA) as sleeping:
        asking = asyncio.create_task(enrol(sleeping, Device(key=device.key)))
        await slow.asked.wait()
        async with assembled(tmp_path, other_ca, CA) as awake:
            awake.clock.advance(2 * MINUTE)
            await awake.work.sweeper.sweep()
            await awake.work.background.drain()
            given_back = await state(awake)
            slow.may_answer.set()
            result = await asking

    assert State.AUTHORISED is given_back
    assert isinstance(result, replies.Success)
    assert [] == slow.revoked


async def test_what_another_transaction_has_obtained_is_not_found(ra: Assembled, issuing: IssuingCa) -> None:
    """A CA that is asked by key and names finds the certificate of the enrolment before."""
    await enrol(ra, Device(subject="CN=first"))
    issuing.keep_issued()
    issuing.answer = LOST
    ra.clock.advance(MINUTE)
    await enrol(ra, Device(subject="CN=second"))

    await ra.sweep(later=MINUTE)

    assert State.UNKNOWN is await state(ra)


async def test_what_stands_behind_the_certificate_of_another_transaction_is_found(
    ra: Assembled, issuing: IssuingCa
) -> None:
    """Were the other one taken for a no, the request would be sent again, and there were two certificates for it."""
    await enrol(ra, Device(subject="CN=first"))
    issuing.keep_issued()
    issuing.others_found = [cast("Issued", issuing.found)]
    issuing.answer = LOST
    await enrol(ra, Device(subject="CN=second"))
    issuing.keep_issued()
    issuing.answer = None

    for _ in range(4):
        await ra.sweep(later=2 * MINUTE)

    assert 2 == len(issuing.requests)
    assert [State.RELEASED, State.RELEASED] == [each.state for each in await ra.transactions()]


async def test_a_connector_that_does_not_put_others_aside_is_not_believed(ra: Assembled, issuing: IssuingCa) -> None:
    await enrol(ra, Device(subject="CN=first"))
    issuing.keep_issued()
    issuing.puts_aside = False
    issuing.answer = LOST
    ra.clock.advance(MINUTE)
    await enrol(ra, Device(subject="CN=second"))
    issuing.answer = None

    for _ in range(4):
        await ra.sweep(later=2 * MINUTE)

    assert State.UNKNOWN is await state(ra)
    assert 2 == len(issuing.requests)


async def test_what_may_be_of_an_earlier_order_that_is_still_open_is_not_taken(
    ra: Assembled, issuing: IssuingCa
) -> None:
    """A CA that is asked by key finds what it has issued for an order that has expired here, and that nobody polled yet."""
    device = Device()
    issuing.answer, issuing.polled = ORDER, ORDER
    await enrol(ra, device)
    await ra.sweep(later=8 * DAY)
    issuing.found = Issued(certificate=issuing.certify(issuing.requests[0]), chain=CA.chain, reference="by key")
    issuing.answer = LOST
    await enrol(ra, device)
    await ra.sweep(later=MINUTE)
    unsure = await state(ra)
    issuing.answer = issuing.polled = None
    for _ in range(4):
        await ra.sweep(later=2 * MINUTE)
    first, second = await ra.transactions()

    assert State.UNKNOWN is unsure
    assert (State.REVOKED, State.RELEASED) == (first.state, second.state)
    assert [first.certificate] == [certificate for certificate, _ in issuing.revoked]
    assert first.serial != second.serial


async def test_the_certificate_of_another_transaction_is_quarantined(ra: Assembled, issuing: IssuingCa) -> None:
    first = Device()
    await enrol(ra, first)
    issuing.keep_issued()
    ra.clock.advance(DAY)
    issuing.answer = issuing.found

    again = await ra.answer(first.enrol_message(ra.ca, challenge=CHALLENGE, transaction_id="a day later"))

    assert "pending" == again.outcome
    assert [State.RELEASED, State.QUARANTINED] == [each.state for each in await ra.transactions()]


async def test_what_cannot_be_read_any_more_expires_too(ra: Assembled, issuing: IssuingCa) -> None:
    issuing.answer = NOT_SENT
    await enrol(ra, Device())
    await ra.journal.write(lambda c: c.execute(update(transactions).values(request=None)))

    await ra.sweep(later=8 * DAY)

    assert State.EXPIRED is await state(ra)


async def test_what_was_claimed_when_the_process_ended_is_as_if_it_had_not_been(
    ra: Assembled, issuing: IssuingCa
) -> None:
    issuing.answer = NOT_SENT
    await enrol(ra, Device())
    issuing.answer = None
    ra.clock.advance(MINUTE)

    sweeping = asyncio.create_task(ra.work.sweeper.sweep())
    for _ in range(3):  # it has read what is due, and its claim is being committed
        await asyncio.sleep(0)
    sweeping.cancel()
    await asyncio.wait({sweeping})
    ended = await state(ra)
    await ra.sweep()

    assert sweeping.cancelled()
    assert State.AUTHORISED is ended
    assert State.RELEASED is await state(ra)


async def test_what_has_waited_longer_gets_its_turn_beside_those_who_come_with_requests(
    tmp_path: Path, issuing: IssuingCa
) -> None:
    async with assembled(tmp_path, issuing, CA, max_concurrent=1, wait_seconds=0) as ra:
        issuing.answer = NOT_SENT
        await enrol(ra, Device(subject="CN=waits"))
        issuing.answer = None
        issuing.may_answer.clear()
        await enrol(ra, Device(subject="CN=comes"))
        ra.clock.advance(MINUTE)
        await ra.work.sweeper.sweep()
        issuing.may_answer.set()
        await ra.work.sweeper.drain()
        await ra.work.background.drain()
        states = [each.state for each in await ra.transactions()]

    assert [State.RELEASED] * 2 == states


# ---------------------------------------------------------------- orders
async def test_an_order_is_polled_when_the_ca_said_so(ra: Assembled, issuing: IssuingCa) -> None:
    device = Device()
    issuing.answer = ORDER
    before = await enrol(ra, device)
    issuing.polled = ORDER

    await ra.sweep(later=timedelta(seconds=30))
    too_early = len(issuing.polls)
    await ra.sweep(later=timedelta(seconds=31))
    issuing.polled = None
    await ra.sweep(later=MINUTE)
    after = await enrol(ra, device)

    assert replies.Pending() == before
    assert 0 == too_early
    assert ["order 7"] * 2 == issuing.polls
    assert isinstance(after, replies.Success)


async def test_an_order_that_is_answered_with_something_else_is_polled_again(ra: Assembled, issuing: IssuingCa) -> None:
    issuing.answer, issuing.polled = ORDER, "an order, perhaps"
    await enrol(ra, Device())

    await ra.sweep(later=2 * MINUTE)
    confused = await state(ra)
    issuing.polled = None
    await ra.sweep(later=DAY)

    assert State.PENDING is confused
    assert State.RELEASED is await state(ra)


async def test_an_order_that_the_ca_refuses_is_told_as_failure(ra: Assembled, issuing: IssuingCa) -> None:
    device = Device()
    issuing.answer, issuing.polled = ORDER, NO
    await enrol(ra, device)

    await ra.sweep(later=2 * MINUTE)
    result = await poll(ra, device)

    assert isinstance(result, replies.Failure)


async def test_an_order_that_takes_too_long_expires_and_what_arrives_is_revoked(
    ra: Assembled, issuing: IssuingCa
) -> None:
    ra.validator.verdict = Grant(method="otp", label="ticket", spend=SPEND)
    device = Device()
    issuing.answer, issuing.polled = ORDER, ORDER
    await enrol(ra, device)

    await ra.sweep(later=8 * DAY)
    expired = await state(ra)
    told = await poll(ra, device)
    issuing.polled = None
    await ra.sweep(later=DAY)
    [transaction] = await ra.transactions()
    issuing.answer = None
    again = await enrol(ra, device)

    assert State.EXPIRED is expired
    assert isinstance(told, replies.Failure)
    assert State.REVOKED is transaction.state
    assert [transaction.certificate] == [certificate for certificate, _ in issuing.revoked]
    assert isinstance(again, replies.Success), "its one-time secret was given back"


# ---------------------------------------------------------------- revocation
async def test_a_certificate_that_nobody_fetches_is_revoked_where_that_is_configured(
    tmp_path: Path, issuing: IssuingCa
) -> None:
    issuing.answer = NOT_SENT
    async with assembled(tmp_path, issuing, CA, revoke_undelivered_after_days=3) as ra:
        await enrol(ra, Device())
        issuing.answer = None
        await ra.sweep(later=MINUTE)
        released = await state(ra)
        await ra.sweep(later=3 * DAY)
        [transaction] = await ra.transactions()

    assert State.RELEASED is released
    assert State.REVOKED is transaction.state
    assert [transaction.certificate] == [certificate for certificate, _ in issuing.revoked]


async def test_a_revocation_is_tried_until_the_ca_confirms_it_and_nothing_is_handed_out_meanwhile(
    tmp_path: Path, issuing: IssuingCa
) -> None:
    device = Device()
    issuing.answer, issuing.revocation = NOT_SENT, NOT_SENT
    async with assembled(tmp_path, issuing, CA, revoke_undelivered_after_days=3) as ra:
        await enrol(ra, device)
        issuing.answer = None
        await ra.sweep(later=MINUTE)
        await ra.sweep(later=3 * DAY)
        unconfirmed = await state(ra)
        told = await poll(ra, device)
        issuing.revocation = None
        await ra.sweep(later=DAY)
        confirmed = await state(ra)

    assert State.REVOKING is unconfirmed
    assert isinstance(told, replies.Failure)
    assert FailInfo.BAD_REQUEST == told.fail_info
    assert State.REVOKED is confirmed


async def test_a_connector_that_cannot_revoke_leaves_it_to_a_person(tmp_path: Path) -> None:
    issuing = IssuingCa(CA)
    issuing.answer = NOT_SENT
    async with assembled(tmp_path, issuing, CA, revoke_undelivered_after_days=3) as ra:
        await enrol(ra, Device())
        issuing.answer = None
        await ra.sweep(later=MINUTE)
        await ra.sweep(later=3 * DAY)
        [transaction] = await ra.transactions()

    assert State.REVOKING is transaction.state
    assert ra.counts.alarms["REVOKING"]
    assert "revoke it at the CA" in (transaction.detail or "")


# ---------------------------------------------------------------- the breaker
async def test_a_ca_that_fails_again_and_again_is_left_alone_and_tried_by_one(
    tmp_path: Path, issuing: IssuingCa
) -> None:
    issuing.answer = NOT_SENT
    async with assembled(tmp_path, issuing, CA) as ra:
        for number in range(8):
            await enrol(ra, Device(subject=f"CN=device {number}"))
        while_left_alone = len(issuing.requests)
        issuing.answer = Misconfigured("still not")
        ra.clock.advance(MINUTE)
        await ra.work.sweeper.sweep()
        await ra.work.background.drain()
        probed = len(issuing.requests)
        issuing.answer = None
        await ra.sweep(later=MINUTE)
        states = {each.state for each in await ra.transactions()}

    assert 5 == while_left_alone
    assert 6 == probed
    assert {State.RELEASED} == states
