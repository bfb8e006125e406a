"""A CA that has sent a wrong certificate: it is asked for nothing new, and what nobody may have is revoked."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from connectors.api import BackendUnavailable, Capability, Issued, IssueRequest, RevocationReason
from ra.client import replies
from ra.client.names import FailInfo
from ra.journal import strays
from ra.journal.records import Transaction
from ra.journal.states import State
from ra.journal.verdicts import Verdict, Word
from ra.service.operate import NotPossible, Operations
from ra.service.returned import Deviations
from tests.fakes import pki
from tests.fakes.assembled import CHALLENGE, KEY, Assembled, assembled
from tests.fakes.device import Device, pooled_key
from tests.fakes.issuing import IssuingCa

pytestmark = pytest.mark.anyio

CA, OTHER_CA = pki.root(), pki.root(name="Other CA")
SAID = Verdict(who="ada", why="looked at")
CESSATION = RevocationReason.CESSATION_OF_OPERATION
DAY = timedelta(days=1)


class WrongCa(IssuingCa):
    """Certifies whom it likes, until it is `mended`."""

    def __init__(self, *capabilities: Capability, by: pki.FakeCa = CA) -> None:
        super().__init__(by, *capabilities)
        self.mended = False

    def certify(self, request: IssueRequest) -> bytes:
        if self.mended:
            return super().certify(request)
        contents = replace(request.contents, extended_key_usage=("1.3.6.1.5.5.7.3.1",))
        return super().certify(replace(request, contents=contents))


@pytest.fixture
def wrong() -> WrongCa:
    return WrongCa(Capability.REVOKE)


@pytest.fixture
async def ra(tmp_path: Path, wrong: WrongCa) -> AsyncIterator[Assembled]:
    async with assembled(tmp_path, wrong, CA) as registration_authority:
        yield registration_authority


async def enrol(ra: Assembled, device: Device) -> replies.Result:
    return device.open((await ra.answer(device.enrol_message(ra.ca, challenge=CHALLENGE))).body)


async def quarantined(ra: Assembled, device: Device | None = None) -> Transaction:
    await enrol(ra, device or Device(key=pooled_key(0)))
    return next(each for each in await ra.transactions() if each.state is State.QUARANTINED)


def operations(ra: Assembled) -> Operations:
    return Operations(journal=ra.journal, key=KEY, clock=ra.clock, entropy=os.urandom)


async def kinds(ra: Assembled) -> list[str]:
    return [each["event"] for each in await ra.events()]


# ---------------------------------------------------------------- the stop
async def test_a_ca_that_sent_a_wrong_certificate_is_asked_for_nothing_new(ra: Assembled, wrong: WrongCa) -> None:
    await quarantined(ra)

    result = await enrol(ra, Device(key=pooled_key(1)))
    await ra.sweep(later=timedelta(minutes=5))

    assert replies.Pending() == result
    assert 1 == len(wrong.requests)
    assert {State.QUARANTINED, State.AUTHORISED} == {each.state for each in await ra.transactions()}
    assert {"lab": True} == ra.counts.stopped
    assert 1 == ra.counts.alarms["QUARANTINED"]
    assert "connector-stopped" in await kinds(ra)


async def test_another_process_and_the_next_one_keep_to_it(tmp_path: Path, ra: Assembled, wrong: WrongCa) -> None:
    await quarantined(ra)

    async with assembled(tmp_path, wrong, CA) as other:
        await other.work.strays.look()
        result = await enrol(other, Device(key=pooled_key(1)))

    assert replies.Pending() == result
    assert 1 == len(wrong.requests)


async def test_what_has_waited_is_sent_once_a_person_says_so(ra: Assembled, wrong: WrongCa) -> None:
    await quarantined(ra)
    device = Device(key=pooled_key(1))
    await enrol(ra, device)
    wrong.mended = True

    await operations(ra).resume("lab", "ada")
    await ra.sweep()

    assert isinstance(await enrol(ra, device), replies.Success)
    assert {"lab": False} == ra.counts.stopped
    assert "connector-resumed" in await kinds(ra)


async def test_what_is_not_stopped_cannot_be_resumed(ra: Assembled) -> None:
    with pytest.raises(NotPossible, match="is not stopped"):
        await operations(ra).resume("lab", "ada")


async def test_how_it_stands_with_the_connectors_is_told(ra: Assembled) -> None:
    transaction = await quarantined(ra)

    lab, spare = await operations(ra).standings(["lab", "spare"])

    assert lab.stop is not None
    assert (transaction.id, transaction.detail) == (lab.stop.transaction, lab.stop.detail)
    assert [transaction.id] == [each.transaction for each in lab.strays]
    assert (None, ()) == (spare.stop, spare.strays)


# ---------------------------------------------------------------- what nobody may have
async def test_what_nobody_may_have_is_revoked_until_the_ca_has_confirmed_it(ra: Assembled, wrong: WrongCa) -> None:
    wrong.revocation = BackendUnavailable("away", maybe_issued=False)
    transaction = await quarantined(ra)
    await ra.sweep()
    (waiting,) = await ra.journal.read(lambda c: strays.of_transaction(c, transaction.id))
    wrong.revocation = None

    await ra.sweep(later=DAY)
    (stray,) = await ra.journal.read(lambda c: strays.of_transaction(c, transaction.id))

    assert "BackendUnavailable: away" == waiting.detail
    assert [(stray.certificate, CESSATION)] == wrong.revoked
    assert stray.revoked_at == ra.clock.now()
    assert stray.due_at is None
    assert "stray-revoked" in await kinds(ra)


async def test_a_certificate_of_another_ca_is_not_revoked_by_its_serial_number(tmp_path: Path) -> None:
    other = WrongCa(Capability.REVOKE, by=OTHER_CA)
    other.mended = True
    async with assembled(tmp_path, other, CA) as ra:
        transaction = await quarantined(ra)
        await ra.sweep(later=DAY)
        (stray,) = await ra.journal.read(lambda c: strays.of_transaction(c, transaction.id))

    assert [] == other.revoked
    assert (None, None) == (stray.serial, stray.due_at)


async def test_the_certificate_of_another_device_is_never_revoked(ra: Assembled, wrong: WrongCa) -> None:
    wrong.mended = True
    first = await enrol(ra, Device(key=pooled_key(0)))
    assert isinstance(first, replies.Success)
    wrong.answer = Issued(certificate=pki.der(first.certificates[0]), chain=CA.chain, reference="order 1")

    await quarantined(ra, Device(key=pooled_key(1)))
    await ra.sweep(later=DAY)

    assert {State.RELEASED, State.QUARANTINED} == {each.state for each in await ra.transactions()}
    assert [] == wrong.revoked


async def test_a_ca_that_cannot_revoke_leaves_it_to_a_person(tmp_path: Path) -> None:
    wrong = WrongCa()
    async with assembled(tmp_path, wrong, CA) as ra:
        transaction = await quarantined(ra)
        await ra.sweep(later=DAY)
        account = await operations(ra).show(transaction.id)

    assert f"Certificate {account.strays[0].serial}, which nobody may have, is not revoked" in account.situation.advice
    assert "scep-ra connectors resume lab" in account.situation.advice


# ---------------------------------------------------------------- a person's word
async def test_what_is_given_up_lets_the_device_come_again(ra: Assembled, wrong: WrongCa) -> None:
    device = Device(key=pooled_key(0))
    transaction = await quarantined(ra, device)
    wrong.mended = True

    await operations(ra).settle(transaction.id, Word.REJECT, SAID)
    await operations(ra).resume("lab", "ada")
    polled = device.open((await ra.answer(device.poll_message(ra.ca))).body)
    await ra.sweep()

    assert isinstance(polled, replies.Failure)
    assert FailInfo.BAD_REQUEST == polled.fail_info
    assert isinstance(await enrol(ra, device), replies.Success)
    assert 1 == len(wrong.revoked)


async def test_in_place_of_a_wrong_certificate_another_one_is_had(ra: Assembled, wrong: WrongCa) -> None:
    device = Device(key=pooled_key(0))
    transaction = await quarantined(ra, device)
    wrong.mended = True

    await operations(ra).settle(transaction.id, Word.RETRY, SAID)
    await operations(ra).resume("lab", "ada")
    await ra.sweep()

    first, second = wrong.requests
    assert first.idempotency_key != second.idempotency_key
    assert isinstance(await enrol(ra, device), replies.Success)
    assert 1 == len(wrong.revoked)


async def test_a_certificate_is_accepted_where_the_configuration_lets_it_pass_by_now(tmp_path: Path) -> None:
    wrong, device = WrongCa(), Device(key=pooled_key(0))
    async with assembled(tmp_path, wrong, CA) as ra:
        transaction = await quarantined(ra, device)
        await operations(ra).settle(transaction.id, Word.ACCEPT, SAID)
        await ra.sweep()
        (refused,) = await ra.transactions()
    known = Deviations(ca_adds=frozenset({"1.3.6.1.5.5.7.3.1"}), may_drop=frozenset({"1.3.6.1.5.5.7.3.2"}))
    async with assembled(tmp_path, wrong, CA, known=known) as ra:
        await operations(ra).settle(transaction.id, Word.ACCEPT, SAID)
        await ra.sweep()
        result = await enrol(ra, device)
        left = await ra.journal.read(lambda c: strays.of_transaction(c, transaction.id))

    assert (State.QUARANTINED, None) == (refused.state, refused.due_at)
    assert isinstance(result, replies.Success)
    assert 1 == len(wrong.requests)
    assert () == left


async def test_what_is_revoked_is_not_accepted(ra: Assembled) -> None:
    transaction = await quarantined(ra)
    await ra.sweep()

    with pytest.raises(NotPossible, match="is revoked, or about to be: --retry"):
        await operations(ra).settle(transaction.id, Word.ACCEPT, SAID)


@pytest.mark.parametrize("word", [Word.RETRY, Word.REJECT])
async def test_a_lost_answer_is_settled_by_a_person(ra: Assembled, wrong: WrongCa, word: Word) -> None:
    device = Device(key=pooled_key(0))
    wrong.mended, wrong.answer = True, BackendUnavailable("lost", maybe_issued=True)
    await enrol(ra, device)
    (lost,) = await ra.transactions()
    wrong.answer = None

    settled = await operations(ra).settle(lost.id, word, SAID)
    await ra.sweep()

    assert State.UNKNOWN is lost.state
    assert {Word.RETRY: State.AUTHORISED, Word.REJECT: State.REJECTED}[word] is settled.state
    assert isinstance(await enrol(ra, device), replies.Success)
    assert {"ada"} == {each["who"] for each in await ra.events() if each["event"] == "settled"}


@pytest.mark.parametrize("word", Word)
async def test_what_is_settled_already_is_left_alone(ra: Assembled, wrong: WrongCa, word: Word) -> None:
    wrong.mended = True
    await enrol(ra, Device())
    (released,) = await ra.transactions()

    with pytest.raises(NotPossible, match="it is released"):
        await operations(ra).settle(released.id, word, SAID)
