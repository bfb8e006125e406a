"""`scep-ra outbox`: what waits and what is dead is seen, and a person has it tried again."""

from __future__ import annotations

import asyncio
import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection

from ra.bootstrap.clock import SystemClock
from ra.bootstrap.journal import opened
from ra.cli.app import run
from ra.journal import outbox, receipts
from ra.journal.audit import list_events
from ra.policy.grant import Grant, Notify
from ra.service.notices import Notices
from ra.settings.load import load

HOOK = Notify(validator="hook", is_strict=False, patience=timedelta(hours=1))
GRANT = Grant(method="hook", label="device", notify=(HOOK,))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("ra") / "var"
    assert 0 == run(["init", str(directory), "--yes", "--ca-key", "ec:p256", "--json"])
    return directory / "ra.toml"


@pytest.fixture
def config(made: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """With an empty outbox, and nothing said yet."""
    asyncio.run(_empty(made))
    capsys.readouterr()
    return made


async def _empty(config: Path) -> None:
    async with opened(load(config)) as (journal, _):
        now = SystemClock().now()

        def empty(connection: Connection) -> None:
            for each in (*outbox.waiting(connection, 100), *outbox.dead(connection, 100)):
                receipts.accepted(connection, each, now, undelivered_until=None)

        await journal.write(empty)


def put(config: Path, *, dead_of: str | None = None) -> UUID:
    """A letter that waits, or one that has died."""

    async def work() -> UUID:
        async with opened(load(config)) as (journal, key):
            now = SystemClock().now()
            (new,) = Notices(key, os.urandom).refusals(
                GRANT, "default", "7XX", b"\x30\x00", now, reason="KEY_NOT_ALLOWED", detail="1024 bits"
            )
            await journal.write(lambda c: outbox.put(c, None, (new,), now))
            if dead_of is not None:
                (letter,) = await journal.write(lambda c: outbox.claim(c, "hook", now, now + HOOK.patience, 1))
                await journal.write(lambda c: receipts.refused(c, letter, dead_of, now))
            return new.id

    return asyncio.run(work())


def listed(config: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    assert 0 == run(["outbox", "list", "--config", str(config), "--json"])
    letters: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["letters"]
    return letters


def test_an_empty_outbox_is_said_to_be_empty(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exit_code = run(["outbox", "list", "--config", str(config)])

    assert 0 == exit_code
    assert "Nothing waits, and nothing was given up.\n" == capsys.readouterr().out


def test_dead_letters_are_listed_before_those_that_wait(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dead = put(config, dead_of="HTTP 422")
    waiting = put(config)

    letters = listed(config, capsys)

    shown = [(each["id"], each["state"], each["occasion"], each["attempts"], each["detail"]) for each in letters]
    assert [(str(dead), "dead", "failed", 1, "HTTP 422"), (str(waiting), "waiting", "failed", 0, None)] == shown


def test_a_table_is_for_people_and_a_receiver_does_not_steer_their_terminal(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    letter = put(config, dead_of="\x1b[31mno\nid")

    run(["outbox", "list", "--config", str(config)])

    head, row = capsys.readouterr().out.splitlines()
    assert ["id", "state", "validator", "occasion", "transaction", "attempts", "age", "detail"] == head.split()
    assert [str(letter), "dead", "hook", "failed", "-", "1", "0s", "?[31mno?id"] == row.split()


@pytest.mark.parametrize("which", ["its id", "--all"])
def test_a_dead_letter_is_tried_again_and_the_audit_says_who_asked(
    which: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    letter = put(config, dead_of="HTTP 422")

    exit_code = run(["outbox", "retry", which if which == "--all" else str(letter), "--config", str(config)])

    assert 0 == exit_code
    assert "1 letter is tried again.\n" == capsys.readouterr().out
    assert ["waiting"] == [each["state"] for each in listed(config, capsys)]
    retried = asyncio.run(events(config))[-1]
    assert ("outbox-retried", str(letter), "hook") == tuple(retried[key] for key in ("event", "letter", "validator"))
    assert retried["who"]


async def events(config: Path) -> list[dict[str, Any]]:
    async with opened(load(config)) as (journal, _):
        found = [each.read() for each in await journal.read(list_events)]
    return [each for each in found if each["event"] == "outbox-retried"]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "sentence"),
    [
        (["b5a4d1f6-93f4-4a55-8c9d-2d61f5ce8f0a"], 1, "is not a dead letter"),
        (["seven"], 2, "'seven' is not the id of a letter"),
        ([], 2, "name one letter, or --all"),
        (["b5a4d1f6-93f4-4a55-8c9d-2d61f5ce8f0a", "--all"], 2, "name one letter, or --all"),
    ],
)
def test_what_cannot_be_retried_is_said_in_a_sentence(
    arguments: list[str], exit_code: int, sentence: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["outbox", "retry", *arguments, "--config", str(config)])

    assert exit_code == code
    assert sentence in capsys.readouterr().err
