"""Enrolments that Intune is asked about, through the assembled RA and over HTTP; the CA is told what to answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from starlette.responses import Response

from connectors.api import Capability, Pending, Rejected, Rejection
from ra.challenge.api import Deny
from ra.challenge.api import Unavailable as NotNow
from ra.challenge.combine import AllOf, Checked
from ra.challenge.intune import connect
from ra.challenge.intune.codes import result_of
from ra.client import replies
from ra.client.names import FailInfo
from ra.errors import Unavailable
from ra.journal import outbox
from ra.journal.states import State
from ra.policy.grant import Grant
from ra.policy.sid import SID_EXTENSION
from ra.service.situations import situation_of
from ra.simulate.intune import CLIENT_ID, FAILURE, SCEP_PATH, SUCCESS, TENANT, VALIDATE
from tests.fakes import pki
from tests.fakes.challenges import FakeValidator, attempt
from tests.fakes.device import Device, pooled_key
from tests.fakes.intunes import Managed, managed
from tests.fakes.issuing import IssuingCa
from tests.fakes.messages import attribute, der, seq
from tests.fakes.messages import challenge as challenge_attribute
from tests.fakes.messages import csr as written_csr
from tests.fakes.simulated import Front, listening_front

pytestmark = pytest.mark.anyio

CA = pki.root()
REFUSED = replies.Failure(FailInfo.BAD_REQUEST, "")
SID_URI = "tag:microsoft.com,2022-09-14:sid:S-1-5-21-3734714977-4168152908-3764207930-1104"
SID_EXTENSION_VALUE = bytes.fromhex(
    "3040a03e060a2b060104018237190201a030042e532d312d352d32312d33373334373134393737"
    "2d343136383135323930382d333736343230373933302d31313034"
)
BMP_STRING = 0x1E
GOOD: dict[str, Any] = {
    "transactionId": "9A0F",
    "certificateRequest": "MIIE",
    "callerInfo": "a test",
    "certificateThumbprint": "0123456789ABCDEF0123456789ABCDEF01234567",
    "certificateSerialNumber": "1A2B3C4D5E6F",
    "certificateExpirationDateUtc": "2027-01-02T03:04:05.000Z",
    "issuingCertificateAuthority": "Corp Issuing CA 1",
    "hResult": 0xA0CE0001,
    "errorDescription": "CA rejected the request",
}
"""All members of both notifications, as Microsoft's library writes them."""


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with listening_front() as listening:
        yield listening


@pytest.fixture
async def issuing() -> IssuingCa:
    return IssuingCa(CA, Capability.IDEMPOTENT, Capability.NOT_AFTER, Capability.POLL, Capability.REVOKE)


@pytest.fixture
def options() -> dict[str, Any]:
    return {}


@pytest.fixture
def rules() -> dict[str, Any]:
    return {}


@pytest.fixture
async def here(
    tmp_path: Path, front: Front, issuing: IssuingCa, options: dict[str, Any], rules: dict[str, Any]
) -> AsyncIterator[Managed]:
    async with managed(tmp_path, front, issuing, CA, options=options, **rules) as registration_authority:
        yield registration_authority


async def states(here: Managed) -> list[State]:
    return [each.state for each in await here.ra.transactions()]


# ---------------------------------------------------------------- yes and no


async def test_intune_is_told_before_the_device_gets_its_certificate(here: Managed) -> None:
    device = Device()

    certificate = device.obtain((await here.send(device)).body)

    (asked,), (told,) = here.intune.told(VALIDATE), here.intune.told(SUCCESS)
    assert asked["transactionId"] == told["transactionId"]
    assert asked["certificateRequest"] == told["certificateRequest"]
    assert certificate.fingerprint(hashes.SHA1()).hex().upper() == told["certificateThumbprint"]  # noqa: S303
    assert certificate.serial_number == int(told["certificateSerialNumber"], 16)
    assert 0 == len(told["certificateSerialNumber"]) % 2
    assert f"{certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%S}.000Z" == told["certificateExpirationDateUtc"]
    assert [] == here.intune.told(FAILURE)


