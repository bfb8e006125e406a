from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import pytest
from pydantic import ValidationError
from starlette.responses import JSONResponse, PlainTextResponse, Response

from ra.challenge.api import Accepted, Attempt, Deny, Unavailable
from ra.challenge.combine import Checked
from ra.challenge.webhook import Options, Webhook, connect
from ra.challenge.webhook.bodies import challenge_body, notice_body
from ra.errors import Misconfigured
from ra.journal.records import Notice, Occasion
from ra.policy.grant import Grant, Notify
from ra.scep.csr import read_csr
from tests.fakes.challenges import FakeServices, attempt
from tests.fakes.simulated import Front, listening_front
from tests.fakes.step_receiver import SECRET, StepReceiver, allowed, denied
from tests.vectors.files import vector

T = TypeVar("T")

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NOTICE = Notice(
    id=UUID(int=7),
    occasion=Occasion.ISSUED,
    profile="default",
    transaction=UUID(int=8),
    transaction_id="9A0F",
    attributes={},
    csr=vector("step-webhook/device.csr.der"),
    certificate=vector("step-webhook/device.certificate.der"),
)


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with listening_front() as opened:
        yield opened


@pytest.fixture
def receiver(front: Front) -> StepReceiver:
    receiver = StepReceiver()
    front.app = receiver
    return receiver


def hook(front: Front, **options: Any) -> dict[str, Any]:
    return {"url": front.url, "id": "the-id", "secret": "file:secret", **options}


def use(options: dict[str, Any], work: Callable[[Webhook], Awaitable[T]], secret: str = SECRET) -> T:
    services = FakeServices({"file:secret": secret, "file:token": "t0ken", "file:basic": "user:pass"}, name="lab")

    async def run() -> T:
        validator = await connect(Options.model_validate(options), services.services())
        try:
            return await work(validator)
        finally:
            await validator.aclose()

    return asyncio.run(run())


def asked(challenge: str | None = "secret") -> Attempt:
    """A real CSR, with the challenge beside it."""
    request = replace(read_csr(vector("step-webhook/device.csr.der")), challenge_password=challenge)
    return attempt(challenge, request=request)


# ---------------------------------------------------------------- the bodies, beside step-ca's own
@pytest.mark.parametrize("name", ["device", "plain"])
def test_a_challenge_is_asked_for_as_step_ca_does(name: str) -> None:
    expected = json.loads(vector(f"step-webhook/{name}.challenge.json"))
    csr = read_csr(vector(f"step-webhook/{name}.csr.der"))

    body = challenge_body(csr, "wifi", "secret", "9A0F", MOMENT)

    assert {**expected, "timestamp": "2026-01-02T03:04:05Z"} == json.loads(body)
    assert list(expected) == list(json.loads(body))


def test_a_certificate_is_told_of_as_step_ca_does() -> None:
    body = notice_body(NOTICE, MOMENT)

    assert json.loads(vector("step-webhook/issued.json")) == json.loads(body)


def test_a_failure_is_told_of_as_step_ca_does() -> None:
    failed = replace(NOTICE, occasion=Occasion.FAILED, certificate=None, reason="CA_REFUSED", detail="no")

    said = json.loads(notice_body(failed, MOMENT))

    assert {**json.loads(vector("step-webhook/failed.json")), "scepErrorDescription": "CA_REFUSED: no"} == said


def test_a_fraction_of_a_second_has_no_zeros_at_its_end() -> None:
    csr = read_csr(vector("step-webhook/plain.csr.der"))

    body = challenge_body(csr, "wifi", "secret", "9A0F", MOMENT + timedelta(milliseconds=250))

    assert "2026-01-02T03:04:05.25Z" == json.loads(body)["timestamp"]


# ---------------------------------------------------------------- asking
def test_what_is_allowed_is_granted(front: Front, receiver: StepReceiver) -> None:
    receiver.replies.append(allowed(role="eng", secret=["no text"], other="not named"))

    granted = use(hook(front, attributes=["role", "secret", "none"]), lambda hook: hook.check(asked()))

    assert Grant(method="lab", label="the-id", attributes={"role": "eng"}) == granted
    assert ["default"] == [each["provisionerName"] for each in receiver.bodies]
    assert "the-id" == receiver.headers[0]["x-smallstep-webhook-id"]


@pytest.mark.parametrize(
    ("option", "header"),
    [({"bearer": "file:token"}, "Bearer t0ken"), ({"basic": "file:basic"}, "Basic dXNlcjpwYXNz"), ({}, None)],
)
def test_the_receiver_is_shown_who_asks(
    front: Front, receiver: StepReceiver, option: dict[str, str], header: str | None
) -> None:
    use(hook(front, **option), lambda hook: hook.check(asked()))

    assert header == receiver.headers[0].get("authorization")


def test_what_is_not_allowed_is_denied_and_the_challenge_is_not_repeated(front: Front, receiver: StepReceiver) -> None:
    receiver.replies.append(denied(code="not_enrolled", message="secret is unknown"))

    answer = use(hook(front), lambda hook: hook.check(asked()))

    assert Deny(detail="the webhook does not allow it: not_enrolled *** is unknown") == answer


