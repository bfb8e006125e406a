"""Devices whose key cannot be encrypted to: the challenge seals the reply, if it cannot be guessed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from connectors.api import Capability, Pending
from ra.client import replies
from ra.client.names import FailInfo
from ra.policy.grant import Grant
from ra.policy.profile import Curve
from tests.fakes import pki
from tests.fakes.assembled import CHALLENGE, Assembled, assembled
from tests.fakes.device import Device
from tests.fakes.issuing import IssuingCa

pytestmark = pytest.mark.anyio

CA = pki.root()
STRONG = Grant(method="shared", label="first", is_strong=True)
CANNOT_RECEIVE = "No reply can be sealed to the key that signed the message."


@pytest.fixture
async def issuing() -> IssuingCa:
    return IssuingCa(CA, Capability.IDEMPOTENT, Capability.POLL)


@pytest.fixture
async def ra(tmp_path: Path, issuing: IssuingCa) -> AsyncIterator[Assembled]:
    async with assembled(tmp_path, issuing, CA, password_recipient=True) as registration_authority:
        registration_authority.validator.verdict = STRONG
        yield registration_authority


def device(key_spec: str = "ec:p256") -> Device:
    key = pki.key(key_spec)
    return Device(key=key, password=CHALLENGE)


async def enrol(ra: Assembled, one: Device, challenge: str | None = CHALLENGE) -> replies.Result:
    return one.open((await ra.answer(one.enrol_message(ra.ca, challenge=challenge))).body)


async def poll(ra: Assembled, one: Device) -> replies.Result:
    return one.open((await ra.answer(one.poll_message(ra.ca))).body)


@pytest.mark.parametrize("key_spec", ["ec:p256", "ec:p384"])
@pytest.mark.rfc8894("password-recipient")
async def test_the_reply_is_sealed_with_the_challenge_and_so_is_its_repetition(ra: Assembled, key_spec: str) -> None:
    one = device(key_spec)

    first, again = await enrol(ra, one), await enrol(ra, one)

    assert isinstance(first, replies.Success)
    assert isinstance(again, replies.Success)
    assert first.certificates == again.certificates
    assert first.key_transport is None
    assert 1 == len(await ra.transactions())


async def test_an_ed25519_key_will_do_where_the_profile_takes_it(tmp_path: Path, issuing: IssuingCa) -> None:
    one = Device(key=ed25519.Ed25519PrivateKey.generate(), password=CHALLENGE)
    curves = frozenset({Curve.ED25519})
    async with assembled(tmp_path, issuing, CA, password_recipient=True, curves=curves) as ra:
        ra.validator.verdict = STRONG

        assert isinstance(await enrol(ra, one), replies.Success)


async def test_what_comes_later_is_sealed_with_the_challenge_that_was_kept(ra: Assembled, issuing: IssuingCa) -> None:
    one = device()
    issuing.answer = Pending(reference="order 1", retry_after_seconds=60)
    assert isinstance(await enrol(ra, one), replies.Pending)
    assert isinstance(await poll(ra, one), replies.Pending)
    await ra.sweep(timedelta(minutes=2))
    [kept] = await ra.transactions()

    polled = await poll(ra, one)

    assert kept.request is not None
    assert isinstance(polled, replies.Success)
    [delivered] = await ra.transactions()
    assert delivered.request is None
    assert isinstance(await enrol(ra, one), replies.Success)  # whoever lost the answer presents the challenge again
    lost = await poll(ra, one)
    assert isinstance(lost, replies.Failure)
    assert FailInfo.BAD_ALG == lost.fail_info


@pytest.mark.rfc8894("password-recipient")
async def test_a_challenge_that_could_be_guessed_seals_nothing(ra: Assembled, issuing: IssuingCa) -> None:
    ra.validator.verdict = Grant(method="shared", label="first")

    result = await enrol(ra, device())

    assert replies.Failure(FailInfo.BAD_ALG, CANNOT_RECEIVE) == result
    assert [] == issuing.requests


async def test_without_a_challenge_there_is_nothing_to_seal_with(ra: Assembled, issuing: IssuingCa) -> None:
    result = await enrol(ra, device(), challenge=None)

    assert replies.Failure(FailInfo.BAD_ALG, CANNOT_RECEIVE) == result
    assert [] == issuing.requests


async def test_a_query_has_no_challenge(ra: Assembled) -> None:
    one = device()

    answer = await ra.answer(one.get_crl_message(ra.ca, 1))

    assert isinstance(one.open(answer.body), replies.Failure)


async def test_a_device_with_rsa_is_served_as_ever_and_nothing_kept_for_it(ra: Assembled) -> None:
    assert isinstance(await enrol(ra, Device()), replies.Success)

    [kept] = await ra.transactions()
    assert kept.request is None


@pytest.mark.parametrize("challenge", [None, "guessable"])
async def test_the_same_request_again_is_sealed_with_no_challenge_that_was_not_looked_at(
    ra: Assembled, challenge: str | None
) -> None:
    one = device()
    assert isinstance(await enrol(ra, one), replies.Success)
    ra.validator.verdict = Grant(method="shared", label="first")

    again = await enrol(ra, one, challenge=challenge)

    assert replies.Failure(FailInfo.BAD_ALG, CANNOT_RECEIVE) == again


async def test_a_challenge_that_was_looked_at_seals_the_same_request_again(ra: Assembled) -> None:
    one = device()
    first = await enrol(ra, one)
    one.password = "another one, as strong"

    again = await enrol(ra, one, challenge=one.password)

    assert isinstance(first, replies.Success)
    assert isinstance(again, replies.Success)
    assert first.certificates == again.certificates


async def test_a_weak_challenge_is_not_made_to_seal_by_a_second_signer(ra: Assembled, issuing: IssuingCa) -> None:
    key = pki.key("ec:p256")
    first, second = Device(), Device(key=key, password=CHALLENGE)
    csr = second.csr(challenge=CHALLENGE)
    issuing.answer = Pending(reference="order 1", retry_after_seconds=60)
    ra.validator.verdict = Grant(method="shared", label="first")
    pending = first.open((await ra.answer(first.enrol_message(ra.ca, csr=csr))).body)
    refused = second.open((await ra.answer(second.enrol_message(ra.ca, csr=csr))).body)
    ra.validator.verdict = STRONG
    let_in = second.open((await ra.answer(second.enrol_message(ra.ca, csr=csr))).body)
    await ra.sweep(timedelta(minutes=2))

    polled = await poll(ra, second)

    assert isinstance(pending, replies.Pending)
    assert replies.Failure(FailInfo.BAD_ALG, CANNOT_RECEIVE) == refused
    assert isinstance(let_in, replies.Pending)
    assert replies.Failure(FailInfo.BAD_ALG, CANNOT_RECEIVE) == polled
