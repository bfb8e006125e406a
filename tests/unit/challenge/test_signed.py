from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from base64 import b32encode, b64encode
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ra.challenge.api import Deny, Verdict
from ra.challenge.signed import MAX_CHARACTERS, Options, Signed, SigningKey, TooLong, connect, sign
from ra.errors import Misconfigured
from ra.policy.grant import Grant
from ra.scep.csr import Csr
from ra.scep.x509 import is_printable
from tests.fakes.challenges import NOW, FakeServices, attempt
from tests.fakes.csrs import csr, san, subject

KEY = b"k" * 32
NAMES = ("CN=dev-1", "dns:dev-1.example.org")
ASKED = csr(subject=subject(("2.5.4.3", "dev-1")), subject_alternative_names=(san("dns", "dev-1.example.org"),))
HOUR = timedelta(hours=1)


def connected(*kids: str, **options: Any) -> Signed:
    secrets = {f"file:{kid}": b64encode(hashlib.sha256(kid.encode()).digest()).decode() for kid in kids}
    secrets["file:k1"] = b64encode(KEY).decode() + "\n"
    keys = [{"kid": kid, "secret": f"file:{kid}"} for kid in kids or ("k1",)]
    given_options = Options.model_validate({"keys": keys, **options})
    return asyncio.run(connect(given_options, FakeServices(secrets, name="signed").services()))


def signed(key: SigningKey | None = None, **changes: Any) -> str:
    terms: dict[str, Any] = {"profile": "default", "names": NAMES, "ttl": HOUR, "now": NOW, "random": b"12345678"}
    return sign(key or SigningKey(kid="k1", key=KEY), **terms | changes).reveal()


def verdict(validator: Signed, challenge: str, request: Csr = ASKED, **changes: Any) -> Verdict:
    asked = csr(
        subject=request.subject,
        subject_alternative_names=request.subject_alternative_names,
        challenge_password=challenge,
    )
    return asyncio.run(validator.check(attempt(challenge, request=asked, **changes)))


def made_by_another_program(payload: Any, kid: str = "k1", key: bytes = KEY) -> str:
    """What the documentation says, without the code."""
    content = (
        payload if isinstance(payload, bytes) else json.dumps(payload, sort_keys=True, separators=(",", ":")).encode()
    )
    mac = hmac.new(key, b"scep-ra/challenge/v1\0" + kid.encode() + b"\0" + content, hashlib.sha256).digest()[:16]
    return ".".join(("S1", kid, *(b32encode(each).decode().rstrip("=") for each in (content, mac))))


def test_what_was_signed_for_it_is_granted_and_is_to_be_spent() -> None:
    challenge = signed()

    granted = verdict(connected(), challenge)

    assert isinstance(granted, Grant)
    assert granted.is_strong
    assert ("signed", "k1") == (granted.method, granted.label)
    assert granted.spend is not None
    assert hashlib.sha256(f"signed\0{challenge}".encode()).digest() == granted.spend.key


def test_where_once_is_off_nothing_is_spent() -> None:
    granted = verdict(connected(once=False), signed())

    assert isinstance(granted, Grant)
    assert granted.spend is None


def test_windows_can_send_it() -> None:
    challenge = signed()

    assert is_printable(challenge)
    assert len(challenge) <= MAX_CHARACTERS


def test_another_program_can_sign_by_the_documentation() -> None:
    payload = {"e": int((NOW + HOUR).timestamp()), "j": "12345678", "n": sorted(NAMES), "p": "default"}

    answer = verdict(connected(), made_by_another_program(payload))

    assert isinstance(answer, Grant)


@pytest.mark.parametrize(
    "request_",
    [
        csr(subject=subject(("2.5.4.3", "dev-1"))),
        csr(subject=subject(("2.5.4.3", "dev-2")), subject_alternative_names=ASKED.subject_alternative_names),
        csr(
            subject=subject(("2.5.4.3", "dev-1"), ("2.5.4.10", "Example")),
            subject_alternative_names=ASKED.subject_alternative_names,
        ),
    ],
)
def test_it_is_good_for_its_names_alone(request_: Csr) -> None:
    answer = verdict(connected(), signed(), request_)

    assert isinstance(answer, Deny)


