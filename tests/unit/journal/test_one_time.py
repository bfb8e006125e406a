from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection

from ra.journal.events import undocumented
from ra.journal.one_time import SecretState, Selection, list_secrets, look_up, mint, mint_within, revoke, state_of
from ra.journal.records import OneTimeSecret
from ra.journal.settle import settle_rejected
from ra.policy.grant import Spend
from tests.fakes.enrolments import NOW, a_transaction, an_identity, audited, digest, submitting

HOUR = timedelta(hours=1)
LATER = NOW + 2 * HOUR


def a_secret(label: str = "printer", **changes: Any) -> OneTimeSecret:
    secret = OneTimeSecret(
        key=digest(label),
        method="once",
        label=label,
        profile="default",
        names=("CN=printer", "dns:printer.example.org"),
        created_at=NOW,
        expires_at=NOW + HOUR,
    )
    return replace(secret, **changes)


def minted(connection: Connection, *secrets: OneTimeSecret) -> None:
    mint(connection, secrets or (a_secret(),), "ada")


def events(connection: Connection) -> list[dict[str, Any]]:
    return [event for _, event in audited(connection)]


def spent(connection: Connection, secret: OneTimeSecret) -> OneTimeSecret:
    """As it is found once a transaction has spent it."""
    new = a_transaction(an_identity(csr_key=digest("its key")), spend=Spend(key=secret.key, expires_at=LATER))
    submitting(connection, new)
    return replace(secret, spent_by=new.id, spent_key=digest("its key"))


@pytest.mark.parametrize("names", [None, ("CN=printer",)])
@pytest.mark.parametrize("profile", [None, "default"])
def test_what_was_minted_is_found_by_its_key(
    connection: Connection, names: tuple[str, ...] | None, profile: str | None
) -> None:
    secret = a_secret(names=names, profile=profile)
    minted(connection, secret, a_secret("other"))

    found = look_up(connection, secret.key)

    assert secret == found


def test_what_was_not_minted_is_not_found(connection: Connection) -> None:
    minted(connection)

    found = look_up(connection, digest("anything"))

    assert found is None


def test_minting_is_audited_and_names_no_secret(connection: Connection) -> None:
    minted(connection)

    event = {"event": "secret-minted", "method": "once", "label": "printer", "who": "ada", "profile": "default"}
    bounds = {"names": "CN=printer, dns:printer.example.org", "expires_at": "2026-11-23T13:00:00.000000Z"}
    assert [event | bounds] == events(connection)
    assert [] == [fault for each in events(connection) for fault in undocumented(each)]


def test_a_spent_secret_tells_by_whom_and_for_which_key(connection: Connection) -> None:
    secret = a_secret()
    minted(connection, secret)

    expected = spent(connection, secret)

    assert expected == look_up(connection, secret.key)
    assert state_of(expected, LATER) is SecretState.SPENT


def test_a_secret_that_is_given_back_is_as_it_was(connection: Connection) -> None:
    secret = a_secret()
    minted(connection, secret)
    transaction = submitting(connection, a_transaction(spend=Spend(key=secret.key, expires_at=LATER)))

    settle_rejected(connection, transaction, "OTHER", "the CA says no", NOW)

    assert secret == look_up(connection, secret.key)


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, SecretState.UNUSED),
        ({"expires_at": NOW}, SecretState.UNUSED),
        ({"expires_at": NOW - HOUR}, SecretState.EXPIRED),
        ({"revoked_at": NOW}, SecretState.REVOKED),
        ({"revoked_at": NOW, "expires_at": NOW - HOUR}, SecretState.REVOKED),
    ],
)
def test_a_secret_is_in_one_state(changes: dict[str, Any], state: SecretState) -> None:
    assert state is state_of(a_secret(**changes), NOW)


def test_secrets_are_listed_newest_first_and_no_more_than_wanted(connection: Connection) -> None:
    minted(connection, *(a_secret(f"secret {age}", created_at=NOW - age * HOUR) for age in (2, 0, 1)))

    listed = list_secrets(connection, Selection(), 2)

    assert ["secret 0", "secret 1"] == [each.label for each in listed]


@pytest.mark.parametrize(
    "which", [Selection(label="wanted"), Selection(method="wanted"), Selection(profile="wanted"), Selection()]
)
def test_secrets_are_selected_by_what_holds_for_them(connection: Connection, which: Selection) -> None:
    other = a_secret("other")
    wanted = a_secret("wanted", method="wanted", profile="wanted")
    minted(connection, wanted, other)

    listed = list_secrets(connection, which, 10)

    assert (other in listed) is (which == Selection())
    assert wanted in listed


def test_revoking_marks_those_that_are_meant_and_is_audited(connection: Connection) -> None:
    printer, other = a_secret(), a_secret("other")
    minted(connection, printer, other)

    revoked = revoke(connection, Selection(label="printer"), "ada", NOW)

    assert (printer,) == revoked
    assert replace(printer, revoked_at=NOW) == look_up(connection, printer.key)
    assert other == look_up(connection, other.key)
    assert {"event": "secret-revoked", "method": "once", "label": "printer", "who": "ada"} == events(connection)[-1]
    assert [] == undocumented(events(connection)[-1])


def test_revoking_again_changes_nothing(connection: Connection) -> None:
    minted(connection)
    revoke(connection, Selection(), "ada", NOW)

    revoked = revoke(connection, Selection(), "ada", NOW + HOUR / 2)

    assert () == revoked
    assert ["secret-minted", "secret-revoked"] == [each["event"] for each in events(connection)]


def test_what_has_expired_is_not_revoked(connection: Connection) -> None:
    minted(connection, a_secret(expires_at=NOW - HOUR))

    revoked = revoke(connection, Selection(), "ada", NOW)

    assert () == revoked


def test_a_spent_secret_that_is_revoked_does_not_come_back_to_life(connection: Connection) -> None:
    secret = a_secret()
    minted(connection, secret)
    transaction = submitting(connection, a_transaction(spend=Spend(key=secret.key, expires_at=LATER)))
    revoke(connection, Selection(), "ada", NOW)

    settle_rejected(connection, transaction, "OTHER", "the CA says no", NOW)

    found = look_up(connection, secret.key)
    assert found is not None
    assert state_of(found, NOW) is SecretState.REVOKED


def test_no_more_are_minted_than_may_be_unused_at_a_time(connection: Connection) -> None:
    def another(key: str, **changes: Any) -> bool:
        return mint_within(connection, a_secret(**changes | {"key": digest(key)}), "ada", limit=2)

    first, second, third = another("1"), another("2"), another("3")
    of_another_label, of_another_method = another("4", label="scanner"), another("5", method="other")

    assert [True, True, False] == [first, second, third]
    assert [True, True] == [of_another_label, of_another_method]


@pytest.mark.parametrize("over", ["spent", "revoked", "expired"])
def test_what_can_no_longer_be_used_leaves_room(connection: Connection, over: str) -> None:
    secret = a_secret()
    minted(connection, secret)
    if over == "spent":
        spent(connection, secret)
    if over == "revoked":
        revoke(connection, Selection(label="printer"), "ada", NOW)
    now = LATER if over == "expired" else NOW

    is_minted = mint_within(connection, a_secret(key=digest("another"), created_at=now), "ada", limit=1)

    assert is_minted
