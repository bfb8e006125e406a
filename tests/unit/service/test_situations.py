"""Whatever the state, an operator is told where it stands, why, and what is to be done."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from ra.journal.events import EVENTS
from ra.journal.outbox import Letter
from ra.journal.records import Transaction
from ra.journal.states import State
from ra.service.situations import situation_of, told, when
from tests.fakes.letters import NOW, a_row

SOON = NOW + timedelta(minutes=5)


def a_letter(**changes: Any) -> Letter:
    letter = Letter(
        id=UUID(int=1),
        transaction=UUID(int=2),
        validator="intune",
        is_strict=True,
        notice=b"",
        created_at=NOW,
        deadline_at=SOON,
        due_at=SOON,
        attempts=3,
        detail="HTTP 503",
    )
    return replace(letter, **changes)


def everything(row: Transaction, *letters: Letter) -> str:
    said = situation_of(row, letters, NOW)
    return f"{said.state} | {said.why} | {said.advice}"


@pytest.mark.parametrize("state", State)
def test_every_state_has_sentences(state: State) -> None:
    said = situation_of(a_row(state, due_at=SOON), (), NOW)

    assert said.state.endswith(".")
    assert said.advice.endswith(".")
    assert "None" not in f"{said.state}{said.advice}"


@pytest.mark.parametrize(
    ("state", "changes", "sentence"),
    [
        (State.AUTHORISED, {"detail": "AuthFailed: 403"}, "The last attempt came to nothing: AuthFailed: 403"),
        (State.AUTHORISED, {}, "Nothing was sent yet."),
        (State.AWAITING_APPROVAL, {"grant_label": "kiosk"}, "intune (kiosk) lets it in once somebody has approved it."),
        (State.AWAITING_APPROVAL, {}, f"`scep-ra transactions approve {UUID(int=7)}`"),
        (State.PENDING, {"reference": "4711"}, "There it is called 4711."),
        (State.UNKNOWN, {"detail": "TimeoutError: "}, "`on_unknown` of [connectors.lab]"),
        (State.RELEASED, {"delivered_at": NOW}, "The device has its certificate since 2026-11-23 12:00:00 UTC"),
        (State.RELEASED, {"due_at": SOON}, "Unless it is fetched until 2026-11-23 12:05:00 UTC (in 5 minutes), it is"),
        (State.RELEASED, {"not_after": NOW}, "The certificate has expired."),
        (State.REJECTED, {"reason": "policy", "detail": "too long"}, "The CA `lab` refused it. | policy: too long"),
        (State.REJECTED, {"reason": None, "detail": "no"}, "A person said no. | no |"),
        (State.EXPIRED, {"due_at": SOON}, "The order is still open at the CA `lab`, which is asked 2026-11-23 12:05"),
        (State.REVOKING, {"revocation": "superseded", "detail": "HTTP 500"}, "superseded: HTTP 500"),
        (State.REVOKING, {"serial": "a1b2"}, "revoke serial number a1b2 there"),
        (State.QUARANTINED, {"detail": "another key"}, "another key"),
        (State.PENDING, {"orphans": 2}, "It was sent again 2 times without knowing what had become of the time before"),
        (State.UNKNOWN, {"orphans": 1}, "It was sent again once without"),
        (State.PENDING, {"due_at": NOW - timedelta(minutes=2)}, "is `scep-ra serve` running?"),
    ],
)
def test_what_is_special_about_it_is_said(state: State, changes: dict[str, Any], sentence: str) -> None:
    row = a_row(state, id=UUID(int=7), due_at=None)

    assert sentence in everything(replace(row, **changes))


def test_an_expired_one_without_an_order_says_nothing_of_one() -> None:
    assert "order" not in everything(a_row(State.EXPIRED, due_at=None))


def test_what_is_due_now_is_not_yet_overdue() -> None:
    assert "serve" not in everything(a_row(State.PENDING, due_at=NOW))


def test_a_certificate_that_waits_says_for_whom() -> None:
    said = everything(a_row(State.ISSUED), a_letter(), a_letter(validator="hook", is_strict=False))

    assert "intune has not accepted the notification (tried 3 times): HTTP 503" in said
    assert "hook" not in said


@pytest.mark.parametrize(("is_strict", "is_told"), [(False, True), (True, False)])
def test_a_letter_that_was_given_up_is_mentioned_where_it_can_be_sent_again(is_strict: bool, is_told: bool) -> None:
    said = everything(a_row(State.RELEASED), a_letter(is_strict=is_strict, due_at=None))

    assert is_told == ("A notification was given up" in said)


@pytest.mark.parametrize(
    ("time", "sentence"),
    [
        (NOW, "2026-11-23 12:00:00 UTC (0 seconds ago)"),
        (NOW + timedelta(seconds=1), "2026-11-23 12:00:01 UTC (in 1 second)"),
        (NOW - timedelta(hours=47), "2026-11-21 13:00:00 UTC (1 day ago)"),
        (NOW + timedelta(minutes=119), "2026-11-23 13:59:00 UTC (in 1 hour)"),
    ],
)
def test_a_time_says_how_far_away_it_is(time: datetime, sentence: str) -> None:
    assert sentence == when(time, NOW)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            {"event": "decision", "outcome": "authorised", "grant_method": "otp", "subject": "CN=a"},
            "authorised: otp let in CN=a",
        ),
        (
            {"event": "outcome", "outcome": "revoking", "revocation": "superseded", "who": "ada", "detail": "lost"},
            "revoking by ada: superseded: lost",
        ),
        ({"event": "outcome", "outcome": "released", "reason": None, "detail": None}, "released"),
        ({"event": "denied", "who": "ada", "detail": "no"}, "denied by ada: no"),
        ({"event": "notified", "validator": "hook", "outcome": "dead", "detail": "422"}, "hook was told: dead: 422"),
        ({"event": "outcome"}, "?"),
        ({"event": "something-new", "detail": "{who}"}, "something-new: {who}"),
        ({}, "?"),
    ],
)
def test_an_event_is_told_in_a_line(event: dict[str, Any], line: str) -> None:
    assert line == told(event)


@pytest.mark.parametrize("kind", [name for name, kind in EVENTS.items() if "transaction" in kind.fields])
def test_every_kind_of_event_that_names_a_transaction_has_a_line(kind: str) -> None:
    line = told({"event": kind, **EVENTS[kind].example})

    assert "?" not in line
    assert kind == "outcome" or not line.startswith("outbox-")
