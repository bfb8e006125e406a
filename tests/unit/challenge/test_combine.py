from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from typing import cast
from uuid import UUID

import pytest

from ra.challenge.api import Accepted, Deny, Receipt, Unavailable, Validator, Verdict, demands_challenge_on_renewal
from ra.challenge.combine import AllOf, AnyOf, Checked, FirstMatch
from ra.errors import Misconfigured
from ra.journal.records import Notice, Occasion
from ra.policy.grant import Grant, Notify, Spend
from tests.fakes.challenges import NOW, FakeValidator, attempt

COMBINATIONS: dict[str, Callable[[tuple[Checked, ...]], Validator]] = {
    "all_of": AllOf,
    "any_of": AnyOf,
    "first_match": FirstMatch,
}
YES, YES_TOO = Grant(method="", label="yes"), Grant(method="", label="yes too")
NO, NO_TOO = Deny(detail="no"), Deny(detail="no too")
AWAY, AWAY_LONGER = (
    Unavailable(detail="away", retry_after_seconds=10),
    Unavailable(detail="away", retry_after_seconds=60),
)
FAULT = RuntimeError("the secret is 12345678")
TELL_ME = Grant(method="", label="yes", notify=(Notify(validator="me", is_strict=True, patience=timedelta(hours=1)),))
NOTICE = Notice(
    id=UUID(int=1),
    occasion=Occasion.ISSUED,
    profile="default",
    transaction=None,
    transaction_id="7XX",
    attributes={},
    csr=b"",
)


class Log:
    def __init__(self) -> None:
        self.entries: list[tuple[str, Exception]] = []

    def __call__(self, name: str, error: Exception) -> None:
        self.entries.append((name, error))


class Told(FakeValidator):
    """A validator that takes notices; `receipt` is returned, or raised."""

    def __init__(self, answer: Verdict, receipt: object) -> None:
        super().__init__(answer)
        self.receipt = receipt

    async def notify(self, notice: Notice) -> Receipt:
        assert notice is NOTICE
        if isinstance(self.receipt, Exception):
            raise self.receipt
        return cast("Receipt", self.receipt)


def told(receipt: object, log: Log | None = None) -> Receipt:
    return asyncio.run(Checked("shared", Told(NO, receipt), log or Log()).notify(NOTICE))


def checked(answer: Verdict | Exception, name: str = "one", log: Log | None = None) -> Checked:
    return Checked(name, FakeValidator(answer), log or Log())


def ask(validator: Validator) -> Verdict:
    return asyncio.run(validator.check(attempt("a challenge")))


def combined(kind: str, *answers: Verdict | Exception) -> Verdict:
    members = tuple(checked(answer, name) for name, answer in zip("abcdef", answers, strict=False))
    return ask(COMBINATIONS[kind](members))


def told_of_a_refusal(*answers: Verdict) -> tuple[str, ...]:
    """Who is to hear that somebody else has refused what he had let in."""
    members = tuple(
        Checked(name, Told(answer, Accepted()), Log()) for name, answer in zip("abc", answers, strict=False)
    )
    verdict = ask(AllOf(members))
    assert isinstance(verdict, Deny)
    return tuple(each.validator for each in verdict.granted.notify) if verdict.granted else ()


@pytest.mark.parametrize(
    ("answers", "names"),
    [
        ((TELL_ME, NO), ("a",)),
        ((YES, TELL_ME, NO), ("b",)),
        ((TELL_ME, TELL_ME, NO), ("a", "b")),
        ((NO, TELL_ME), ()),
        ((YES, NO), ()),
        ((replace(TELL_ME, attributes={"serial": "1"}), replace(YES, attributes={"serial": "2"})), ("a",)),
    ],
)
def test_who_had_let_a_request_in_is_told_that_another_refused_it(
    answers: tuple[Verdict, ...], names: tuple[str, ...]
) -> None:
    assert names == told_of_a_refusal(*answers)


# ---------------------------------------------------------------- the guard


def test_a_grant_bears_the_name_of_its_validator_whatever_it_says_itself() -> None:
    forged = Grant(method="renewal", label="yes", attributes={"serial": "7"})

    verdict = ask(checked(forged, "shared"))

    assert Grant(method="shared", label="yes", attributes={"serial": "7"}) == verdict


@pytest.mark.parametrize("answer", [NO, AWAY])
def test_the_guard_lets_any_other_verdict_through(answer: Verdict) -> None:
    verdict = ask(checked(answer))

    assert answer == verdict


def test_an_exception_is_unavailable_and_logged_and_its_text_stays_out_of_the_verdict() -> None:
    log = Log()

    verdict = ask(checked(FAULT, "shared", log))

    assert Unavailable(detail="shared: RuntimeError") == verdict
    assert [("shared", FAULT)] == log.entries


