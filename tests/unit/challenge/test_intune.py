"""Enrolments that Intune is asked about, through the assembled RA and over HTTP; the CA is told what to answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes

from connectors.api import Capability
from ra.client import replies
from ra.client.names import FailInfo
from ra.simulate.intune import FAILURE, SUCCESS, VALIDATE
from tests.fakes import pki
from tests.fakes.device import Device
from tests.fakes.intunes import Managed, managed
from tests.fakes.issuing import IssuingCa
from tests.fakes.simulated import Front, listening_front

pytestmark = pytest.mark.anyio

CA = pki.root()


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with listening_front() as listening:
        yield listening


@pytest.fixture
async def issuing() -> IssuingCa:
    return IssuingCa(CA, Capability.IDEMPOTENT, Capability.NOT_AFTER, Capability.POLL, Capability.REVOKE)


@pytest.fixture
async def here(tmp_path: Path, front: Front, issuing: IssuingCa) -> AsyncIterator[Managed]:
    async with managed(tmp_path, front, issuing, CA) as registration_authority:
        yield registration_authority


async def test_intune_is_told_before_the_device_gets_its_certificate(here: Managed) -> None:
    device = Device()

    certificate = device.obtain((await here.send(device)).body)

    (asked,), (told,) = here.intune.told(VALIDATE), here.intune.told(SUCCESS)
    assert asked["transactionId"] == told["transactionId"]
    assert asked["certificateRequest"] == told["certificateRequest"]
    assert certificate.fingerprint(hashes.SHA1()).hex().upper() == told["certificateThumbprint"]  # noqa: S303
    assert certificate.serial_number == int(told["certificateSerialNumber"], 16)
    assert [] == here.intune.told(FAILURE)


async def test_a_refused_challenge_is_answered_without_a_word(here: Managed, issuing: IssuingCa) -> None:
    result = await here.enrol(Device(), "bm90IG9mIEludHVuZQ==")

    assert replies.Failure(FailInfo.BAD_REQUEST, "") == result
    assert [] == issuing.requests
