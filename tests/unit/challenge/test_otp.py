from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ra.challenge.api import Deny, Unavailable, Verdict
from ra.challenge.one_time import names_asked, read_secret, write_secret
from ra.challenge.otp import DECIDED_AFTER, MIN_BITS, OneTime, Options, connect
from ra.errors import Unavailable as NotNow
from ra.policy.grant import Grant, Spend
from ra.policy.sid import SID_EXTENSION
from ra.scep.csr import Csr
from ra.scep.x509 import is_printable
from tests.fakes.challenges import NOW, FakeServices, attempt
from tests.fakes.csrs import csr, ec_key, extension, rsa_key, san, spki, subject
from tests.fakes.one_time import SECRET, FakeSecrets, a_one_time_secret
from tests.unit.policy.test_sid import EXTENSION, SID

CN, ORGANISATION, SERIAL = "2.5.4.3", "2.5.4.10", "2.5.4.5"
OTHER_KEY = sha256(spki(ec_key())).digest()
OWN_KEY = sha256(spki(rsa_key())).digest()
NAMES = ("CN=printer", "O=Example", "dns:printer.example.org")


def validator(found: object = None, **changes: Any) -> OneTime:
    """Knows SECRET, as an hour's secret for the challenge `lab` unless something else is said."""
    secrets = FakeSecrets()
    secrets.keep(SECRET, found if isinstance(found, Exception) else a_one_time_secret(**changes))
    services = replace(FakeServices({}, name="lab").services(), one_time=secrets)
    return asyncio.run(connect(Options(), services))


def verdict(
    otp: OneTime, challenge: str | None = SECRET, *, request: Csr | None = None, arrived_at: datetime = NOW
) -> Verdict:
    request = replace(request, challenge_password=challenge) if request else None
    return asyncio.run(otp.check(attempt(challenge, request=request, arrived_at=arrived_at)))


def asking(*attributes: tuple[str, str], names: tuple[tuple[str, str], ...] = ()) -> Csr:
    return csr(subject=subject(*attributes), subject_alternative_names=tuple(san(*name) for name in names))


def detail(answer: Verdict) -> str:
    assert isinstance(answer, Deny)
    return answer.detail


def test_a_secret_is_granted_and_is_to_be_spent() -> None:
    granted = verdict(validator())

    spend = Spend(key=a_one_time_secret().key, expires_at=a_one_time_secret().expires_at + DECIDED_AFTER)
    assert Grant(method="lab", label="printer", spend=spend, is_strong=True) == granted


@pytest.mark.parametrize("typed", [SECRET.lower(), SECRET.replace("-", ""), SECRET.replace("-", " "), f" {SECRET} "])
@pytest.mark.parametrize(("meant", "read"), [("", ""), ("0", "O"), ("0", "o"), ("1", "I"), ("1", "l"), ("1", "L")])
def test_a_secret_may_be_typed_in_more_than_one_way(typed: str, meant: str, read: str) -> None:
    granted = verdict(validator(), typed.replace(meant, read))

    assert isinstance(granted, Grant)


@pytest.mark.parametrize("challenge", ["", "-", SECRET[:-1], SECRET + "A", SECRET.replace("7", "8"), SECRET + "\n"])
def test_anything_else_is_denied(challenge: str) -> None:
    denied = verdict(validator(), challenge)

    assert Deny(detail="the challenge is no one-time secret") == denied


def test_a_request_without_a_challenge_is_denied() -> None:
    denied = verdict(validator(), None)

    assert Deny(detail="no challenge was presented") == denied


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"method": "other"}, "was minted for the challenge 'other'"),
        ({"profile": "other"}, "was minted for the profile 'other'"),
        ({"revoked_at": NOW}, "is revoked"),
        ({"expires_at": NOW - timedelta(microseconds=1)}, "has expired"),
    ],
)
def test_a_secret_that_is_not_meant_or_over_is_denied(changes: dict[str, Any], fault: str) -> None:
    denied = verdict(validator(**changes))

    assert Deny(detail=f"the one-time secret 'printer' {fault}") == denied


def test_a_secret_without_a_profile_is_good_for_every_one_that_asks() -> None:
    granted = verdict(validator(profile=None))

    assert isinstance(granted, Grant)


def test_a_secret_is_in_time_when_the_request_arrived_in_time() -> None:
    expires_at = a_one_time_secret().expires_at

    in_time = verdict(validator(), arrived_at=expires_at)
    too_late = verdict(validator(), arrived_at=expires_at + timedelta(microseconds=1))

    assert isinstance(in_time, Grant)
    assert isinstance(too_late, Deny)


def test_a_secret_that_another_key_has_spent_is_an_alarm() -> None:
    denied = verdict(validator(spent_by=UUID(int=1), spent_key=OTHER_KEY))

    assert Deny(detail="the one-time secret 'printer' is spent, by another key", alarm=True) == denied


def test_what_the_same_key_has_spent_is_left_to_the_commit() -> None:
    granted = verdict(validator(spent_by=UUID(int=1), spent_key=OWN_KEY))

    assert isinstance(granted, Grant)


def test_without_the_database_the_device_is_told_to_come_back() -> None:
    unavailable = verdict(validator(NotNow("the database is locked", 7)))

    assert Unavailable(detail="the database is locked", retry_after_seconds=7) == unavailable


def test_before_the_journal_is_open_nothing_can_be_looked_up() -> None:
    otp = asyncio.run(connect(Options(), FakeServices({}).services()))

    unavailable = verdict(otp)

    assert isinstance(unavailable, Unavailable)
    assert "not open" in unavailable.detail


