"""Letters come to a real HTTP server on loopback, at least once, and certificates wait for them."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from connectors.api import Issued
from ra.challenge.combine import Checked
from ra.journal import outbox, receipts, transactions
from ra.journal.chain import Chain
from ra.journal.database import Journal
from ra.journal.outbox import HEAD_START, Letter, NewLetter
from ra.journal.records import Occasion, Transaction
from ra.journal.sealing import JournalKey
from ra.journal.states import State
from ra.policy.decide import decide
from ra.policy.grant import Grant, Notify
from ra.policy.profile import Profile
from ra.service.deliver import AT_ONCE, CALL_SECONDS, FIRST_PAUSE_SECONDS, LEASE, Deliveries
from ra.service.notices import Notices
from tests.fakes.assembled import Counts
from tests.fakes.clock import FakeClock
from tests.fakes.csrs import csr, enrolment
from tests.fakes.letters import NOW, PATIENCE, a_row, store
from tests.fakes.receivers import Receiver, Reply, Telling

pytestmark = pytest.mark.anyio

KEY = JournalKey(bytes(32))
KEPT = AT_ONCE // 2
ISSUED = Issued(certificate=b"\x30\x00", chain=(b"\x30\x01\x05",), reference="order 1")
LAX = Notify(validator="intune", is_strict=False, patience=PATIENCE)
GRANT = Grant(method="intune", label="device")
DECISION = decide(enrolment(csr(challenge_password="x")), GRANT, Profile(name="default"), NOW)


def nearly_all(count: int) -> bytes:
    """Randomness that makes every pause as long as it can be."""
    return b"\xff" * count


@dataclass(kw_only=True)
class Post:
    """One process that delivers, what it delivers to, and what it counts."""

    journal: Journal
    deliveries: Deliveries
    receiver: Receiver
    clock: FakeClock
    counts: Counts = field(default_factory=Counts)

    async def put(self, *, occasion: Occasion = Occasion.ISSUED, key: JournalKey = KEY, **changes: Any) -> Transaction:
        """A transaction, and the letters of its `notify`, put into the outbox now."""
        row, now = a_row(**changes), self.clock.now()
        letters = Notices(key, os.urandom).letters(row, DECISION, occasion, now, issued=ISSUED)
        await self.journal.write(lambda c: outbox.put(c, store(c, row).id, letters, now))
        return row

    async def pass_by(self, time: timedelta = HEAD_START) -> int:
        """Lets time pass, then delivers what is due; how many letters that were."""
        self.clock.advance(time)
        begun = await self.deliveries.deliver_due()
        await self.deliveries.drain()
        return begun

    async def state(self, row: Transaction) -> State:
        return (await self.journal.read(lambda c: transactions.get(c, row.id))).state

    async def waiting(self) -> tuple[Letter, ...]:
        return await self.journal.read(lambda c: outbox.waiting(c, 1000))

    async def dead(self) -> tuple[Letter, ...]:
        return await self.journal.read(lambda c: outbox.dead(c, 1000))


async def close(journal: Journal) -> None:
    if journal.is_alive:
        await journal.aclose()


class World:
    """A database and a receiver, which outlive the processes that deliver."""

    def __init__(self, url: str, receiver: Receiver, stack: AsyncExitStack) -> None:
        self._url = url
        self._receiver = receiver
        self._stack = stack
        self.clock = FakeClock(NOW)

    async def process(
        self, *, names: Sequence[str] = ("intune",), url: str = "", fetch_within: Any = None, at_once: int | None = None
    ) -> Post:
        """Another process on the same database."""
        journal = await Journal.open(self._url, directory=Path(), companion=Chain())
        self._stack.push_async_callback(close, journal)
        counts = Counts()
        validators = {
            name: Checked(name, Telling(url=url or self._receiver.url, notices_at_once=at_once), lambda *_: None)
            for name in names
        }
        for each in validators.values():
            self._stack.push_async_callback(each.aclose)
        deliveries = Deliveries(
            journal=journal,
            notices=Notices(KEY, os.urandom),
            validators=validators,
            undelivered_until=lambda _, now: fetch_within and now + fetch_within,
            clock=self.clock,
            entropy=nearly_all,
            metrics=counts,
        )
        self._stack.push_async_callback(deliveries.drain)
        return Post(journal=journal, deliveries=deliveries, receiver=self._receiver, clock=self.clock, counts=counts)


@pytest.fixture
async def world(journal_url: str) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(Receiver())
        yield World(journal_url, receiver, stack)


@pytest.fixture
async def post(world: World) -> Post:
    return await world.process()


# ---------------------------------------------------------------- with the request


async def test_a_device_gets_its_certificate_in_the_same_request(post: Post) -> None:
    row = await post.put()

    settled = await post.deliveries.deliver_now(row)

    (told,) = post.receiver.received
    assert State.RELEASED is settled.state
    assert ("issued", row.transaction_id.decode(), {"team": "blue"}) == (
        told["occasion"],
        told["transactionId"],
        told["attributes"],
    )
    assert {("intune", "issued", "accepted"): 1} == post.counts.notifications


async def test_a_released_certificate_has_a_time_to_be_fetched_in(world: World) -> None:
    post = await world.process(fetch_within=timedelta(days=3))
    row = await post.put()

    settled = await post.deliveries.deliver_now(row)

    assert NOW + timedelta(days=3) == settled.due_at


async def test_nobody_is_asked_about_a_certificate_that_waits_for_nothing(post: Post) -> None:
    row = await post.put(state=State.RELEASED, notify=(LAX,))

    settled = await post.deliveries.deliver_now(row)

    assert row == settled
    assert [] == post.receiver.received


async def test_what_is_refused_is_revoked(post: Post) -> None:
    post.receiver.replies.append(Reply(code="SubjectNameMismatch"))
    row = await post.put()

    settled = await post.deliveries.deliver_now(row)

    assert State.REVOKING is settled.state
    assert (settled.detail or "").startswith("intune has refused the notification: ")
    assert ["SubjectNameMismatch" in str(each.detail) for each in await post.dead()] == [True]
    assert {("intune", "issued", "refused"): 1} == post.counts.notifications
    assert {"NOTIFICATION_LOST": 1} == post.counts.alarms


async def test_a_receiver_that_is_away_leaves_the_certificate_waiting(post: Post) -> None:
    post.receiver.replies.append(Reply(status=500))
    row = await post.put()

    settled = await post.deliveries.deliver_now(row)
    await post.pass_by(timedelta(seconds=FIRST_PAUSE_SECONDS))

    assert State.ISSUED is settled.state
    assert State.RELEASED is await post.state(row)
    assert 1 == len({each["id"] for each in post.receiver.received})


async def test_the_request_leaves_it_to_another_process_that_was_faster(world: World) -> None:
    slow, fast = await world.process(), await world.process()
    row = await slow.put()
    slow.receiver.may_answer.clear()
    world.clock.advance(HEAD_START)
    await fast.deliveries.deliver_due()
    await slow.receiver.arrived.wait()

    settled = await slow.deliveries.deliver_now(row)
    slow.receiver.may_answer.set()
    await fast.deliveries.drain()

    assert State.ISSUED is settled.state
    assert State.RELEASED is await slow.state(row)
    assert 1 == len(slow.receiver.received)


async def test_a_device_whose_receiver_has_its_hands_full_is_told_to_wait(post: Post) -> None:
    rows = [await post.put() for _ in range(AT_ONCE + 1)]
    post.receiver.may_answer.clear()
    waiting = [asyncio.create_task(post.deliveries.deliver_now(each)) for each in rows[:AT_ONCE]]
    await asyncio.sleep(0)

    settled = await post.deliveries.deliver_now(rows[AT_ONCE])
    post.receiver.may_answer.set()
    await asyncio.gather(*waiting)
    await post.pass_by()

    assert State.ISSUED is settled.state
    assert [State.RELEASED] * (AT_ONCE + 1) == [await post.state(each) for each in rows]


# ---------------------------------------------------------------- in the background


async def test_a_failure_is_told_and_nothing_waits_for_it(post: Post) -> None:
    row = await post.put(state=State.REJECTED, occasion=Occasion.FAILED)

    begun = await post.pass_by(timedelta(0))

    assert 1 == begun
    assert ["failed"] == [each["occasion"] for each in post.receiver.received]
    assert State.REJECTED is await post.state(row)
    assert () == await post.waiting()


async def test_a_refusal_without_a_transaction_is_told(post: Post) -> None:
    grant = Grant(method="intune", label="device", notify=(LAX,))
    refusals: tuple[NewLetter, ...] = Notices(KEY, os.urandom).refusals(
        grant, "default", "7XX", b"\x30\x00", NOW, reason="KEY_NOT_ALLOWED", detail="1024 bits"
    )
    await post.journal.write(lambda c: outbox.put(c, None, refusals, NOW))

    await post.pass_by()

    assert [("7XX", "KEY_NOT_ALLOWED")] == [(each["transactionId"], each["reason"]) for each in post.receiver.received]
    assert () == await post.waiting()


async def test_pauses_grow_up_to_a_bound_and_the_last_attempt_is_made_in_time(post: Post) -> None:
    post.receiver.replies.extend([Reply(status=500)] * 100)
    await post.put(notify=(Notify(validator="intune", is_strict=False, patience=timedelta(hours=2)),))
    attempts: list[datetime] = []

    while await post.pass_by(timedelta(0)):
        attempts.append(post.clock.now())
        for each in await post.waiting():
            assert each.due_at
            post.clock.advance(each.due_at - post.clock.now())

    pauses = [round((after - before).total_seconds()) for before, after in pairwise(attempts)]
    assert [5, 10, 20, 40, 80, 160, 320, 640, *[900] * 6] == pauses[:-1]
    assert NOW + timedelta(hours=2, seconds=-CALL_SECONDS) == attempts[-1]
    assert 1 == len(await post.dead())
    assert 1 == len({each["id"] for each in post.receiver.received})
    assert ("intune", "issued", "dead") in post.counts.notifications


async def test_a_receiver_that_asks_for_a_pause_gets_it(post: Post) -> None:
    post.receiver.replies.append(Reply(status=429, headers={"Retry-After": "120"}))
    await post.put(notify=(LAX,))
    await post.pass_by()

    (waiting,) = await post.waiting()

    assert waiting.due_at
    assert timedelta(seconds=120) <= waiting.due_at - post.clock.now()


async def test_a_pause_longer_than_time_itself_ends_with_the_patience(post: Post) -> None:
    post.receiver.replies.append(Reply(status=503, headers={"Retry-After": "9" * 20}))
    await post.put(notify=(LAX,))
    await post.pass_by(timedelta(0))

    (waiting,) = await post.waiting()

    assert NOW + PATIENCE - timedelta(seconds=CALL_SECONDS) == waiting.due_at


async def test_a_certificate_is_revoked_when_patience_is_over(post: Post) -> None:
    post.receiver.replies.extend([Reply(status=500)] * 10)
    row = await post.put()
    await post.deliveries.deliver_now(row)

    await post.pass_by(PATIENCE - timedelta(seconds=CALL_SECONDS))

    assert State.REVOKING is await post.state(row)
    assert 2 == len(post.receiver.received)


async def test_past_its_deadline_nobody_hears_that_a_certificate_was_issued(post: Post) -> None:
    row = await post.put()

    await post.pass_by(PATIENCE)

    assert State.REVOKING is await post.state(row)
    assert [] == post.receiver.received


async def test_nobody_hears_of_a_certificate_that_is_being_revoked(post: Post) -> None:
    await post.put(state=State.REVOKING)

    await post.pass_by()

    assert [] == post.receiver.received


async def test_the_sweeper_gives_up_what_nobody_has_accepted(post: Post) -> None:
    row = await post.put()

    settled = await post.deliveries.give_up(row)

    assert State.REVOKING is settled.state
    assert () == await post.waiting()
    assert {("intune", "issued", "dead"): 1} == post.counts.notifications


async def test_a_receiver_is_given_a_bounded_number_at_once(post: Post) -> None:
    for _ in range(AT_ONCE * 2):
        await post.put(notify=(LAX,))
    post.receiver.may_answer.clear()

    first = await post.deliveries.deliver_due()
    second = await post.deliveries.deliver_due()
    post.receiver.may_answer.set()
    await post.deliveries.drain()

    assert (AT_ONCE - KEPT, 0) == (first, second)
    assert post.receiver.most_at_once <= AT_ONCE - KEPT


async def test_a_receiver_may_say_itself_how_many_it_takes_at_once(world: World) -> None:
    post = await world.process(at_once=6)
    for _ in range(10):
        await post.put(notify=(LAX,))
    post.receiver.may_answer.clear()

    first = await post.deliveries.deliver_due()
    post.receiver.may_answer.set()
    await post.deliveries.drain()

    assert 3 == first
    assert post.receiver.most_at_once <= 3


async def test_two_processes_share_the_work(world: World) -> None:
    first, second = await world.process(), await world.process()
    for _ in range(20):
        await first.put(notify=(LAX,))

    begun = await asyncio.gather(first.deliveries.deliver_due(), second.deliveries.deliver_due())
    await first.deliveries.drain()
    await second.deliveries.drain()

    assert 20 == sum(begun)
    assert 20 == len(first.receiver.received)
    assert 20 == len({each["id"] for each in first.receiver.received})


async def test_two_strict_letters_that_are_accepted_at_one_moment_release_their_certificate(world: World) -> None:
    first, second = await world.process(), await world.process()
    hook = Notify(validator="hook", is_strict=True, patience=PATIENCE)
    rows = [await first.put(notify=(hook, replace(hook, validator="intune"))) for _ in range(20)]

    for row in rows:
        letters = await first.journal.write(partial(outbox.claim_of, transaction=row.id, until=NOW + LEASE))
        await asyncio.gather(*map(accept, (first.journal, second.journal), letters))

    assert [State.RELEASED] * len(rows) == [await first.state(each) for each in rows]


async def accept(journal: Journal, letter: Letter) -> None:
    await journal.write(lambda c: receipts.accepted(c, letter, NOW, undelivered_until=None))


# ---------------------------------------------------------------- faults


async def test_what_was_told_and_not_committed_is_told_again_once_the_lease_is_over(world: World) -> None:
    killed = await world.process()
    row = await killed.put()
    killed.receiver.may_answer.clear()
    telling = asyncio.create_task(killed.deliveries.deliver_now(row))
    await killed.receiver.arrived.wait()
    await killed.journal.aclose()
    killed.receiver.may_answer.set()
    await asyncio.wait({telling})
    restarted = await world.process()

    early = await restarted.pass_by(LEASE - timedelta(seconds=1))
    late = await restarted.pass_by(timedelta(seconds=1))

    assert telling.exception() is not None
    assert (0, 1) == (early, late)
    assert 2 == len(restarted.receiver.received)
    assert 1 == len({each["id"] for each in restarted.receiver.received})
    assert State.RELEASED is await restarted.state(row)


async def test_a_validator_that_is_no_longer_configured_keeps_its_letters_and_raises_an_alarm(world: World) -> None:
    before, after = await world.process(names=("other",)), await world.process(names=("intune",))
    row = await before.put()

    present = await before.deliveries.deliver_now(row)
    await before.pass_by()
    (waiting,) = await before.waiting()
    await after.pass_by(timedelta(seconds=FIRST_PAUSE_SECONDS))

    assert State.ISSUED is present.state
    assert "no challenge named 'intune' takes notices" == waiting.detail
    assert 1 == before.counts.alarms["NOTIFIER_UNKNOWN"]
    assert State.RELEASED is await after.state(row)


async def test_a_letter_of_another_key_waits_and_raises_an_alarm(post: Post) -> None:
    await post.put(key=JournalKey(b"o" * 32), notify=(LAX,))

    await post.pass_by()

    (waiting,) = await post.waiting()
    assert "it is sealed with another key" == waiting.detail
    assert Counter({"JOURNAL_KEY": 1}) == post.counts.alarms


async def test_a_receiver_that_cannot_be_reached_is_tried_again(world: World) -> None:
    post = await world.process(url="http://127.0.0.1:1/")
    await post.put(notify=(LAX,))

    await post.pass_by()

    (waiting,) = await post.waiting()
    assert "intune: ConnectError" == waiting.detail
    assert {("intune", "issued", "failed"): 1} == post.counts.notifications


async def test_deliveries_run_by_themselves_until_they_are_cancelled(post: Post) -> None:
    for _ in range(3 * AT_ONCE):
        await post.put(notify=(LAX,))

    running = asyncio.create_task(post.deliveries.run())
    while len(post.receiver.received) < 3 * AT_ONCE:
        post.receiver.arrived.clear()
        await post.receiver.arrived.wait()
    running.cancel()
    await asyncio.wait({running})
    await post.deliveries.drain()

    assert running.cancelled()
    assert () == await post.waiting()
