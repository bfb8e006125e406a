"""`scep-ra audit`: what was changed is found and told, and events are handed on once."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ra.bootstrap.journal import opened
from ra.cli.app import run
from ra.journal import audit
from ra.service.seal import Sealing
from ra.settings.load import load
from tests.fakes.clock import FakeClock


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With two events of one process, sealed by checkpoint 1, and two of another, sealed by checkpoint 2."""
    directory = tmp_path_factory.mktemp("ra") / "var"
    assert 0 == run(["init", str(directory), "--yes", "--ca-key", "ec:p256", "--json"])
    clock = FakeClock()
    for subject in ("CN=one", "CN=two"):
        asyncio.run(_write(directory / "ra.toml", clock, subject))
        clock.advance(timedelta(minutes=1))
    return directory


async def _write(config: Path, clock: FakeClock, subject: str) -> None:
    async with opened(load(config), clock=clock) as (journal, key):
        await journal.write(lambda c: audit.record(c, clock.now(), {"event": "decision", "subject": subject}))
        await Sealing(journal=journal, signer=key.checkpoint_signer, clock=clock, keep_days=0).seal()


class Audit:
    """Runs the commands on a copy of the directory, and says what they print."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self._capsys = capsys

    def run(self, *arguments: str) -> tuple[int, str, str]:
        self._capsys.readouterr()
        exit_code = run(["audit", *arguments, "--config", str(self.directory / "ra.toml")])
        said = self._capsys.readouterr()
        return exit_code, said.out, said.err

    def verify(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        exit_code, out, _ = self.run("verify", *arguments, "--json")
        return exit_code, json.loads(out)

    def subjects(self, *arguments: str) -> set[str]:
        """Of the decisions that are exported; each once."""
        exit_code, out, _ = self.run("export", *arguments)
        assert exit_code == 0
        found = [
            event["subject"] for event in (json.loads(line)["event"] for line in out.splitlines()) if "subject" in event
        ]
        assert len(found) == len(set(found))
        return set(found)

    def sql(self, statement: str) -> None:
        with closing(sqlite3.connect(self.directory / "ra.db")) as connection, connection:
            connection.execute(statement)


@pytest.fixture
def command(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Audit:
    for each in made.rglob("*"):
        if each.is_file():
            copy = tmp_path / each.relative_to(made)
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(each.read_bytes())
            copy.chmod(0o600)
    return Audit(tmp_path, capsys)


def test_an_honest_audit_is_whole(command: Audit) -> None:
    exit_code, said, _ = command.run("verify")

    assert exit_code == 0
    assert said == (
        "6 events in 2 chains, 2 checkpoints: nothing is wrong.\n"
        "Checkpoint 2 of 2026-11-23 12:01:00 UTC seals all before it; 1 event is not sealed yet.\n"
    )


def test_what_was_changed_is_told_and_the_exit_code_says_so(command: Audit) -> None:
    command.sql("UPDATE audit_events SET event = replace(event, 'one', 'six')")

    exit_code, said, _ = command.run("verify")
    exit_code_of_json, value = command.verify()

    assert (1, 1) == (exit_code, exit_code_of_json)
    assert "event 2: it was changed, or another one stood before it\n" in said
    assert "1 thing is wrong" in said
    assert "No checkpoint seals anything for certain" in said
    assert (False, None, 1, 2) == (value["ok"], value["sealed_by"], value["broken"], value["breaks"][0]["number"])


def test_that_the_end_was_cut_off_is_found_with_an_exported_checkpoint(command: Audit) -> None:
    _, exported, _ = command.run("export", "--checkpoints")
    kept = command.directory / "checkpoint.json"
    kept.write_text(exported, "utf-8")
    before = command.verify("--checkpoint", str(kept))
    command.sql("DELETE FROM audit_checkpoints")
    command.sql("DELETE FROM audit_events")

    exit_code, value = command.verify("--checkpoint", str(kept))

    assert (0, True) == (before[0], before[1]["ok"])
    assert (0, True) == (command.verify()[0], command.verify()[1]["ok"])
    assert 1 == exit_code
    assert "it was exported, and the journal ends with 0: the end was cut off" == value["breaks"][0]["what"]


def test_the_public_key_that_was_given_out_is_enough(command: Audit) -> None:
    _, exported, _ = command.run("export", "--checkpoints")
    pem = command.directory / "audit.pem"
    pem.write_text(json.loads(exported)["public_key"], "ascii")
    (command.directory / "journal.key").write_text("c" * 43 + "=\n", "ascii")

    with_the_key_file, _ = command.verify()
    with_the_public_key, _ = command.verify("--public-key", str(pem))

    assert (1, 0) == (with_the_key_file, with_the_public_key)


def test_events_are_a_line_each_and_their_number_is_told_beside(command: Audit) -> None:
    exit_code, out, said = command.run("export", "--json")

    kinds = [json.loads(line)["event"]["event"] for line in out.splitlines()]
    assert exit_code == 0
    assert ["closed", "closed", "decision", "decision", "opened", "opened"] == sorted(kinds)
    assert {"events": 6, "checkpoint": 2} == json.loads(said)


def test_a_time_is_chosen(command: Audit) -> None:
    assert {"CN=one"} == command.subjects("--until", "2026-11-23T13:00:30+01:00")
    assert {"CN=two"} == command.subjects("--since", "2026-11-23T12:00:30", "--until", "2026-11-23T12:02")
    assert set() == command.subjects("--until", "2026-11-23")


def test_what_was_exported_once_is_not_exported_again(command: Audit) -> None:
    assert {"CN=one", "CN=two"} == command.subjects("--after", "0")
    assert {"CN=two"} == command.subjects("--after", "1")
    assert set() == command.subjects("--after", "2")


def test_syslog_is_a_line_each(command: Audit) -> None:
    _, out, said = command.run("export", "--format", "syslog")

    assert 6 == len(out.splitlines())
    assert all(line.startswith("<110>1 ") for line in out.splitlines())
    assert "6 events; the last checkpoint is 2\n" == said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["export", "--after", "3"], "there is no checkpoint 3 yet"),
        (["export", "--after", "1", "--since", "2026-11-23"], "--after goes with neither"),
        (["export", "--since", "noon"], "write a time as"),
        (["export", "--format", "cef"], "Invalid value for '--format'"),
        (["verify", "--checkpoint", "{directory}/ra.toml"], "this is no checkpoint"),
        (["verify", "--public-key", "{directory}/ra.toml"], "this is no Ed25519 public key"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(command: Audit, arguments: list[str], sentence: str) -> None:
    exit_code, out, said = command.run(*(each.format(directory=command.directory) for each in arguments))

    assert (2, "") == (exit_code, out)
    assert sentence in said


@pytest.mark.parametrize("arguments", [["verify"], ["export"]])
def test_without_a_journal_there_is_nothing_to_look_at(command: Audit, arguments: list[str]) -> None:
    (command.directory / "ra.db").unlink()

    exit_code, _, said = command.run(*arguments)

    assert exit_code == 2
    assert "ra.db does not exist" in said


@pytest.mark.parametrize("option", ["--checkpoint", "--public-key"])
def test_a_file_that_is_not_there_is_no_break_of_the_audit(command: Audit, option: str) -> None:
    exit_code, _, said = command.run("verify", option, "nowhere.json")

    assert 2 == exit_code
    assert said.startswith("scep-ra: nowhere.json cannot be read")


def test_without_a_checkpoint_none_is_exported(command: Audit) -> None:
    command.sql("DELETE FROM audit_checkpoints")

    exit_code, out, said = command.run("export", "--checkpoints")

    assert (2, "") == (exit_code, out)
    assert "there is no checkpoint 1 yet" in said
