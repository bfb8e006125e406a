"""`scep-ra db`, `backup` and `restore`: what they do, and what they say."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ra.cli.app import run
from ra.cli.init import Plan, write
from ra.journal.database import place_of
from ra.journal.migrations import HEAD
from ra.journal.migrations.versions import r0001
from tests.fakes.notes import NOWHERE, note, opened, words
from tests.fakes.postgres import Cluster


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory as init writes it."""
    directory = tmp_path_factory.mktemp("db") / "var"
    plan = Plan(
        directory=directory,
        ca_name="lab",
        ca_key="ec:p256",
        ra_key="rsa:2048",
        listen="127.0.0.1:8080",
        admin_listen="127.0.0.1:8081",
        public_url="http://127.0.0.1:8080",
        workers=1,
        legacy=(),
    )
    write(plan)
    return directory


@pytest.fixture
def config(made: Path, tmp_path: Path) -> Path:
    """Where a journal holds one word."""
    path = shutil.copytree(made, tmp_path / "var") / "ra.toml"
    with place_of(url_of(path), directory=NOWHERE).alone() as connection:
        note(connection, "kept")
    return path


def url_of(config: Path) -> str:
    return f"sqlite:///{config.parent}/ra.db"


def ask(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Any:
    """What a command prints as JSON."""
    assert run([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The sentence of a command that was used or configured wrongly."""
    assert run(list(map(str, arguments))) == 2
    return capsys.readouterr().err


def test_an_upgrade_says_from_which_revision_to_which(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (config.parent / "ra.db").unlink()
    (config.parent / "journal.key").unlink()
    with place_of(url_of(config), directory=NOWHERE).alone() as connection:
        r0001.metadata.create_all(connection)

    first = ask(capsys, "db", "upgrade", "--config", config)
    run(["db", "upgrade", "--config", str(config)])

    assert {"before": "0001", "after": HEAD} == first
    assert f"is of revision {HEAD}, the newest: there was nothing to do." in capsys.readouterr().out


def test_a_journal_is_copied_to_another_database(
    config: Path, empty_database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = ask(capsys, "db", "copy", "--to", empty_database_url, "--config", config)

    assert 1 == said["rows"]["refusals"]
    assert ["kept"] == words(empty_database_url)


def test_a_copy_says_what_is_to_be_done_next(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exit_code = run(["db", "copy", "--to", f"sqlite:///{tmp_path}/new.db", "--config", str(config)])

    assert 0 == exit_code
    assert f"is copied to {tmp_path}/new.db. Name that in [database] url" in capsys.readouterr().out


def test_a_copy_into_itself_is_refused(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is not empty" in refused(capsys, "db", "copy", "--to", url_of(config), "--config", config)


def test_a_target_that_is_no_database_is_named_as_it_was_given(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--to: write sqlite:///" in refused(capsys, "db", "copy", "--to", "foo://x", "--config", config)
    assert "--to: that is not a URL" in refused(capsys, "db", "copy", "--to", "x", "--config", config)


def test_a_backup_into_no_directory_is_told_by_its_name(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "backup", "/nowhere/backup.db", "--config", config)

    assert "/nowhere/backup.db cannot be written: there is no directory /nowhere" in said


def test_the_password_of_the_other_server_comes_by_reference_and_is_not_shown(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (config.parent / "password.txt").write_text("s3cret", "utf-8")

    url = "postgresql://ra@127.0.0.1:1/ra"
    exit_code = run(["db", "copy", "--to", url, "--to-password", "file:password.txt", "--config", str(config)])

    said = capsys.readouterr().err
    assert exit_code == 3
    assert "refused" in said
    assert "s3cret" not in said


@pytest.mark.parametrize("end", ["source", "target"])
def test_what_somebody_has_open_is_not_copied(
    config: Path, journal_url: str, capsys: pytest.CaptureFixture[str], end: str
) -> None:
    """A service that runs on would write into what is left behind, or is there twice."""
    busy = url_of(config) if end == "source" else journal_url

    async def copy_beside() -> str:
        async with opened(busy):
            return await asyncio.to_thread(refused, capsys, "db", "copy", "--to", journal_url, "--config", config)

    assert "in use" in asyncio.run(copy_beside())


def test_a_backup_is_made_beside_the_service_and_a_restore_is_not(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = config.parent / "backup.db"

    async def beside() -> tuple[Any, str]:
        async with opened(url_of(config)):
            written = await asyncio.to_thread(ask, capsys, "backup", backup, "--config", config)
            return written, await asyncio.to_thread(refused, capsys, "restore", backup, "--config", config)

    written, said = asyncio.run(beside())

    assert 1 == written["rows"]["refusals"]
    assert "in use" in said


def test_a_backup_is_restored_into_an_empty_database(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backup = config.parent / "backup.db"

    written = ask(capsys, "backup", backup, "--config", config)
    for name in ("ra.db", "ra.db-wal", "ra.db-shm"):
        (config.parent / name).unlink(missing_ok=True)
    read = ask(capsys, "restore", backup, "--config", config)

    assert written["rows"] == read["rows"]
    assert ["kept"] == words(url_of(config))


def test_a_restore_overwrites_nothing(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backup = config.parent / "backup.db"
    ask(capsys, "backup", backup, "--config", config)

    said = refused(capsys, "restore", backup, "--config", config)

    assert "ra.db is not empty" in said
    assert "put it out of the way" in said


def test_a_configuration_names_postgresql(config: Path, postgres: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    url = postgres.empty()
    config.write_text(config.read_text("utf-8").replace("sqlite:///ra.db", url), "utf-8")
    (config.parent / "journal.key").unlink()

    said = ask(capsys, "db", "upgrade", "--config", config)

    assert {"before": None, "after": HEAD} == said
    assert [] == words(url)