async def test_a_refused_challenge_is_answered_without_a_word(here: Managed, issuing: IssuingCa) -> None:
    assert REFUSED == await here.enrol(Device(), "bm90IG9mIEludHVuZQ==")
    assert [] == issuing.requests


async def test_a_request_without_a_challenge_is_not_worth_a_call(here: Managed) -> None:
    result = await here.enrol(Device(), "")

    assert REFUSED == result
    assert [] == here.intune.asked


@pytest.mark.parametrize("code", ["SignatureValidationFailed", "BadDeviceIdInChallenge"])
async def test_a_challenge_that_was_tampered_with_is_an_alarm(here: Managed, code: str) -> None:
    here.intune.codes[VALIDATE].append(code)

    await here.enrol(Device())

    assert {"CHALLENGE_REFUSED": 1} == here.ra.counts.alarms


# ---------------------------------------------------------------- asked once


async def test_neither_a_poll_nor_the_same_request_again_is_validated_again(here: Managed, issuing: IssuingCa) -> None:
    issuing.answer = Pending(reference="order 1", retry_after_seconds=600)
    device, challenge = Device(), here.challenge()
    message = device.csr(challenge=challenge)
    await here.send(device, challenge, csr=message)

    await here.ra.answer(device.poll_message(here.ra.ca))
    await here.send(device, challenge, csr=message)
    await here.send(device, challenge, csr=message, transaction_id="another")

    assert 1 == len(here.intune.told(VALIDATE))
    assert [State.PENDING] == await states(here)


async def test_a_new_key_is_a_new_request(here: Managed) -> None:
    await here.enrol(Device(key=pooled_key(0)))
    await here.enrol(Device(key=pooled_key(1)))

    assert 2 == len(here.intune.told(VALIDATE))
    assert [State.RELEASED, State.RELEASED] == await states(here)


async def test_the_same_request_twice_at_once_is_validated_once(here: Managed) -> None:
    validator = await here.beside.validator()
    here.intune.codes[VALIDATE].append("Success")
    asked = attempt("the challenge")

    verdicts = await asyncio.gather(*(validator.check(asked) for _ in range(5)))

    assert 1 == len(here.intune.told(VALIDATE))
    assert all(isinstance(each, Grant) for each in verdicts)
    await validator.aclose()


async def test_a_yes_that_was_not_committed_is_kept_for_a_while(here: Managed) -> None:
    validator = await here.beside.validator()
    here.intune.codes[VALIDATE].extend(["Success", "ChallengeExpired"])
    asked = attempt("the challenge")
    await validator.check(asked)

    soon = await validator.check(asked)
    here.ra.clock.advance(timedelta(minutes=11))
    later = await validator.check(asked)

    assert isinstance(soon, Grant)
    assert not isinstance(later, Grant)
    await validator.aclose()


# ---------------------------------------------------------------- tokens and places


async def test_one_token_for_each_resource_and_one_discovery_serve_many(here: Managed) -> None:
    for number in range(5):
        await here.enrol(Device(subject=f"CN=device {number}"))

    assert {"graph": 1, "intune": 1} == here.intune.entra.issued
    assert 1 == len([path for _, path in here.intune.asked if path.endswith("/endpoints")])


async def test_a_service_that_is_nowhere_does_not_hide_the_others(here: Managed) -> None:
    here.intune.places["PkiConnectorFEService"] = ""

    assert isinstance(await here.enrol(Device()), replies.Success)