def test_a_challenge_for_no_name_needs_leave() -> None:
    open_challenge = signed(names=None)

    refused, let_in = verdict(connected(), open_challenge), verdict(connected(names_required=False), open_challenge)

    assert isinstance(refused, Deny)
    assert isinstance(let_in, Grant)


def test_it_is_good_for_its_profile_alone() -> None:
    assert isinstance(verdict(connected(), signed(profile="other")), Deny)


def test_it_is_good_until_its_time_is_over() -> None:
    challenge = signed()

    in_time = verdict(connected(), challenge, arrived_at=NOW + HOUR)
    too_late = verdict(connected(), challenge, arrived_at=NOW + HOUR + timedelta(seconds=1))

    assert isinstance(in_time, Grant)
    assert Deny(detail="the signed challenge has expired") == too_late


def test_one_that_lasts_too_long_is_refused_whoever_signed_it() -> None:
    answer = verdict(connected(max_ttl_minutes=59), signed())

    assert isinstance(answer, Deny)


def test_every_key_is_accepted_and_none_for_another() -> None:
    old = SigningKey(kid="old", key=hashlib.sha256(b"old").digest())

    by_old = verdict(connected("k1", "old"), signed(old))
    removed = verdict(connected("k1"), signed(old))
    swapped = verdict(connected("k1", "old"), signed(old).replace(".old.", ".k1."))

    assert isinstance(by_old, Grant)
    assert [True, True] == [isinstance(each, Deny) for each in (removed, swapped)]


@given(data=st.data())
def test_no_other_text_is_the_same_challenge(data: st.DataObject) -> None:
    challenge = signed()
    place = data.draw(st.integers(0, len(challenge) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda each: each != challenge[place]))

    answer = verdict(connected(), challenge[:place] + other + challenge[place + 1 :])

    assert isinstance(answer, Deny)


@pytest.mark.parametrize(
    "challenge", [signed() + "=", signed().lower(), signed() + "\n", " " + signed(), "S1...", "S1.k1.A.B"]
)
def test_no_other_spelling_is_taken(challenge: str) -> None:
    assert isinstance(verdict(connected(), challenge), Deny)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"{}",
        {"e": "2147483647", "j": "12345678", "p": "default", "n": []},
        {"e": -1, "j": "12345678", "p": "default"},
        {"e": 10**30, "j": "12345678", "p": "default"},
        {"e": 2147483647, "j": "1", "p": "default"},
        {"e": 2147483647, "j": "12345678", "p": "default", "n": [], "x": 1},
        {"e": True, "j": "12345678", "p": "default", "n": []},
    ],
)
def test_a_payload_that_means_nothing_is_denied_even_if_it_is_signed(payload: Any) -> None:
    answer = verdict(connected(names_required=False, max_ttl_minutes=527_040), made_by_another_program(payload))

    assert isinstance(answer, Deny)


def test_names_that_do_not_fit_are_said_to_be_too_long() -> None:
    with pytest.raises(TooLong, match="255"):
        signed(names=[f"dns:device-{number}.example.org" for number in range(20)])


@pytest.mark.parametrize("secret", ["no base64!", b64encode(b"short").decode(), ""])
def test_a_bad_key_stops_the_start(secret: str) -> None:
    options = Options.model_validate({"keys": [{"kid": "k1", "secret": "file:k1"}]})

    with pytest.raises(Misconfigured, match="key 'k1'"):
        asyncio.run(connect(options, FakeServices({"file:k1": secret}).services()))


def test_two_keys_of_one_kid_stop_the_start() -> None:
    with pytest.raises(Misconfigured, match="the same kid"):
        connected("k1", "k1")


def test_a_kid_with_a_dot_is_refused() -> None:
    with pytest.raises(ValidationError):
        Options.model_validate({"keys": [{"kid": "a.b", "secret": "file:k1"}]})