@pytest.mark.parametrize("answer", [None, True, "granted", object(), Grant])
def test_what_is_no_verdict_is_unavailable(answer: object) -> None:
    verdict = ask(checked(cast("Verdict", answer), "shared"))

    assert Unavailable(detail="shared: TypeError") == verdict


def test_a_grant_that_wants_to_be_told_names_its_own_validator() -> None:
    verdict = ask(Checked("shared", Told(TELL_ME, Accepted()), Log()))

    assert isinstance(verdict, Grant)
    assert ["shared"] == [each.validator for each in verdict.notify]


def test_a_grant_that_wants_to_be_told_is_void_where_the_validator_takes_no_notices() -> None:
    verdict = ask(checked(TELL_ME, "shared"))

    assert Unavailable(detail="shared: TypeError") == verdict


@pytest.mark.parametrize("receipt", [Accepted(), NO, AWAY])
def test_the_guard_lets_a_receipt_through(receipt: Receipt) -> None:
    assert receipt == told(receipt)


def test_a_notice_that_raises_is_tried_again_and_logged_and_the_text_stays_out_of_it() -> None:
    log = Log()

    receipt = told(FAULT, log)

    assert Unavailable(detail="shared: RuntimeError", retry_after_seconds=0) == receipt
    assert [("shared", FAULT)] == log.entries


@pytest.mark.parametrize("receipt", [None, True, "accepted", Accepted, YES])
def test_what_is_no_receipt_is_not_accepted(receipt: object) -> None:
    assert Unavailable(detail="shared: TypeError", retry_after_seconds=0) == told(receipt)


def test_a_validator_that_takes_no_notices_is_told_nothing() -> None:
    plain = checked(YES, "shared")

    receipt = asyncio.run(plain.notify(NOTICE))

    assert not plain.takes_notices
    assert Unavailable(detail="shared: TypeError", retry_after_seconds=0) == receipt


@pytest.mark.parametrize("name", ["none", "renewal"])
def test_a_name_that_means_something_else_is_refused(name: str) -> None:
    with pytest.raises(Misconfigured, match="the word has a meaning of its own"):
        checked(YES, name)


def test_closing_closes_the_validator_and_outlives_its_fault() -> None:
    log = Log()
    sound, broken = FakeValidator(NO), FakeValidator(FAULT)

    asyncio.run(Checked("sound", sound, log).aclose())
    asyncio.run(Checked("broken", broken, log).aclose())

    assert sound.closed
    assert broken.closed
    assert [("broken", FAULT)] == log.entries


# ---------------------------------------------------------------- the table


@pytest.mark.parametrize(
    ("answers", "all_of", "any_of", "first_match"),
    [
        ((YES,), Grant, Grant, Grant),
        ((NO,), Deny, Deny, Deny),
        ((AWAY,), Unavailable, Unavailable, Unavailable),
        ((FAULT,), Unavailable, Unavailable, Unavailable),
        ((YES, YES_TOO), Grant, Grant, Grant),
        ((YES, NO), Deny, Grant, Grant),
        ((NO, YES), Deny, Grant, Grant),
        ((YES, AWAY), Unavailable, Grant, Grant),
        ((AWAY, YES), Unavailable, Grant, Unavailable),
        ((FAULT, YES), Unavailable, Grant, Unavailable),
        ((YES, FAULT), Unavailable, Grant, Grant),
        ((NO, AWAY), Deny, Unavailable, Unavailable),
        ((AWAY, NO), Deny, Unavailable, Unavailable),
        ((FAULT, NO), Deny, Unavailable, Unavailable),
        ((NO, NO_TOO), Deny, Deny, Deny),
        ((AWAY, FAULT), Unavailable, Unavailable, Unavailable),
        ((NO, AWAY, YES), Deny, Grant, Unavailable),
        ((NO, YES, AWAY), Deny, Grant, Grant),
        ((AWAY, YES, NO), Deny, Grant, Unavailable),
    ],
)
def test_the_table_of_the_module_holds(
    answers: tuple[Verdict | Exception, ...], all_of: type, any_of: type, first_match: type
) -> None:
    verdicts = [type(combined(kind, *answers)) for kind in ("all_of", "any_of", "first_match")]

    assert [all_of, any_of, first_match] == verdicts


@pytest.mark.parametrize("kind", COMBINATIONS)
@pytest.mark.parametrize("answers", list(permutations([NO, AWAY, FAULT])))
def test_no_combination_grants_where_no_member_does(kind: str, answers: tuple[Verdict | Exception, ...]) -> None:
    verdict = combined(kind, *answers)

    assert not isinstance(verdict, Grant)


@pytest.mark.parametrize("kind", COMBINATIONS)
def test_a_combination_of_none_stops_the_start(kind: str) -> None:
    with pytest.raises(Misconfigured, match="a combination of challenges needs at least one"):
        COMBINATIONS[kind](())