@pytest.mark.parametrize(
    ("action", "changes"),
    [
        (SUCCESS, {"certificateThumbprint": "AB"}),
        (SUCCESS, {"certificateSerialNumber": "abc"}),
        (SUCCESS, {"certificateExpirationDateUtc": "2027-01-02T03:04:05+00:00"}),
        (FAILURE, {"errorDescription": "x" * 256}),
        (FAILURE, {"hResult": -1}),
    ],
)
async def test_the_simulated_intune_takes_nothing_in_another_form(
    here: Managed, action: str, changes: dict[str, Any]
) -> None:
    form = {
        "grant_type": "client_credentials",
        "scope": "https://api.manage.microsoft.com//.default",
        "client_id": CLIENT_ID,
        "client_secret": here.intune.entra.client_secret,
    }
    headers = {"api-version": "2018-02-20", "client-request-id": str(uuid4())}

    async with httpx.AsyncClient(base_url=here.beside.url, headers=headers) as client:
        token = (await client.post(f"/{TENANT}/oauth2/v2.0/token", data=form)).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        good = await client.post(f"{SCEP_PATH}/ScepActions/{action}", json={"notification": GOOD})
        other = await client.post(f"{SCEP_PATH}/ScepActions/{action}", json={"notification": {**GOOD, **changes}})

    assert [200, 400] == [good.status_code, other.status_code]


async def test_every_call_is_measured(here: Managed) -> None:
    calls: list[tuple[str, str]] = []
    services = replace(here.beside.services(), observe=lambda operation, outcome, _: calls.append((operation, outcome)))
    validator = await connect(here.beside.options(), services)
    here.intune.codes[VALIDATE].append("Success")

    await validator.check(attempt("a challenge"))

    await validator.aclose()
    assert {("token", "200"), ("discovery", "200"), ("validate", "200")} == set(calls)


async def test_a_token_is_replaced_before_its_end(here: Managed) -> None:
    await here.enrol(Device(key=pooled_key(0)))
    here.ra.clock.advance(timedelta(minutes=56))

    result = await here.enrol(Device(key=pooled_key(1)))

    assert isinstance(result, replies.Success)
    assert 2 == here.intune.entra.issued["intune"]


async def test_a_token_that_is_refused_is_replaced_within_the_request(here: Managed) -> None:
    await here.enrol(Device(key=pooled_key(0)))
    here.ra.clock.advance(timedelta(minutes=2))
    here.intune.entra.revoke_all()

    result = await here.enrol(Device(key=pooled_key(1)))

    assert isinstance(result, replies.Success)
    assert 2 == here.intune.entra.issued["intune"]


async def test_a_token_from_before_the_consent_is_replaced_after_it(here: Managed) -> None:
    here.intune.entra.consented = False
    validator = await here.beside.validator()
    before = await validator.check(attempt("the challenge"))
    here.intune.entra.consented = True
    here.ra.clock.advance(timedelta(minutes=2))
    here.intune.codes[VALIDATE].append("Success")

    after = await validator.check(attempt("the challenge"))

    assert isinstance(before, NotNow)
    assert "Insufficient privileges" in before.detail
    assert isinstance(after, Grant)
    await validator.aclose()


async def test_a_refusal_for_good_does_not_ask_for_token_after_token(here: Managed) -> None:
    here.intune.entra.consented = False
    validator = await here.beside.validator()

    for _ in range(5):
        await validator.check(attempt("the challenge"))

    assert {"graph": 1, "intune": 1} == here.intune.entra.issued
    await validator.aclose()


@pytest.mark.parametrize("status", [404, 410, 500])
async def test_a_service_that_has_moved_is_found_again_within_the_request(here: Managed, status: int) -> None:
    await here.enrol(Device(key=pooled_key(0)))
    here.ra.clock.advance(timedelta(minutes=2))
    here.intune.faults.at_next("ScepActions/validateRequest", Response(status_code=status))

    result = await here.enrol(Device(key=pooled_key(1)))

    assert isinstance(result, replies.Success)


