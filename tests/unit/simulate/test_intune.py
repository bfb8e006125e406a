"""The simulated Intune says what the original says, and why not."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Callable
from datetime import timedelta

import httpx
import pytest
from cryptography import x509

from ra.simulate.intune import SimulatedIntune
from ra.simulate.intune.challenges import Challenges, Denied, Expected
from ra.simulate.intune.revocations import Revocations
from tests.fakes import pki
from tests.fakes.clock import FakeClock
from tests.fakes.device import Device

CLIENT_AUTH = x509.ExtendedKeyUsage([x509.ObjectIdentifier("1.3.6.1.5.5.7.3.2")])
SUBJECT = "CN=device.example,O=Example"


class Asked:
    """A tenant on a clock."""

    def __init__(self) -> None:
        self.clock = FakeClock(pki.NOW)
        self.challenges = Challenges(now=self.clock.now, entropy=os.urandom)

    def code(self, challenge: str | None, **csr: object) -> str:
        request = Device(subject=SUBJECT).csr(challenge=challenge, **csr)  # type: ignore[arg-type]  # sans, extensions
        try:
            self.challenges.check(b64encode(request).decode())
        except Denied as denied:
            return str(denied)
        return "Success"


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.mark.parametrize(
    ("expected", "code"),
    [
        (Expected(), "Success"),
        (Expected(subject=SUBJECT, sans=("dns:device.example",), key_bits=2048), "Success"),
        (Expected(extended_key_usage=("1.3.6.1.5.5.7.3.2",)), "Success"),
        (Expected(subject="CN=other"), "SubjectNameMismatch"),
        (Expected(sans=("dns:other.example",)), "SubjectAltNameMismatch"),
        (Expected(sans=()), "SubjectAltNameMismatch"),
        (Expected(key_bits=4096), "KeyLengthMismatch"),
        (Expected(extended_key_usage=("1.3.6.1.5.5.7.3.1",)), "EnhancedKeyUsageMismatch"),
        (Expected(profile="gone"), "ScepProfileNoLongerTargetedToTheClient"),
    ],
)
def test_a_request_is_compared_with_what_the_challenge_was_made_for(
    asked: Asked, expected: Expected, code: str
) -> None:
    challenge = asked.challenges.mint(expected)

    assert code == asked.code(challenge, sans=["dns:device.example"], extensions=[CLIENT_AUTH])


@pytest.mark.parametrize(
    ("expected", "code"),
    [
        (Expected(sans=("dns:device.example",)), "SubjectAltNameMissing"),
        (Expected(extended_key_usage=("1.3.6.1.5.5.7.3.2",)), "EnhancedKeyUsageMissing"),
    ],
)
def test_what_is_missing_is_said_to_be_so(asked: Asked, expected: Expected, code: str) -> None:
    assert code == asked.code(asked.challenges.mint(expected))


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda _: None, "ChallengePasswordMissing"),
        (lambda _: "no base64!", "ChallengeDecodingError"),
        (lambda _: "bm90IEludHVuZQ==", "ChallengeDecryptionError"),
        (lambda _: Asked().challenges.mint(), "ChallengeDecryptionError"),
        (lambda it: it.mint(made_at=pki.NOW - timedelta(minutes=61)), "ChallengeExpired"),
        (lambda it: it.mint(made_at=pki.NOW - timedelta(minutes=59)), "Success"),
        (lambda it: it.mint(made_at=pki.NOW + timedelta(days=1)), "ChallengeInvalidTimestamp"),
    ],
)
def test_a_challenge_is_looked_at_before_the_request(
    asked: Asked, make: Callable[[Challenges], str | None], code: str
) -> None:
    assert code == asked.code(make(asked.challenges))


@pytest.mark.parametrize("csr", ["", "no base64!", "AAAA"])
def test_what_is_no_request_cannot_be_decoded(asked: Asked, csr: str) -> None:
    with pytest.raises(Denied, match="CertificateRequestDecodingFailed"):
        asked.challenges.check(csr)


def test_revocations_are_cut_before_they_are_filtered() -> None:
    revocations = Revocations(os.urandom)
    revocations.ask_for("01", ca_configuration="one")
    revocations.ask_for("02", ca_configuration="two")

    found = revocations.download({"downloadParameters": {"maxRequests": 1, "issuerName": "two"}})

    assert [] == found


# ---------------------------------------------------------------- what a person asks of it
async def told(server: SimulatedIntune, method: str, url: str) -> httpx.Response:
    transport = httpx.ASGITransport(server.faults)
    async with httpx.AsyncClient(transport=transport, base_url="http://simulated") as client:
        return await client.request(method, url)


@pytest.mark.anyio
@pytest.mark.parametrize(("minutes", "code"), [(0, "Success"), (59, "Success"), (61, "ChallengeExpired")])
async def test_a_challenge_of_some_age_can_be_had(minutes: int, code: str, asked: Asked) -> None:
    server = SimulatedIntune(now=asked.clock.now, entropy=os.urandom)
    asked.challenges = server.challenges

    challenge = await told(server, "GET", f"/simulator/challenge?subject=CN=device.example,O=Example&age={minutes}")

    assert code == asked.code(challenge.text)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "url", "says"),
    [
        ("POST", "/simulator/revoke", "name the certificate"),
        ("GET", "/simulator/challenge?subject=device-7", "subject is no name"),
        ("GET", "/simulator/challenge?age=old", "age is a number of minutes"),
        ("GET", "/simulator/challenge?age=99999999999", "age is a number of minutes"),
        ("POST", "/simulator/code?action=none&code=Success", "action is one of"),
    ],
)
async def test_what_a_person_asks_wrongly_is_told_in_a_sentence(method: str, url: str, says: str, asked: Asked) -> None:
    answer = await told(SimulatedIntune(now=asked.clock.now, entropy=os.urandom), method, url)

    assert 400 == answer.status_code
    assert says in answer.text
