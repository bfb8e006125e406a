"""What a request gets that has come before, in whole or in part: the table of docs/journal.md, cell by cell.

A row says what is the same as in the first request; a column, how far that has come. W: its certificate was delivered
less than an hour ago, and is neither revoked nor expired.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from connectors.api import Capability, Pending, RevocationReason
from ra.client import replies
from ra.client.names import FailInfo
from ra.journal import settle
from ra.journal.transactions import REDELIVERY
from ra.policy.grant import Grant, Spend
from tests.fakes import pki
from tests.fakes.assembled import CHALLENGE, Assembled, assembled
from tests.fakes.device import Device, pooled_key
from tests.fakes.issuing import IssuingCa

pytestmark = pytest.mark.anyio

CA = pki.root()
FIRST, OTHER = "the first transactionID", "another transactionID"
REFUSED = replies.Failure(fail_info=FailInfo.BAD_REQUEST, text="")


@cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


class When(Enum):
    """How far the first request has come when the second one arrives."""

    OPEN = "before issuance"
    IN_W = "issued, in W"
    AFTER_W = "after W"


class Outcome(Enum):
    """What becomes of the second request."""

    PRESENT = "the present state of the first"
    SAME = "the same certificate"
    NEW = "a transaction of its own, authorised afresh"
    REFUSED = "badRequest"


def same(device: Device) -> bytes:
    return device.csr(challenge=CHALLENGE)


def other_attributes(device: Device) -> bytes:
    return device.csr(challenge=CHALLENGE, extensions=[pki.key_usage("digital_signature")])


def other_names(device: Device) -> bytes:
    return device.csr(challenge=CHALLENGE, sans=["dns:more.example"])


def signed_by_ecdsa(device: Device) -> bytes:
    """Of a key on a curve, whose signature is another one each time over the same certificationRequestInfo."""
    return device.csr(challenge=CHALLENGE, key=ec_key())


def of_another_key(device: Device) -> bytes:
    return device.csr(challenge=CHALLENGE, key=pooled_key(2))


Csr = Callable[[Device], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What the second request has in common with the first; `outcomes` are those of When, in its order."""

    name: str
    transaction_id: str
    csr: Csr
    outcomes: tuple[Outcome, Outcome, Outcome]
    first_csr: Csr = same
    same_signer: bool = True


PRESENT, SAME, NEW, BAD = Outcome
ROWS = (
    Row(name="the same", transaction_id=FIRST, csr=same, outcomes=(PRESENT, SAME, NEW)),
    Row(name="other transactionID", transaction_id=OTHER, csr=same, outcomes=(PRESENT, SAME, NEW)),
    Row(name="other CSR, same names", transaction_id=FIRST, csr=other_attributes, outcomes=(PRESENT, SAME, NEW)),
    Row(
        name="signed anew by ECDSA",
        transaction_id=FIRST,
        first_csr=signed_by_ecdsa,
        csr=signed_by_ecdsa,
        outcomes=(PRESENT, SAME, NEW),
    ),
    Row(name="other CSR, other names", transaction_id=FIRST, csr=other_names, outcomes=(BAD, NEW, NEW)),
    Row(
        name="other transactionID and CSR, same names",
        transaction_id=OTHER,
        csr=other_attributes,
        outcomes=(PRESENT, SAME, NEW),
    ),
    Row(
        name="other transactionID, signed anew by ECDSA",
        transaction_id=OTHER,
        first_csr=signed_by_ecdsa,
        csr=signed_by_ecdsa,
        outcomes=(PRESENT, SAME, NEW),
    ),
    Row(name="other transactionID, CSR and names", transaction_id=OTHER, csr=other_names, outcomes=(NEW, NEW, NEW)),
    Row(name="other key, same signer", transaction_id=FIRST, csr=of_another_key, outcomes=(BAD, NEW, NEW)),
    Row(
        name="other key, other signer",
        transaction_id=FIRST,
        csr=of_another_key,
        same_signer=False,
        outcomes=(NEW, NEW, NEW),
    ),
    Row(
        name="nothing but the challenge",
        transaction_id=OTHER,
        csr=of_another_key,
        same_signer=False,
        outcomes=(NEW, NEW, NEW),
    ),
)
CELLS = [
    pytest.param(row, when, outcome, id=f"{row.name}, {when.value}")
    for row in ROWS
    for when, outcome in zip(When, row.outcomes, strict=True)
]


@pytest.fixture
async def ca() -> IssuingCa:
    return IssuingCa(CA, Capability.IDEMPOTENT, Capability.POLL, Capability.REVOKE)


@pytest.fixture
async def ra(tmp_path: Path, ca: IssuingCa) -> AsyncIterator[Assembled]:
    async with assembled(tmp_path, ca, CA) as registration_authority:
        yield registration_authority