async def test_a_place_that_was_found_is_used_a_day_longer_than_graph_answers(here: Managed) -> None:
    await here.enrol(Device(key=pooled_key(0)))
    here.intune.faults.always("/endpoints", Response(status_code=500))

    here.ra.clock.advance(timedelta(hours=23))
    first = await here.enrol(Device(key=pooled_key(1)))
    here.ra.clock.advance(timedelta(hours=2))

    assert isinstance(first, replies.Success)
    with pytest.raises(Unavailable, match="discovery"):
        await here.enrol(Device(key=pooled_key(2)))


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize("rules", [{"min_rsa_bits": 4096}])
async def test_intune_hears_of_a_refusal_by_policy(here: Managed) -> None:
    result = await here.enrol(Device())
    await here.deliver()

    (told,) = here.intune.told(FAILURE)
    assert isinstance(result, replies.Failure)
    assert result_of("KEY_NOT_ALLOWED") == told["hResult"]
    assert told["errorDescription"].startswith("KEY_NOT_ALLOWED: RSA-2048")
    assert [] == here.intune.told(SUCCESS)


async def test_intune_hears_that_another_challenge_has_refused_what_it_let_in(here: Managed) -> None:
    asked, device = here.ra.endpoint.validator, Device()
    other = Checked("list", FakeValidator(Deny(detail="no device of that name")), log_error=lambda *_: None)
    assert isinstance(asked, Checked)
    here.ra.endpoint = replace(here.ra.endpoint, validator=AllOf((asked, other)))

    result = await here.enrol(device)
    await here.deliver()

    (told,) = here.intune.told(FAILURE)
    assert REFUSED == result
    assert result_of("CHALLENGE_REFUSED") == told["hResult"]
    assert told["errorDescription"].endswith("no device of that name")
    assert [] == await here.ra.transactions()


async def test_intune_hears_of_a_refusal_by_the_ca_once(here: Managed, issuing: IssuingCa) -> None:
    issuing.answer = Rejected(rejection=Rejection.POLICY, detail="no " * 200)

    await here.enrol(Device())
    await here.deliver()
    here.ra.clock.advance(timedelta(hours=1))
    await here.deliver()

    (told,) = here.intune.told(FAILURE)
    assert result_of("policy") == told["hResult"]
    assert 255 == len(told["errorDescription"])


@pytest.mark.parametrize("rules", [{"pending_expires_days": 1}])
async def test_intune_hears_of_an_order_that_was_given_up(here: Managed, issuing: IssuingCa) -> None:
    issuing.answer = issuing.polled = Pending(reference="order 1", retry_after_seconds=3600)
    await here.enrol(Device())

    await here.ra.sweep(timedelta(days=2))
    await here.deliver()

    assert [result_of("EXPIRED")] == [each["hResult"] for each in here.intune.told(FAILURE)]


async def test_a_certificate_that_intune_refuses_is_revoked_and_the_reason_is_told_to_the_operator(
    here: Managed, issuing: IssuingCa
) -> None:
    here.intune.codes[SUCCESS].append("ChallengeExpired")

    result = await here.enrol(Device())
    await here.ra.sweep()

    (row,) = await here.ra.transactions()
    assert isinstance(result, replies.Failure)
    assert State.REVOKED is row.state
    assert [row.certificate] == [each for each, _ in issuing.revoked]
    why = situation_of(row, (), here.ra.clock.now()).why
    assert "ChallengeExpired: the challenge was older than 60 minutes" in why
    assert "client-request-id" in why


@pytest.mark.parametrize("rules", [{"revoke_undelivered_after_days": 1}])
async def test_of_a_device_that_gave_up_and_came_with_another_key_the_first_certificate_is_revoked(
    here: Managed, issuing: IssuingCa
) -> None:
    issuing.answer = Pending(reference="order 1", retry_after_seconds=3600)
    await here.enrol(Device(key=pooled_key(0)))
    issuing.answer = None
    here.ra.clock.advance(timedelta(minutes=20))
    second = await here.enrol(Device(key=pooled_key(1)))

    await here.ra.sweep(timedelta(hours=2))
    await here.ra.sweep(timedelta(days=2))

    assert isinstance(second, replies.Success)
    assert [State.REVOKED, State.RELEASED] == await states(here)
    assert 2 == len(here.intune.told(SUCCESS))


