"""A journal in another database is the same journal."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, text

from ra.errors import Misconfigured
from ra.journal.chain import Chain
from ra.journal.copy import Incomplete, back_up, copy, restore
from ra.journal.database import Journal, Place, place_of
from ra.journal.migrations.versions import r0001
from ra.journal.outbox import put
from ra.journal.tables import metadata, one_time_secrets
from tests.fakes.enrolments import NOW, a_letter, a_secret, a_transaction, released, submitting
from tests.fakes.notes import NOWHERE, note, opened, run, words


def ignore(table: str, done: int, total: int) -> None:
    """Nobody watches."""


def place(url: str) -> Place:
    return place_of(url, directory=NOWHERE)


def fill(url: str) -> None:
    """A row in nearly every table."""

    async def body() -> None:
        async with opened(url, companion=Chain()) as journal:
            await journal.write(lambda c: released(c, a_transaction(spend=a_secret(url.encode()))))
            which = (await journal.write(submitting)).id
            await journal.write(lambda c: put(c, which, (a_letter(),), NOW))
            await journal.write(lambda c: note(c, "one"))
            await journal.write(lambda c: note(c, "two"))
            secret = {"key": b"k" * 32, "method": "otp", "label": "first", "created_at": NOW, "expires_at": NOW}
            await journal.write(lambda c: c.execute(insert(one_time_secrets), secret).rowcount)

    run(body())


def contents(where: Place) -> Mapping[str, list[tuple[Any, ...]]]:
    with where.snapshot() as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(select(table))), key=str)
            for table in metadata.sorted_tables
        }


def test_a_copy_holds_the_same_rows(journal_url: str, empty_database_url: str) -> None:
    fill(journal_url)
    told: list[tuple[str, int, int]] = []

    counted = copy(place(journal_url), place(empty_database_url), lambda *each: told.append(each))

    copied = contents(place(empty_database_url))
    assert contents(place(journal_url)) == copied
    assert {name: len(rows) for name, rows in copied.items()} == dict(counted)
    assert {"transactions": 2, "outbox": 1, "refusals": 2, "one_time_secrets": 1}.items() <= dict(counted).items()
    assert [("transactions", 0, 2), ("transactions", 2, 2)] == [each for each in told if each[0] == "transactions"]


def test_a_copy_goes_on_being_written(journal_url: str, empty_database_url: str) -> None:
    fill(journal_url)

    copy(place(journal_url), place(empty_database_url), ignore)

    async def body() -> None:
        async with opened(empty_database_url) as journal:
            await journal.write(lambda c: note(c, "three"))

    run(body())
    assert ["one", "two", "three"] == words(empty_database_url)


def test_a_copy_is_of_one_moment(journal_url: str, empty_database_url: str) -> None:
    fill(journal_url)

    def write_meanwhile(table: str, *_: int) -> None:
        if table == "transactions":
            with place(journal_url).alone() as connection:
                note(connection, "three")

    copy(place(journal_url), place(empty_database_url), write_meanwhile)

    assert ["one", "two"] == words(empty_database_url)
    assert "three" in words(journal_url)


def test_a_copy_overwrites_nothing(journal_url: str, tmp_path: Path) -> None:
    with place(journal_url).alone() as connection:
        note(connection, "kept")
    source = f"sqlite:///{tmp_path}/source.db"
    Journal.create(source, directory=tmp_path)

    with pytest.raises(
        Misconfigured, match=r"is not empty \(there are rows in refusals\), and a copy overwrites nothing"
    ):
        copy(place(source), place(journal_url), ignore)

    assert ["kept"] == words(journal_url)


def test_a_copy_that_loses_rows_is_thrown_away(tmp_path: Path) -> None:
    source, target = (f"sqlite:///{tmp_path}/{name}.db" for name in ("source", "target"))
    for url in (source, target):
        Journal.create(url, directory=tmp_path)
    fill(source)
    with place(target).alone() as connection:
        swallow = "CREATE TRIGGER swallow BEFORE INSERT ON refusals WHEN new.seq = 1 BEGIN SELECT RAISE(IGNORE); END"
        connection.execute(text(swallow))

    with pytest.raises(Incomplete, match="of the 2 rows of refusals, 1 have arrived"):
        copy(place(source), place(target), ignore)

    assert {0} == {len(rows) for rows in contents(place(target)).values()}


def test_a_journal_of_an_older_revision_is_not_copied(tmp_path: Path) -> None:
    old = place(f"sqlite:///{tmp_path}/old.db")
    with old.alone() as connection:
        r0001.metadata.create_all(connection)

    with pytest.raises(Misconfigured, match="run `scep-ra db upgrade`"):
        copy(old, place(f"sqlite:///{tmp_path}/new.db"), ignore)


# ---------------------------------------------------------------------------------------------- backup, restore


def test_a_backup_is_restored(journal_url: str, empty_database_url: str, tmp_path: Path) -> None:
    fill(journal_url)
    file = tmp_path / "backup.db"

    back_up(place(journal_url), file, ignore)
    restore(file, place(empty_database_url), ignore)

    assert contents(place(journal_url)) == contents(place(empty_database_url))


def test_a_backup_is_one_file_for_its_owner_alone(journal_url: str, tmp_path: Path) -> None:
    directory = tmp_path / "backups"
    directory.mkdir()

    back_up(place(journal_url), directory / "backup.db", ignore)

    assert [directory / "backup.db"] == list(directory.iterdir())
    assert 0o600 == stat.S_IMODE((directory / "backup.db").stat().st_mode)


def test_a_backup_overwrites_nothing(journal_url: str, tmp_path: Path) -> None:
    file = tmp_path / "backup.db"
    file.write_text("mine", "utf-8")

    with pytest.raises(Misconfigured, match="is there already, and a backup overwrites nothing"):
        back_up(place(journal_url), file, ignore)

    assert "mine" == file.read_text("utf-8")


def test_a_backup_of_an_older_program_is_restored_and_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "old.db"
    with place(f"sqlite:///{file}").alone() as connection:
        r0001.metadata.create_all(connection)
        note(connection, "old")
    before = file.read_bytes()

    restore(file, place(f"sqlite:///{tmp_path}/new.db"), ignore)

    assert ["old"] == words(f"sqlite:///{tmp_path}/new.db")
    assert before == file.read_bytes()


def test_what_is_no_backup_is_refused(tmp_path: Path) -> None:
    target = place(f"sqlite:///{tmp_path}/new.db")
    (tmp_path / "text").write_text("something else", "utf-8")
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE other (x)")

    with pytest.raises(Misconfigured, match="is not a file of SQLite"):
        restore(tmp_path / "text", target, ignore)
    with pytest.raises(Misconfigured, match="there is no journal in it"):
        restore(tmp_path / "other.db", target, ignore)
