"""`scep-ra transactions` and `scep-ra certs`: an operator finds, reads, decides and revokes; what is wrong is a sentence."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import delete

from ra.bootstrap.journal import opened
from ra.cli.app import run
from ra.journal import outbox, receipts, tables
from ra.journal.audit import list_events
from ra.journal.records import Transaction
from ra.journal.states import State
from ra.journal.tables import transactions
from ra.settings.load import load
from tests.fakes.letters import NOW, a_letter, a_row, store

ONE = UUID("0f8c2a4e-5a0b-4e0f-9d1c-6f0a4b1f7c11")
OTHER = UUID("1f8c2a4e-5a0b-4e0f-9d1c-6f0a4b1f7c11")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("ra") / "var"
    assert 0 == run(["init", str(directory), "--yes", "--ca-key", "ec:p256", "--json"])
    return directory / "ra.toml"


@pytest.fixture
def config(made: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[str]:
    """With an empty journal, and nothing said yet."""
    capsys.readouterr()
    yield str(made)
    asyncio.run(_fill(made))


async def _fill(config: Path, *rows: Transaction) -> None:
    async with opened(load(config)) as (journal, _):
        if not rows:
            await journal.write(lambda c: c.execute(delete(tables.outbox)))
            await journal.write(lambda c: c.execute(delete(transactions)))
        for row in rows:
            await journal.write(lambda c, row=row: store(c, row))  # type: ignore[misc]  # mypy infers no lambda with a default


def fill(config: str, *rows: Transaction) -> None:
    asyncio.run(_fill(Path(config), *rows))


def answered(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """What a command prints as JSON."""
    assert 0 == run([*arguments, "--json"])
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    return value


def complaint(capsys: pytest.CaptureFixture[str], exit_code: int, *arguments: str) -> str:
    assert exit_code == run(list(arguments))
    return capsys.readouterr().err


async def _events(config: str) -> list[dict[str, Any]]:
    async with opened(load(Path(config))) as (journal, _):
        return [each.read() for each in await journal.read(list_events)]


def test_transactions_are_listed_newest_first_and_page_by_page(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    fill(config, *(a_row(created_at=NOW.replace(hour=hour), subject=f"CN={hour}") for hour in range(5)))

    seen: list[str] = []
    following: list[str] = []
    while not seen or following:
        page = answered(capsys, "transactions", "list", "--config", config, "--count", "2", *following)
        seen += [each["subject"] for each in page["transactions"]]
        following = ["--after", page["after"]] if page["after"] else []

    assert ["CN=4", "CN=3", "CN=2", "CN=1", "CN=0"] == seen


@pytest.mark.parametrize(
    "options",
    [
        ["--state", "pending", "--state", "unknown"],
        ["--subject", "PRINTER"],
        ["--profile", "printers"],
        ["--connector", "vault"],
        ["--serial", "A1:B2"],
        ["--transaction-id", "7XXEY"],
        ["--orphans"],
        ["--since", "2026-11-24"],
        ["--since", "2026-11-24T00:00:00+01:00", "--until", "2026-11-26"],
    ],
)
def test_a_list_has_what_was_asked_for(options: list[str], config: str, capsys: pytest.CaptureFixture[str]) -> None:
    meant = a_row(
        State.PENDING,
        subject="CN=printer-17",
        profile="printers",
        connector="vault",
        serial="a1b2",
        transaction_id=b"7XXEY",
        orphans=1,
        created_at=NOW.replace(day=25),
    )
    fill(config, meant, a_row(State.RELEASED))

    listed = answered(capsys, "transactions", "list", "--config", config, *options)["transactions"]

    assert [str(meant.id)] == [each["id"] for each in listed]


def test_a_table_is_for_people_and_a_device_does_not_steer_their_terminal(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(config, *(a_row(State.PENDING, id=each, subject="CN=\x1b[31mred", detail="later") for each in (ONE, OTHER)))

    run(["transactions", "list", "--config", config, "--count", "1"])

    head, row, _, footer = capsys.readouterr().out.splitlines()
    assert ["id", "state", "authorised", "profile", "subject", "detail"] == head.split()
    assert ["1f8c2a4e-5a0b", "pending", "2026-11-23", "12:00:00", "default", "CN=?[31mred", "later"] == row.split()
    assert footer.startswith("The newest 1; those before: --after ")


@pytest.mark.parametrize("name", [str(ONE), "0f8c2a4e", "A1:B2:C3", "7XXEY"])
def test_a_transaction_is_shown_by_whatever_it_is_called(
    name: str, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(config, a_row(State.RELEASED, id=ONE, serial="a1b2c3", transaction_id=b"7XXEY"), a_row())

    shown = answered(capsys, "transactions", "show", name, "--config", config)

    assert (str(ONE), "released", "7XXEY") == (shown["id"], shown["state"], shown["transaction_id"])
    assert {"state", "why", "advice"} == shown["situation"].keys()


def test_what_is_shown_to_a_person_says_what_to_do(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    fill(config, a_row(State.AWAITING_APPROVAL, id=ONE, serial=None, grant_attributes={"team": "\x1b[31m"}))

    run(["transactions", "show", "0f8c2a4e", "--config", config])

    shown = capsys.readouterr().out
    assert f"{ONE}  awaiting-approval\n" in shown
    assert "It waits for a person to say yes or no.\n" in shown
    assert f"`scep-ra transactions approve {ONE}`" in shown
    assert "team=?[31m" in shown
    assert "Serial" not in shown


def test_a_notification_that_was_refused_is_told_once_at_length(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    why = "ChallengeExpired: the challenge was older than 60 minutes when it came to Intune; a new one comes by itself"
    row = a_row(State.ISSUED, id=ONE)
    fill(config, row)

    async def refuse() -> None:
        async with opened(load(Path(config))) as (journal, _):
            await journal.write(lambda c: outbox.put(c, ONE, [a_letter()], NOW))
            (letter,) = await journal.write(lambda c: outbox.claim_of(c, ONE, NOW))
            await journal.write(lambda c: receipts.refused(c, letter, why, NOW))

    asyncio.run(refuse())
    run(["transactions", "show", str(ONE), "--config", config])

    shown = capsys.readouterr().out
    assert f"intune has refused the notification: {why}\n" in shown
    assert 1 == shown.count("older than 60 minutes")
    assert "Given up telling\n  intune: letter" in shown
    assert "after 1 attempt: as above" in shown
    assert "not told" not in shown


def test_a_person_says_yes(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    fill(config, a_row(State.AWAITING_APPROVAL, id=ONE, notify=()))

    approved = answered(capsys, "transactions", "approve", "0f8c2a4e", "--config", config)

    assert "authorised" == approved["state"]
    shown = answered(capsys, "transactions", "show", str(ONE), "--config", config)
    assert ["approved"] == [each["event"] for each in shown["history"][-1:]]
    assert shown["history"][-1]["who"]


def test_a_person_says_no_and_why(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    fill(config, a_row(State.AWAITING_APPROVAL, id=ONE, notify=()))

    denied = answered(capsys, "transactions", "deny", "0f8c2a4e", "--because", "nobody knows it", "--config", config)

    assert ("rejected", "nobody knows it") == (denied["state"], denied["detail"])


def test_certificates_are_listed_but_not_what_has_none(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    fill(config, *(a_row(state) for state in State))

    listed = answered(capsys, "certs", "list", "--config", config)["certificates"]
    revoked = answered(capsys, "certs", "list", "--revoked", "--config", config)["certificates"]

    assert {"issued", "released", "revoking", "revoked"} == {each["state"] for each in listed}
    assert {"revoking", "revoked"} == {each["state"] for each in revoked}


def test_certificates_that_end_soon_are_listed(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    far, near, past = (NOW.replace(year=year) for year in (2999, 2990, 2020))
    fill(config, *(a_row(State.RELEASED, not_after=each, subject=f"CN={each.year}") for each in (far, near, past)))

    listed = answered(capsys, "certs", "list", "--ends-within", "2995-01-01", "--config", config)["certificates"]

    assert ["CN=2990"] == [each["subject"] for each in listed]
    assert [] == answered(capsys, "certs", "list", "--ends-within", "30d", "--config", config)["certificates"]


def test_a_certificate_is_shown_and_printed(config: str, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pem = (made.parent / "ca.pem").read_bytes()
    der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    fill(config, a_row(State.RELEASED, certificate=der, serial="a1b2c3"))

    run(["certs", "show", "a1b2c3", "--config", config])
    text = capsys.readouterr().out
    run(["certs", "show", "a1b2c3", "--pem", "--config", config])
    printed = capsys.readouterr().out

    assert "Issuer         CN=scep-ra CA\n" in text
    assert "SHA-256        " in text
    assert pem.decode() == printed


def test_a_certificate_is_revoked_and_the_audit_says_by_whom(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    fill(config, a_row(State.RELEASED, serial="a1b2c3"))

    revoking = answered(
        capsys, "certs", "revoke", "A1:B2:C3", "--reason", "keyCompromise", "--because", "lost", "--config", config
    )

    assert ("revoking", "keyCompromise", "lost") == tuple(revoking[each] for each in ("state", "revocation", "detail"))
    event = next(each for each in asyncio.run(_events(config)) if each.get("transaction") == revoking["id"])
    assert ("revoking", "lost") == (event["outcome"], event["detail"])
    assert event["who"]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "sentence"),
    [
        (["transactions", "show", "0f8c2a4f"], 1, f"the nearest is {ONE} (CN=device, released)"),
        (["transactions", "show", "nowhere"], 1, "`scep-ra transactions list` shows what there is"),
        (["transactions", "approve", "0f8c2a4e"], 1, "waits for nobody's approval: it is released"),
        (["transactions", "approve", "7XXEY"], 1, "nothing is called '7XXEY'"),
        (["transactions", "deny", "0f8c2a4e"], 2, "Missing option '--because'"),
        (["certs", "revoke", "1f8c2a4e"], 1, "has no certificate that could be revoked: it is pending"),
        (["certs", "revoke", "0f8c2a4e", "--reason", "boredom"], 2, "Invalid value for '--reason'"),
        (["certs", "show", "1f8c2a4e"], 1, "has no certificate: it is pending"),
        (["certs", "show", "0f8c2a4e"], 1, "is damaged in the journal"),
        (["certs", "list", "--ends-within", "soon"], 2, "write a time as 2026-11-23"),
        (["transactions", "list", "--since", "yesterday"], 2, "Invalid value for --since"),
        (["transactions", "list", "--serial", "printer"], 2, "write a serial number in hexadecimal or decimal"),
        (["transactions", "list", "--state", "lost"], 2, "Invalid value for '--state'"),
        (["transactions", "list", "--after", "7"], 1, "'7' is not what the list before has ended with"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    arguments: list[str], exit_code: int, sentence: str, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(
        config, a_row(State.RELEASED, id=ONE, transaction_id=b"7XXEY"), a_row(State.PENDING, id=OTHER, certificate=None)
    )

    assert sentence in complaint(capsys, exit_code, *arguments, "--config", config)