async def send(ra: Assembled, device: Device, csr: Csr, transaction_id: str) -> replies.Result:
    message = device.enrol_message(ra.ca, csr=csr(device), transaction_id=transaction_id)
    return device.open((await ra.answer(message)).body)


async def poll(ra: Assembled, device: Device, transaction_id: str) -> replies.Result:
    return device.open((await ra.answer(device.poll_message(ra.ca, transaction_id=transaction_id))).body)


async def come_to(when: When, ra: Assembled, ca: IssuingCa, device: Device, csr: Csr) -> replies.Result:
    """Sends the first request, and lets as much happen as the column says."""
    if when is When.OPEN:
        ca.answer = Pending(reference="order 1", retry_after_seconds=600)
    first = await send(ra, device, csr, FIRST)
    ca.answer = None
    if when is When.AFTER_W:
        ra.clock.advance(REDELIVERY)
    return first


def outcome_of(first: replies.Result, second: replies.Result, transactions: int) -> Outcome:
    match second:
        case replies.Failure(fail_info=FailInfo.BAD_REQUEST):
            return Outcome.REFUSED
        case replies.Success() if second == first:
            return Outcome.SAME
        case replies.Success() if transactions > 1:
            return Outcome.NEW
        case replies.Pending() if transactions == 1:
            return Outcome.PRESENT
        case _:
            raise AssertionError(second)


@pytest.mark.rfc8894("new-transaction-after-loss")
@pytest.mark.parametrize(("row", "when", "expected"), CELLS)
async def test_what_a_request_gets_that_has_come_before(
    ra: Assembled, ca: IssuingCa, row: Row, when: When, expected: Outcome
) -> None:
    device = Device(key=pooled_key(0))
    first = await come_to(when, ra, ca, device, row.first_csr)
    sender = device if row.same_signer else Device(key=pooled_key(1))

    second = await send(ra, sender, row.csr, row.transaction_id)

    assert expected == outcome_of(first, second, len(await ra.transactions()))
    assert (2 if expected is NEW else 1) == len(ca.requests)
    assert (2 if expected is NEW else 1) == ra.validator.asked


@pytest.mark.parametrize(
    "row",
    [each for each in ROWS if each.transaction_id == OTHER and PRESENT in each.outcomes],
    ids=lambda row: row.name,
)
async def test_an_open_request_is_found_under_every_transaction_id_it_came_with(
    ra: Assembled, ca: IssuingCa, row: Row
) -> None:
    device = Device(key=pooled_key(0))
    await come_to(When.OPEN, ra, ca, device, row.first_csr)
    await send(ra, device, row.csr, OTHER)

    await ra.sweep(timedelta(seconds=600))
    polled = [await poll(ra, device, each) for each in (FIRST, OTHER)]

    assert isinstance(polled[0], replies.Success)
    assert polled[0] == polled[1]


async def test_an_undelivered_certificate_is_in_w_however_old_it_is(ra: Assembled, ca: IssuingCa) -> None:
    device = Device(key=pooled_key(0))
    await come_to(When.OPEN, ra, ca, device, same)
    await ra.sweep(timedelta(seconds=600))
    ra.clock.advance(timedelta(days=3))

    second = await send(ra, device, same, OTHER)

    assert isinstance(second, replies.Success)
    assert 1 == len(ca.requests)


async def test_a_revoked_certificate_is_out_of_w(ra: Assembled, ca: IssuingCa) -> None:
    device = Device(key=pooled_key(0))
    first = await come_to(When.IN_W, ra, ca, device, same)
    (transaction,) = await ra.transactions()
    await ra.journal.write(
        lambda c: settle.revoke(c, transaction, RevocationReason.KEY_COMPROMISE, "stolen", ra.clock.now())
    )

    second = await send(ra, device, same, FIRST)

    assert isinstance(second, replies.Success)
    assert first != second


@pytest.mark.parametrize("when", When)
async def test_a_one_time_secret_that_another_key_presents_is_refused_and_an_alarm(
    ra: Assembled, ca: IssuingCa, when: When
) -> None:
    device, thief = Device(key=pooled_key(0)), Device(key=pooled_key(1))
    spend = Spend(key=b"keyed hash", expires_at=pki.NOW + timedelta(days=1))
    ra.validator.verdict = Grant(method="otp", label="ticket 3", spend=spend)
    await come_to(when, ra, ca, device, same)

    result = await send(ra, thief, of_another_key, OTHER)

    assert REFUSED == result
    assert {"CHALLENGE_REFUSED": 1} == ra.counts.alarms
    assert 1 == len(ca.requests)
