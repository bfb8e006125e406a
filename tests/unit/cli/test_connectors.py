"""`scep-ra connectors` and `transactions settle`: a stopped CA is seen, and asked again; what is held up is settled."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from ra.bootstrap.journal import opened
from ra.cli.app import run
from ra.journal import stops, strays
from ra.journal.records import NewStray, Transaction
from ra.journal.states import State
from ra.settings.load import load
from tests.fakes.letters import NOW, a_row, store


@pytest.fixture
def config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert 0 == run(["init", str(tmp_path / "var"), "--yes", "--ca-key", "ec:p256", "--json"])
    capsys.readouterr()
    return str(tmp_path / "var" / "ra.toml")


@pytest.fixture
def quarantined(config: str) -> Transaction:
    row = a_row(State.QUARANTINED, connector="lab", notify=())

    def work(connection: Connection) -> None:
        store(connection, row)
        stray = NewStray(certificate=b"\x30\x00", serial=0xA1B2, revoke=False)
        strays.keep(connection, row, stray, "another key", NOW)
        stops.stop(connection, row, "another key", NOW)

    write(config, work)
    return row


def write(config: str, work: Callable[[Connection], None]) -> None:
    async def opening() -> None:
        async with opened(load(Path(config))) as (journal, _):
            await journal.write(work)

    asyncio.run(opening())


def answered(capsys: pytest.CaptureFixture[str], config: str, *arguments: str) -> dict[str, Any]:
    assert 0 == run([*arguments, "--config", config, "--json"])
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    return value


def test_a_stopped_connector_is_listed_with_what_has_to_be_revoked(
    config: str, quarantined: Transaction, capsys: pytest.CaptureFixture[str]
) -> None:
    (lab,) = answered(capsys, config, "connectors", "list")["connectors"]
    assert 0 == run(["connectors", "list", "--config", config])
    told = capsys.readouterr().out

    assert ("lab", "stopped", "another key") == (lab["connector"], lab["state"], lab["because"])
    assert str(quarantined.id) == lab["transaction"]
    assert ["a1b2"] == [each["serial"] for each in lab["to_revoke"]]
    assert "lab        stopped" in told
    assert "a1b2" in told


@pytest.mark.usefixtures("quarantined")
def test_a_connector_is_resumed_once(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    answered(capsys, config, "connectors", "resume", "lab")
    (lab,) = answered(capsys, config, "connectors", "list")["connectors"]

    assert "in use" == lab["state"]
    assert 1 == run(["connectors", "resume", "lab", "--config", config])
    assert "the connector lab is not stopped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "state"), [("retry", "authorised"), ("reject", "rejected"), ("accept", "quarantined")]
)
def test_what_is_quarantined_is_settled(
    word: str, state: str, config: str, quarantined: Transaction, capsys: pytest.CaptureFixture[str]
) -> None:
    one = str(quarantined.id)

    settled = answered(capsys, config, "transactions", "settle", one, f"--{word}", "--because", "mended")
    account = answered(capsys, config, "transactions", "show", one)

    assert state == settled["state"]
    assert [word] == [each["outcome"] for each in account["history"] if each["event"] == "settled"]
    assert ["3000"] == [each["certificate"] for each in account["strays"]]


@pytest.mark.parametrize("words", [[], ["--retry", "--accept"]])
def test_one_word_is_wanted(
    words: list[str], config: str, quarantined: Transaction, capsys: pytest.CaptureFixture[str]
) -> None:
    one = ["transactions", "settle", str(quarantined.id), "--because", "x", "--config", config]

    assert 2 == run([*one, *words])
    assert "say one of --accept, --reject and --retry" in capsys.readouterr().err