@pytest.mark.parametrize(
    ("kind", "first"), [("all_of", NO), ("any_of", YES), ("first_match", YES), ("first_match", AWAY)]
)
def test_nobody_is_asked_once_the_verdict_is_certain(kind: str, first: Verdict) -> None:
    second = FakeValidator(YES)

    ask(COMBINATIONS[kind]((checked(first), Checked("second", second, Log()))))

    assert 0 == second.asked


@pytest.mark.parametrize("kind", COMBINATIONS)
def test_closing_a_combination_leaves_its_members_to_whoever_connected_them(kind: str) -> None:
    member = FakeValidator(YES)

    asyncio.run(COMBINATIONS[kind]((Checked("one", member, Log()),)).aclose())

    assert not member.closed


# ---------------------------------------------------------------- what is made of several


def test_all_of_merges_what_the_grants_say() -> None:
    spend = Spend(key=b"key", expires_at=NOW + timedelta(hours=1))
    first = Grant(method="", label="x", attributes={"serial": "7", "team": "blue"}, spend=spend)
    second = Grant(method="", label="y", attributes={"serial": "7", "owner": "ann"})

    verdict = combined("all_of", first, second)

    attributes = {"serial": "7", "team": "blue", "owner": "ann"}
    assert Grant(method="a+b", label="x+y", attributes=attributes, spend=spend) == verdict


def test_all_of_tells_everybody_who_wants_to_know_and_has_a_person_approve_where_one_says_so() -> None:
    members = (
        Checked("a", Told(TELL_ME, Accepted()), Log()),
        Checked("b", Told(replace(TELL_ME, needs_approval=True), Accepted()), Log()),
    )

    verdict = ask(AllOf(members))

    assert isinstance(verdict, Grant)
    assert ["a", "b"] == [each.validator for each in verdict.notify]
    assert verdict.needs_approval


def test_all_of_grants_the_shortest_validity_that_is_wanted() -> None:
    weeks = [Grant(method="", label="x", validity=each) for each in (timedelta(weeks=3), None, timedelta(weeks=2))]

    verdict = combined("all_of", *weeks)

    assert isinstance(verdict, Grant)
    assert timedelta(weeks=2) == verdict.validity


def test_all_of_denies_where_the_validators_disagree_about_the_device() -> None:
    first = Grant(method="", label="x", attributes={"serial": "7"})
    second = Grant(method="", label="y", attributes={"serial": "8"})

    verdict = combined("all_of", first, second)

    assert Deny(detail="the validators disagree on 'serial'") == verdict


def test_all_of_keeps_the_sid_that_one_has_found_and_denies_two() -> None:
    found, other = replace(YES, sid="S-1-5-21-1"), replace(YES, sid="S-1-5-21-2")

    kept, same, denied = (combined("all_of", found, each) for each in (YES, found, other))

    assert ["S-1-5-21-1", "S-1-5-21-1"] == [each.sid for each in (kept, same) if isinstance(each, Grant)]
    assert Deny(detail="the validators disagree on the SID") == denied


def test_all_of_denies_where_more_than_one_secret_is_to_be_spent() -> None:
    grant = Grant(method="", label="x", spend=Spend(key=b"key", expires_at=NOW))

    verdict = combined("all_of", grant, grant)

    assert Deny(detail="more than one validator has a one-time secret to spend") == verdict


@pytest.mark.parametrize("kind", ["any_of", "first_match"])
def test_of_several_the_first_grant_counts(kind: str) -> None:
    verdict = combined(kind, NO, YES_TOO, YES)

    assert Grant(method="b", label="yes too") == verdict


@pytest.mark.parametrize("kind", ["any_of", "first_match"])
def test_what_all_deny_is_denied_for_all_their_reasons_with_the_alarm_of_any(kind: str) -> None:
    verdict = combined(kind, NO, Deny(detail="reused", alarm=True))

    assert Deny(detail="no; reused", alarm=True) == verdict


@pytest.mark.parametrize(("kind", "seconds"), [("all_of", 60), ("any_of", 10)])
def test_the_device_comes_back_when_it_may_get_another_verdict(kind: str, seconds: int) -> None:
    verdict = combined(kind, AWAY, AWAY_LONGER)

    assert Unavailable(detail="away; away", retry_after_seconds=seconds) == verdict


# ---------------------------------------------------------------- renewal


class Strict(FakeValidator):
    """A validator that is asked at renewal too."""

    @property
    def demands_challenge_on_renewal(self) -> bool:
        return True


@pytest.mark.parametrize("kind", COMBINATIONS)
def test_a_combination_is_asked_at_renewal_where_one_of_its_members_is(kind: str) -> None:
    strict = Checked("intune", Strict(NO), Log())

    assert not demands_challenge_on_renewal(checked(YES))
    assert not demands_challenge_on_renewal(COMBINATIONS[kind]((checked(YES), checked(YES))))
    assert demands_challenge_on_renewal(strict)
    assert demands_challenge_on_renewal(COMBINATIONS[kind]((checked(YES), strict)))