# ---------------------------------------------------------------- names
@pytest.mark.parametrize(
    "request_",
    [
        asking((CN, "printer"), (ORGANISATION, "Example"), names=(("dns", "printer.example.org"),)),
        asking((ORGANISATION, "Example"), (CN, "printer"), names=(("dns", "printer.example.org"),)),
        asking(
            (CN, "printer"),
            (ORGANISATION, "Example"),
            names=(("dns", "printer.example.org"), ("dns", "printer.example.org")),
        ),
    ],
)
def test_a_request_for_just_the_names_is_granted(request_: Csr) -> None:
    granted = verdict(validator(names=NAMES), request=request_)

    assert isinstance(granted, Grant)


@pytest.mark.parametrize(
    ("request_", "fault"),
    [
        (asking((CN, "printer"), (ORGANISATION, "Example")), "wants 'dns:printer.example.org' asked for"),
        (
            asking((CN, "printer"), (ORGANISATION, "Example"), (SERIAL, "12"), names=(("dns", "printer.example.org"),)),
            "does not allow 'serialNumber=12'",
        ),
        (
            asking((CN, "printer"), (CN, "admin"), (ORGANISATION, "Example"), names=(("dns", "printer.example.org"),)),
            "does not allow 'CN=admin'",
        ),
        (
            asking(
                (CN, "printer"),
                (ORGANISATION, "Example"),
                names=(("dns", "printer.example.org"), ("upn", "admin@example.org")),
            ),
            "does not allow 'upn:admin@example.org'",
        ),
        (
            asking((CN, "PRINTER"), (ORGANISATION, "Example"), names=(("dns", "printer.example.org"),)),
            "does not allow 'CN=PRINTER' and wants 'CN=printer' asked for",
        ),
        (
            asking((CN, "printer"), (ORGANISATION, "Example"), names=(("uri", "printer.example.org"),)),
            "does not allow 'uri:printer.example.org' and wants 'dns:printer.example.org' asked for",
        ),
    ],
)
def test_a_request_for_more_or_less_is_denied(request_: Csr, fault: str) -> None:
    denied = verdict(validator(names=NAMES), request=request_)

    assert f"the one-time secret 'printer' {fault}" == detail(denied)


def test_a_sid_is_a_name_like_every_other() -> None:
    plain = asking((CN, "printer"))
    with_sid = replace(plain, extensions=(extension(SID_EXTENSION, EXTENSION),))

    assert isinstance(verdict(validator(names=("CN=printer", f"sid:{SID}")), request=with_sid), Grant)
    assert isinstance(verdict(validator(names=("CN=printer", f"sid:{SID}")), request=plain), Deny)
    assert isinstance(verdict(validator(names=("CN=printer",)), request=with_sid), Deny)


def test_a_sid_that_does_not_read_is_more_than_was_allowed() -> None:
    odd = replace(asking((CN, "printer")), extensions=(extension(SID_EXTENSION, b"\x05\x00"),))

    denied = verdict(validator(names=("CN=printer",)), request=odd)

    assert "unreadable" in detail(denied)


def test_a_secret_bound_to_no_name_is_good_for_every_one() -> None:
    granted = verdict(validator(), request=asking((CN, "anything"), names=(("dns", "any.example.org"),)))

    assert isinstance(granted, Grant)


def test_no_name_reads_as_one_of_another_kind() -> None:
    request = asking((CN, "dns:a=b"), ("1.2.3", "uri:x"), names=(("uri", "x:CN=b"), ("dns", "CN=b")))

    names = names_asked(request)

    assert {"CN=dns:a=b", "1.2.3=uri:x", "uri:x:CN=b", "dns:CN=b"} == names


def test_names_in_a_detail_are_escaped_and_cut() -> None:
    denied = verdict(
        validator(names=("CN=printer",)), request=asking((CN, "printer"), (ORGANISATION, "\x1b[2J" + "x" * 10_000))
    )

    assert detail(denied).isprintable()
    assert len(detail(denied)) < 300


# ---------------------------------------------------------------- the secret itself
@pytest.mark.parametrize("length", [26, 28, 64])
def test_a_new_secret_can_be_typed_sent_by_everybody_and_read_again(length: int) -> None:
    secret = write_secret(os.urandom, length)

    assert length == len(read_secret(secret))
    assert is_printable(secret)
    assert not set("ILOU") & set(secret)
    assert read_secret(secret) == read_secret(secret.lower()) == secret.replace("-", "")
    assert all(len(group) <= 4 for group in secret.split("-"))


@given(st.binary(min_size=18, max_size=18), st.binary(min_size=18, max_size=18))
def test_every_bit_of_entropy_counts(one: bytes, other: bytes) -> None:
    # 28 characters have 140 bits, which are the last of 18 bytes.
    same = int.from_bytes(one) % 2**140 == int.from_bytes(other) % 2**140

    assert same is (write_secret(lambda _: one, 28) == write_secret(lambda _: other, 28))


def test_as_much_entropy_is_drawn_as_is_needed() -> None:
    drawn: list[int] = []

    def entropy(count: int) -> bytes:
        drawn.append(count)
        return bytes(count)

    write_secret(entropy, Options().length)

    assert sum(drawn) * 8 >= Options().length * 5 >= MIN_BITS


@given(st.text(max_size=300))
def test_no_text_stops_the_reading(presented: str) -> None:
    assert read_secret(read_secret(presented)) == read_secret(presented)


@pytest.mark.parametrize("options", [{"length": 25}, {"length": 65}, {"ttl_minutes": 0}, {"ttl_minutes": 527_041}])
def test_options_out_of_bounds_are_errors(options: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate(options)
