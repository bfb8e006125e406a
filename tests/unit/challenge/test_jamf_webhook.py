from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from ra.challenge.api import Deny
from ra.challenge.jamf_webhook import JamfWebhook, Options, connect
from ra.challenge.pages import PageAnswer, PageRequest
from ra.errors import Unavailable as NotNow
from ra.policy.grant import Grant
from ra.scep.x509 import is_printable
from tests.fakes.challenges import NOW, FakeServices, attempt
from tests.fakes.one_time import FakeSecrets

PASSWORD = "correct horse battery"
URL = "https://ra.example.org/scep"
ACCOUNT = {"label": "jamf", "user": "jamf", "password": "file:jamf"}
HEADER = {"label": "fleet", "name": "X-Api-Key", "value": "file:jamf"}
BASIC = ("authorization", f"Basic {b64encode(f'jamf:{PASSWORD}'.encode()).decode()}")
JSON = ("content-type", "application/json; charset=UTF-8")
EVENT: dict[str, Any] = {
    "webhook": {"id": 1, "name": "SCEP RA", "webhookEvent": "SCEPChallenge", "eventTimestamp": 1767323045123},
    "event": {"scepServerUrl": URL, "payloadIdentifier": "6E9A", "payloadTypes": ["com.apple.security.scep"]},
}


def jamf(secrets: FakeSecrets, **options: Any) -> JamfWebhook:
    services = FakeServices({"file:jamf": PASSWORD}, name="jamf").services()
    given = Options.model_validate(options or {"accounts": [ACCOUNT]})
    return asyncio.run(connect(given, replace(services, one_time=secrets)))


def post(validator: JamfWebhook, body: Any = EVENT, *headers: tuple[str, str]) -> PageAnswer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    asked = PageRequest(method="POST", headers=headers or (BASIC, JSON), body=raw, peer="192.0.2.9", ca_certificate=b"")
    return asyncio.run(validator._answer(asked))


def test_the_whole_answer_is_a_challenge_that_windows_can_send() -> None:
    secrets = FakeSecrets()
    validator = jamf(secrets)

    answer = post(validator)
    challenge = answer.body.decode()
    granted = asyncio.run(validator.check(attempt(challenge)))

    assert (200, "text/plain", "minted", "jamf") == (
        answer.status,
        answer.media_type,
        answer.outcome,
        answer.caller,
    )
    assert is_printable(challenge)
    assert challenge == challenge.strip()
    assert isinstance(granted, Grant)
    assert "jamf" == granted.label


def test_a_challenge_outlives_what_fleet_takes_for_granted() -> None:
    validator = jamf(FakeSecrets())
    challenge = post(validator).body.decode()

    answer = asyncio.run(validator.check(attempt(challenge, arrived_at=NOW + timedelta(minutes=5))))

    assert isinstance(answer, Grant)


def test_a_challenge_that_was_never_handed_out_is_denied() -> None:
    answer = asyncio.run(jamf(FakeSecrets()).check(attempt("wrong")))

    assert isinstance(answer, Deny)


@pytest.mark.parametrize(
    ("more", "what_for"),
    [
        ({}, "'6E9A'"),
        ({"device": {"uuid": "1", "serialNumber": "C02X"}}, "'C02X'"),
        ({"targetDevice": {"serialNumber": "C02Y"}, "unknown": [1]}, "'C02Y'"),
        ({"targetDevice": {"serialNumber": 7}}, "'6E9A'"),
        ({"targetDevice": ["C02Y"], "device": None}, "'6E9A'"),
        ({"payloadIdentifier": None, "scepServerUrl": None}, "''"),
        ({"device": {"serialNumber": "ü\n" * 100}}, ascii("ü\n" * 32)),
    ],
)
def test_whom_it_is_for_is_audited_where_it_is_said(more: dict[str, Any], what_for: str) -> None:
    secrets = FakeSecrets()

    post(jamf(secrets), {**EVENT, "event": {**EVENT["event"], **more}})

    assert [f"jamf at 192.0.2.9 for {what_for}"] == secrets.minted


def test_an_event_that_says_no_more_than_its_name_is_answered() -> None:
    answer = post(jamf(FakeSecrets()), {"webhook": {"webhookEvent": "SCEPChallenge"}})

    assert 200 == answer.status


def test_a_header_will_do_for_credentials() -> None:
    validator = jamf(FakeSecrets(), headers=[HEADER])

    known = post(validator, EVENT, ("x-api-key", PASSWORD), JSON)
    stranger = post(validator, EVENT, ("x-api-key", "something else"), JSON)

    assert [200, 401] == [known.status, stranger.status]
    assert not stranger.headers


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (EVENT, (JSON,), 401),
        (EVENT, (BASIC,), 415),
        (EVENT, (BASIC, ("content-type", "text/xml")), 415),
        (b"", (), 400),
        (b"\xff", (), 400),
        (b"[" * 60_000, (), 400),
        ([], (), 400),
        ({"webhook": {"webhookEvent": "ComputerAdded"}}, (), 400),
        ({"webhook": {"webhookEvent": ["SCEPChallenge"]}}, (), 400),
        ({**EVENT, "event": {"scepServerUrl": 7}}, (), 400),
    ],
)
def test_anything_else_gets_no_challenge(body: Any, headers: tuple[tuple[str, str], ...], status: int) -> None:
    secrets = FakeSecrets()

    answer = post(jamf(secrets), body, *headers)

    assert status == answer.status
    assert not secrets.kept


@pytest.mark.parametrize(("asked", "status"), [(URL, 200), (URL + "/", 200), (URL + "x", 403), ("", 403)])
def test_only_the_urls_that_are_named_may_be_asked_for(asked: str, status: int) -> None:
    validator = jamf(FakeSecrets(), accounts=[ACCOUNT], allowed_scep_urls=[URL])

    answer = post(validator, {**EVENT, "event": {"scepServerUrl": asked}})

    assert status == answer.status


def test_an_account_whose_time_is_over_gets_none() -> None:
    over = {**ACCOUNT, "not_after": NOW - timedelta(seconds=1)}

    answer = post(jamf(FakeSecrets(), accounts=[over]))

    assert 403 == answer.status


def test_too_many_that_are_unused_are_answered_503() -> None:
    validator = jamf(FakeSecrets({"A": NotNow("")}), accounts=[ACCOUNT], max_outstanding=1)

    answer = post(validator)

    assert (503, "60") == (answer.status, dict(answer.headers)["Retry-After"])


def test_without_anybody_who_could_be_let_in_there_is_no_webhook() -> None:
    with pytest.raises(ValidationError, match="nobody could be let in"):
        Options.model_validate({})
