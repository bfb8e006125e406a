from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ra.challenge.api import Deny, Verdict
from ra.challenge.static import MIN_LENGTH, Options, Static, connect
from ra.errors import Misconfigured
from ra.policy.grant import Grant
from tests.fakes.challenges import NOW, FakeServices, attempt

FIRST, SECOND = "correct horse", "battery staple"
SECRETS = {"file:first.txt": f"{FIRST}\n", "env:SECOND": SECOND}
BEFORE, AFTER = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)


def secret(label: str, value_from: str, **bounds: datetime) -> dict[str, Any]:
    return {"label": label, "value_from": value_from, **bounds}


def validator(*secrets: dict[str, Any], services: FakeServices | None = None) -> Static:
    options = Options.model_validate({"secrets": secrets or [secret("first", "file:first.txt")]})
    return asyncio.run(connect(options, (services or FakeServices(SECRETS)).services()))


def verdict(static: Static, challenge: str | None, arrived_at: datetime = NOW) -> Verdict:
    return asyncio.run(static.check(attempt(challenge, arrived_at=arrived_at)))


def test_each_of_the_secrets_is_granted_under_its_label() -> None:
    static = validator(secret("first", "file:first.txt"), secret("second", "env:SECOND"))

    verdicts = [verdict(static, FIRST), verdict(static, SECOND)]

    assert [Grant(method="shared", label="first"), Grant(method="shared", label="second")] == verdicts


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("P8eSY7CTpckSzgF2SQoxCJZ", False),
        ("P8eSY7CTpckSzgF2SQoxCJZK", True),
        ("9f8e7d6c5b4a39281706f5e4d3c2b1a", False),
        ("9f8e7d6c5b4a39281706f5e4d3c2b1a0", True),
        ("38174620593817462059381746205938174620", False),
        ("381746205938174620593817462059381746205", True),
        ("ab" * 16, False),
        ("our device password since 2031", False),
    ],
)
def test_a_reply_may_be_sealed_with_what_can_be_a_random_secret_of_128_bits(value: str, *, expected: bool) -> None:
    static = validator(secret("long", "env:LONG"), services=FakeServices({"env:LONG": value}))

    assert Grant(method="shared", label="long", is_strong=expected) == verdict(static, value)


@pytest.mark.parametrize("challenge", ["", " ", FIRST[:-1], FIRST + " ", FIRST + "\n", FIRST.upper(), "file:first.txt"])
def test_anything_else_is_denied(challenge: str) -> None:
    denied = verdict(validator(), challenge)

    assert Deny(detail="the challenge is none of the secrets") == denied


@given(st.text().filter(lambda text: text != FIRST))
def test_no_text_but_the_secret_is_granted(challenge: str) -> None:
    denied = verdict(validator(), challenge)

    assert Deny(detail="the challenge is none of the secrets") == denied


@pytest.mark.rfc8894("request-contents")
def test_a_request_without_a_challenge_is_denied() -> None:
    denied = verdict(validator(), None)

    assert Deny(detail="no challenge was presented") == denied


def test_a_challenge_that_is_no_unicode_is_denied() -> None:
    denied = verdict(validator(), "\ud800")

    assert Deny(detail="the challenge is none of the secrets") == denied


@pytest.mark.parametrize(
    ("arrived_at", "expected"),
    [
        (datetime(2026, 4, 30, 23, 59, 59, tzinfo=UTC), Deny(detail="the secret 'first' is not accepted yet")),
        (BEFORE, Grant(method="shared", label="first")),
        (AFTER, Grant(method="shared", label="first")),
        (datetime(2026, 7, 1, 0, 0, 1, tzinfo=UTC), Deny(detail="the secret 'first' is no longer accepted")),
    ],
)
def test_a_secret_is_accepted_within_its_bounds_as_of_the_arrival(arrived_at: datetime, expected: Verdict) -> None:
    static = validator(secret("first", "file:first.txt", not_before=BEFORE, not_after=AFTER))

    given_at = verdict(static, FIRST, arrived_at)

    assert expected == given_at


def test_one_secret_can_follow_another_without_a_gap() -> None:
    static = validator(
        secret("first", "file:first.txt", not_after=AFTER), secret("second", "env:SECOND", not_before=BEFORE)
    )

    granted = [isinstance(verdict(static, challenge), Grant) for challenge in (FIRST, SECOND)]

    assert [True, True] == granted


@pytest.mark.parametrize("line_end", ["", "\n", "\r\n"])
def test_the_line_end_of_a_file_does_not_count(line_end: str) -> None:
    static = validator(services=FakeServices({"file:first.txt": FIRST + line_end}))

    granted = verdict(static, FIRST)

    assert Grant(method="shared", label="first") == granted


@pytest.mark.parametrize("value", ["", "\n", "x" * (MIN_LENGTH - 1), "x" * (MIN_LENGTH - 1) + "\n"])
def test_a_secret_that_can_be_guessed_stops_the_start(value: str) -> None:
    with pytest.raises(Misconfigured, match=r"^secret 'first': it has \d characters; at least 8 are needed$"):
        validator(services=FakeServices({"file:first.txt": value}))


@pytest.mark.parametrize(
    ("secrets", "complaint"),
    [
        ([secret("a", "env:SECOND"), secret("a", "file:first.txt")], "two secrets have the same label"),
        ([secret("a", "env:SECOND"), secret("b", "env:SECOND")], "two secrets have the same secret"),
        (
            [secret("a", "env:SECOND", not_before=AFTER, not_after=BEFORE)],
            "secret 'a': not_before lies after not_after",
        ),
        ([secret("a", "env:MISSING")], "there is no secret env:MISSING"),
    ],
)
def test_secrets_that_cannot_be_meant_stop_the_start(secrets: list[dict[str, Any]], complaint: str) -> None:
    with pytest.raises(Misconfigured, match=f"^{complaint}$"):
        validator(*secrets)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"secrets": []},
        {"secrets": [{"label": "", "value_from": "env:SECOND"}]},
        {"secrets": [{"label": "a", "value": "in clear"}]},
        {"secrets": [{"label": "a", "value_from": "env:SECOND", "not_after": "2026-07-01T00:00:00"}]},
        {"secrets": [{"label": "a", "value_from": "env:SECOND"}], "secret": "x"},
    ],
)
def test_options_that_are_none_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate(options)


@pytest.mark.parametrize("value", ["under_score", "p@ssword", "hash#tag", "star*star", "Müllerei"])
def test_a_secret_that_windows_cannot_send_is_warned_of(value: str) -> None:
    services = FakeServices({"file:first.txt": value})

    validator(services=services)

    assert ["secret 'first': Windows cannot send it; use letters, digits, space and '()+,-./:=? alone"] == (
        services.warnings
    )


def test_every_character_of_a_printable_string_is_fine() -> None:
    services = FakeServices({"file:first.txt": "AZaz09 '()+,-./:=?"})

    validator(services=services)

    assert [] == services.warnings


def test_a_secret_whose_time_is_over_is_warned_of() -> None:
    services = FakeServices(SECRETS)

    validator(secret("first", "file:first.txt", not_after=BEFORE), services=services)

    assert ["secret 'first': it is no longer accepted since 2026-05-01T00:00:00+00:00"] == services.warnings


def test_neither_a_secret_nor_its_digest_shows() -> None:
    static = validator(secret("first", "file:first.txt"), secret("second", "env:SECOND"))

    shown = repr(static)

    assert FIRST not in shown
    assert SECOND not in shown
    assert "digest" not in shown