@pytest.mark.parametrize("reply", [JSONResponse({}), JSONResponse({"allow": False}), denied()])
def test_an_answer_that_does_not_allow_is_a_no(front: Front, receiver: StepReceiver, reply: Response) -> None:
    receiver.replies.append(reply)

    answer = use(hook(front), lambda hook: hook.check(asked()))

    assert isinstance(answer, Deny)


@pytest.mark.parametrize(
    "reply",
    [
        PlainTextResponse("secret"),
        JSONResponse({"allow": "true"}),
        JSONResponse({"allow": 1}),
        JSONResponse([True]),
        PlainTextResponse("", 204),
        PlainTextResponse("the secret is known to me", 400),
        PlainTextResponse("", 302, {"Location": "http://127.0.0.1:9/"}),
    ],
)
def test_an_answer_that_is_none_lets_nobody_in(front: Front, receiver: StepReceiver, reply: Response) -> None:
    receiver.replies.append(reply)

    answer = use(hook(front), lambda hook: hook.check(asked()))

    assert isinstance(answer, Unavailable)
    assert "secret" not in answer.detail


def test_a_receiver_that_fails_once_is_asked_again(front: Front, receiver: StepReceiver) -> None:
    receiver.replies.append(PlainTextResponse("", 500))

    answer = use(hook(front), lambda hook: hook.check(asked()))

    assert isinstance(answer, Grant)
    assert receiver.bodies[0] == receiver.bodies[1]


def test_a_receiver_that_fails_twice_is_away(front: Front, receiver: StepReceiver) -> None:
    receiver.replies += [PlainTextResponse("", 500), PlainTextResponse("", 503, {"Retry-After": "7"})]

    answer = use(hook(front), lambda hook: hook.check(asked()))

    assert isinstance(answer, Unavailable)
    assert 7 == answer.retry_after_seconds
    assert 2 == len(receiver.bodies)


def test_a_receiver_that_nobody_reaches_is_away() -> None:
    answer = use({**hook(Front("http://127.0.0.1:9"))}, lambda hook: hook.check(asked()))

    assert isinstance(answer, Unavailable)


def test_another_secret_is_answered_401_and_lets_nobody_in(front: Front, receiver: StepReceiver) -> None:
    answer = use(hook(front), lambda hook: hook.check(asked()), secret="b3RoZXI=")

    assert isinstance(answer, Unavailable)
    assert not receiver.bodies


@pytest.mark.parametrize("challenge", [None, ""])
def test_without_a_challenge_nobody_is_asked(front: Front, receiver: StepReceiver, challenge: str | None) -> None:
    answer = use(hook(front), lambda hook: hook.check(asked(challenge)))

    assert Deny(detail="no challenge was presented") == answer
    assert not receiver.bodies


# ---------------------------------------------------------------- telling
def test_a_notifying_webhook_is_to_be_told(front: Front, receiver: StepReceiver) -> None:
    notify = Notify(validator="lab", is_strict=False, patience=timedelta(hours=24))

    granted = use(hook(front, notifying=hook(front)), lambda hook: hook.check(asked()))

    assert isinstance(granted, Grant)
    assert (notify,) == granted.notify
    assert receiver.bodies


def test_a_notice_is_accepted_with_its_id(front: Front, receiver: StepReceiver) -> None:
    options = hook(front, notifying=hook(front, id="other-id", bearer="file:token"))

    receipt = use(options, lambda hook: Checked("lab", hook, lambda *_: None).notify(NOTICE))

    assert Accepted() == receipt
    assert (str(NOTICE.id), "other-id") == (
        receiver.headers[0]["x-request-id"],
        receiver.headers[0]["x-smallstep-webhook-id"],
    )


@pytest.mark.parametrize("status", [400, 401, 404, 500])
def test_a_notice_that_is_not_accepted_is_tried_again(front: Front, receiver: StepReceiver, status: int) -> None:
    receiver.replies += [PlainTextResponse("", status)] * 2

    receipt = use(hook(front, notifying=hook(front)), lambda hook: hook.notify(NOTICE))

    assert isinstance(receipt, Unavailable)
    assert 0 == receipt.retry_after_seconds


def test_a_notice_for_a_webhook_that_is_gone_is_given_up(front: Front) -> None:
    receipt = use(hook(front), lambda hook: hook.notify(NOTICE))

    assert isinstance(receipt, Deny)


# ---------------------------------------------------------------- the configuration
@pytest.mark.parametrize("secret", ["", "no base64!", "==="])
def test_a_secret_that_is_no_base64_stops_the_start(front: Front, secret: str) -> None:
    with pytest.raises(Misconfigured, match="secret: it is"):
        use(hook(front), lambda hook: hook.check(asked()), secret=secret)


def test_two_ways_to_show_who_asks_are_one_too_many(front: Front) -> None:
    with pytest.raises(ValidationError, match="bearer and basic"):
        Options.model_validate(hook(front, bearer="file:token", basic="file:basic"))
