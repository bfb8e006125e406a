"""Turning one challenge on never weakens another: for each pair, together they let in no more than either does alone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import ClassVar

import pytest

from ra.challenge.api import Attempt, Deny, Unavailable, Verdict
from ra.challenge.combine import AllOf, AnyOf, Checked, FirstMatch, insist_on_secrets
from ra.errors import Misconfigured
from ra.policy.grant import Grant
from tests.contract.test_challenges import ASK_SECRETS, KINDS, AnySecrets, connected
from tests.fakes.challenges import FakeValidator, attempt

GRANT = Grant(method="other", label="other")
PAIRS = list(product(KINDS, KINDS))
VERDICTS: dict[str, Verdict] = {
    "grants": GRANT,
    "denies": Deny(detail="no"),
    "is away": Unavailable(detail="away"),
}


@cache
def alone(kind: str, challenge: str | None) -> Verdict:
    """What a validator says by itself: asked once, as some of them try again to reach somebody who is not there."""
    validator = connected(kind, AnySecrets())

    async def ask() -> Verdict:
        try:
            return await validator.check(attempt(challenge))
        finally:
            await validator.aclose()

    return asyncio.run(ask())


def checked(name: str, kind: str, challenge: str | None = "wrong") -> Checked:
    """One that says the same, without asking again."""
    said = FakeValidator(alone(kind, challenge))
    return Checked(name, said if kind in ASK_SECRETS else Open(said), lambda *_: None)


@dataclass
class Open:
    """One that knows no secret."""

    validator: FakeValidator
    knows_secrets: ClassVar[bool] = False

    async def check(self, attempt: Attempt) -> Verdict:
        return await self.validator.check(attempt)

    async def aclose(self) -> None:
        """Nothing is held open."""


def other(verdict: Verdict) -> Checked:
    return Checked("other", FakeValidator(verdict), lambda *_: None)


def lets_in(combination: AllOf | AnyOf | FirstMatch, challenge: str | None) -> bool:
    answer = asyncio.run(combination.check(attempt(challenge)))
    return isinstance(answer, Grant) and not answer.needs_approval


@pytest.mark.parametrize("challenge", [None, "", "wrong"])
@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_pair_lets_nobody_in_without_a_challenge(first: str, second: str, challenge: str | None) -> None:
    """Whatever the two are, and however they are combined, as long as the configuration allows it."""
    members = (checked("first", first, challenge), checked("second", second, challenge))
    combinations: list[AllOf | AnyOf | FirstMatch] = [AllOf(members)]
    if first in ASK_SECRETS and second in ASK_SECRETS:
        combinations += [AnyOf(members), FirstMatch(members)]

    assert not [each for each in combinations if lets_in(each, challenge)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verdict", [each for each in VERDICTS if each != "grants"])
def test_beside_any_other_what_does_not_grant_keeps_its_no(kind: str, verdict: str) -> None:
    members = (checked("first", kind), other(VERDICTS[verdict]))

    assert not lets_in(AllOf(members), "wrong")
    assert not lets_in(AllOf(members[::-1]), "wrong")


@pytest.mark.parametrize("kind", ASK_SECRETS)
def test_what_one_grants_does_not_stand_for_a_second_that_is_needed_too(kind: str) -> None:
    assert not lets_in(AllOf((other(GRANT), checked("second", kind))), "wrong")


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_pair_of_which_one_knows_no_secret_is_allowed_where_both_are_needed_alone(first: str, second: str) -> None:
    members = (checked("first", first), checked("second", second))
    secrets = [kind in ASK_SECRETS for kind in (first, second)]

    allowed = {needed: is_allowed(members, all_needed=needed) for needed in (True, False)}

    assert {True: any(secrets), False: all(secrets)} == allowed


def is_allowed(members: tuple[Checked, ...], *, all_needed: bool) -> bool:
    try:
        insist_on_secrets(members, all_needed=all_needed)
    except Misconfigured:
        return False
    return True


def test_a_person_s_yes_is_needed_whatever_else_grants() -> None:
    members = (other(GRANT), checked("person", "approval"))

    answer = asyncio.run(AllOf(members).check(attempt("right")))

    assert isinstance(answer, Grant)
    assert answer.needs_approval
    assert "other+person" == answer.method


@pytest.mark.parametrize("kind", ["directory", "inventory", "webhook"])
def test_what_can_change_its_mind_is_asked_about_renewals_too(kind: str) -> None:
    assert getattr(connected(kind, AnySecrets()), "demands_challenge_on_renewal", False)


def test_two_secrets_are_never_spent_by_one_request() -> None:
    """`replace` changes the name alone: both have a secret to spend."""
    spending = connected("otp", AnySecrets())
    one = Checked("lab", spending, lambda *_: None)
    members = (one, replace(one, name="again"))

    answer = asyncio.run(AllOf(members).check(attempt(AnySecrets().given["one-time"])))

    assert isinstance(answer, Deny)