# ---------------------------------------------------------------- async


@pytest.mark.parametrize("options", [{"notify_policy": "async"}])
async def test_with_async_the_device_does_not_wait_for_intune(here: Managed) -> None:
    here.intune.faults.always("successNotification", Response(status_code=500))

    result = await here.enrol(Device())
    await here.deliver()
    here.intune.faults.end()
    here.ra.clock.advance(timedelta(hours=30))
    await here.deliver()

    assert isinstance(result, replies.Success)
    assert 1 == len(here.intune.told(SUCCESS))


@pytest.mark.parametrize("options", [{"notify_policy": "async"}])
async def test_with_async_a_refusal_leaves_the_certificate_and_a_dead_letter(here: Managed) -> None:
    here.intune.codes[SUCCESS].append("Unknown")

    await here.enrol(Device())
    await here.deliver()
    here.ra.clock.advance(timedelta(minutes=1))
    await here.deliver()

    (letter,) = await here.ra.journal.read(lambda c: outbox.dead(c, 10))
    assert [State.RELEASED] == await states(here)
    assert letter.detail is not None
    assert letter.detail.startswith("Unknown: ")


# ---------------------------------------------------------------- what the certificate says


def pair(name: str, value: str) -> bytes:
    strings = (der(BMP_STRING, each.encode("utf-16-be")) for each in (name, value))
    return attribute("1.3.6.1.4.1.311.13.2.1", seq(*strings))


@pytest.mark.parametrize(
    ("pairs", "days"),
    [
        ([], 365),
        ([("ValidityPeriod", "Weeks"), ("ValidityPeriodUnits", "2")], 14),
        ([("ValidityPeriod", "3"), ("ValidityPeriodUnits", "Months")], 90),
        ([("ValidityPeriod", "Years"), ("ValidityPeriodUnits", "2")], 365),
        ([("ValidityPeriod", "Years")], 365),
        ([("ValidityPeriod", "Fortnights"), ("ValidityPeriodUnits", "2")], 365),
        ([("ValidityPeriod", "Days"), ("ValidityPeriodUnits", "0")], 365),
        ([("ValidityPeriod", "Days"), ("ValidityPeriodUnits", "-5")], 365),
    ],
)
async def test_a_shorter_validity_is_granted_and_a_longer_one_is_not(
    here: Managed, pairs: list[tuple[str, str]], days: int
) -> None:
    device, challenge = Device(), here.challenge()
    attributes = sorted([challenge_attribute(challenge), *(pair(*each) for each in pairs)])
    request = written_csr(device.key, attributes=attributes)

    certificate = device.obtain((await here.send(device, challenge, csr=request)).body)

    assert here.ra.clock.now() + timedelta(days=days) == certificate.not_valid_after_utc


@pytest.mark.parametrize(
    "rules", [{"allow_sid_uri": True}, {"allow_sid_uri": True, "allow_sid_extension": True}], ids=["usual", "allowed"]
)
async def test_the_sid_that_intune_has_validated_is_kept_and_the_one_that_it_has_not_is_left_out(here: Managed) -> None:
    device, names = Device(), (f"uri:{SID_URI}",)
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(SID_EXTENSION), SID_EXTENSION_VALUE)
    challenge = here.challenge(sans=names)

    certificate = device.obtain((await here.send(device, challenge, sans=names, extensions=[extension])).body)

    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [SID_URI] == found.get_values_for_type(x509.UniformResourceIdentifier)
    assert SID_EXTENSION not in [each.oid.dotted_string for each in certificate.extensions]


async def test_neither_challenge_nor_token_nor_secret_is_in_the_audit(here: Managed) -> None:
    challenge = here.challenge()

    await here.enrol(Device(), challenge)

    audited = repr(await here.ra.events())
    assert challenge not in audited
    assert here.intune.entra.client_secret not in audited
