"""From every revision to the newest, on every database."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Connection, MetaData, func, inspect, select, text

from ra.errors import Misconfigured
from ra.journal import migrations
from ra.journal.database import Journal, Upgrade, place_of
from ra.journal.migrations import HEAD
from ra.journal.migrations.versions import r0001
from ra.journal.tables import metadata, transactions
from tests.fakes.notes import NOWHERE, note, opened, run, words

ROW = {
    "id": UUID(int=1),
    "state": "submitting",
    "request_key": b"r" * 32,
    "profile": "default",
    "signer_key": b"s" * 32,
    "transaction_id": b"7XXEY",
    "is_open": True,
    "idempotency_key": UUID(int=2),
    "connector": "lab",
    "csr_key": b"s" * 32,
    "names": b"n" * 32,
    "csr_info": b"i" * 32,
    "contents": b"c" * 32,
    "subject": "CN=device",
    "grant_method": "static",
    "grant_label": "first",
    "grant_attributes": {"team": "blue"},
    "created_at": 1_000_000,
    "updated_at": 2_000_000,
    "lease_until": 3_000_000,
}


def scripts() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    return config


OLDER = sorted(
    each.revision for each in ScriptDirectory.from_config(scripts()).walk_revisions() if each.revision < HEAD
)
"""Every revision but the newest: one that is added is upgraded from by itself."""


def create(url: str) -> Upgrade:
    return Journal.create(url, directory=NOWHERE)


def fill_the_first(connection: Connection) -> None:
    """Tables as they were before revisions had numbers, with a row in each."""
    r0001.metadata.create_all(connection)
    tables = r0001.metadata.tables
    values: Sequence[tuple[str, dict[str, Any]]] = [
        ("transactions", ROW),
        ("aliases", {"profile": "default", "signer_key": b"s", "transaction_id": b"t", "transaction": ROW["id"]}),
        ("spent_secrets", {"key": b"k", "transaction": ROW["id"], "csr_key": b"s", "expires_at": 4_000_000}),
        ("audit", {"at": 1_000_000, "event": '{"event":"decision"}'}),
        ("audit", {"at": 2_000_000, "event": '{"event":"outcome"}'}),
    ]
    for name, value in values:
        connection.execute(tables[name].insert(), value)


def test_what_the_revisions_make_is_what_the_program_works_with(empty_database_url: str) -> None:
    assert Upgrade(before=None, after=HEAD) == create(empty_database_url)

    with place_of(empty_database_url, directory=NOWHERE).snapshot() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert [] == compare_metadata(context, metadata)


def test_the_newest_revision_is_the_one_that_is_demanded() -> None:
    assert [HEAD] == ScriptDirectory.from_config(scripts()).get_heads()


def test_an_upgrade_of_the_newest_changes_nothing(journal_url: str) -> None:
    async def body() -> None:
        async with opened(journal_url) as journal:
            await journal.write(lambda connection: note(connection, "kept"))

    run(body())

    assert Upgrade(before=HEAD, after=HEAD) == create(journal_url)
    assert ["kept"] == words(journal_url)


def test_a_journal_from_before_revisions_had_numbers_is_upgraded_with_what_is_in_it(empty_database_url: str) -> None:
    place = place_of(empty_database_url, directory=NOWHERE)
    with place.alone() as connection:
        fill_the_first(connection)

    assert Upgrade(before="0001", after=HEAD) == create(empty_database_url)

    with place.snapshot() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert [] == compare_metadata(context, metadata)
        row = connection.execute(select(transactions)).mappings().one()
        assert (b"7XXEY", {"team": "blue"}, (), 0) == (
            row["transaction_id"],
            row["grant_attributes"],
            row["notify"],
            row["attempts"],
        )
        assert 3 == row["due_at"].timestamp()
        assert 1 == connection.execute(text("SELECT count(*) FROM aliases")).scalar()
        assert 1 == connection.execute(text("SELECT count(*) FROM spent_secrets")).scalar()
        events = connection.execute(text("SELECT event FROM audit_events ORDER BY number")).scalars().all()
        assert ['{"event":"decision"}', '{"event":"outcome"}', '{"event":"closed"}'] == list(events)[1:]


def upgrade_to(connection: Connection, revision: str) -> None:
    config = scripts()
    config.attributes["connection"] = connection
    command.stamp(config, "0001")
    command.upgrade(config, revision)


def fill_what_is_empty(connection: Connection) -> None:
    """A row in each table that has none, whatever its columns are."""
    for table in _tables(connection).sorted_tables:
        if connection.execute(select(func.count()).select_from(table)).scalar() == 0:
            connection.execute(table.insert(), {each.name: _some_value(each) for each in table.columns})


def _some_value(column: Column[Any]) -> Any:
    if column.foreign_keys:
        which = UUID(int=1)
        return which if column.type.python_type is UUID else which.hex
    kind = column.type.python_type
    values: dict[type, Any] = {int: 7, bool: True, bytes: b"some bytes", object: {}, UUID: UUID(int=7), str: "7" * 32}
    return values[kind]


def _tables(connection: Connection) -> MetaData:
    reflected = MetaData()
    reflected.reflect(connection, only=lambda name, _: name != "alembic_version")
    return reflected


def counted(connection: Connection) -> dict[str, int]:
    tables = _tables(connection).sorted_tables
    return {each.name: connection.execute(select(func.count()).select_from(each)).scalar_one() for each in tables}


@pytest.mark.parametrize("revision", OLDER)
def test_a_journal_of_each_older_revision_is_upgraded_with_a_row_in_every_table(
    empty_database_url: str, revision: str
) -> None:
    place = place_of(empty_database_url, directory=NOWHERE)
    with place.alone() as connection:
        fill_the_first(connection)
        upgrade_to(connection, revision)
        fill_what_is_empty(connection)
        before = counted(connection)

    assert Upgrade(before=revision, after=HEAD) == create(empty_database_url)

    with place.snapshot() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert [] == compare_metadata(context, metadata)
        after = counted(connection)
    assert 0 not in before.values()
    kept = before.keys() & after.keys()
    assert {name: before[name] for name in kept} == {name: after[name] for name in kept}


def test_processes_that_start_at_once_upgrade_in_turn(empty_database_url: str) -> None:
    with ThreadPoolExecutor(4) as threads:
        upgrades = list(threads.map(create, [empty_database_url] * 4))

    assert sorted([None, HEAD, HEAD, HEAD], key=str) == sorted([each.before for each in upgrades], key=str)


def test_an_upgrade_that_fails_leaves_what_was_there(empty_database_url: str) -> None:
    place = place_of(empty_database_url, directory=NOWHERE)
    with place.alone() as connection:
        fill_the_first(connection)
        connection.execute(text("CREATE TABLE transactions_due (in_the_way INTEGER)"))

    with pytest.raises(Misconfigured, match="transactions_due"):
        create(empty_database_url)

    with place.snapshot() as connection:
        columns = {each["name"] for each in inspect(connection).get_columns("transactions")}
        assert {"lease_until"} == columns & {"lease_until", "due_at"}
        assert not inspect(connection).has_table("alembic_version")


@pytest.mark.parametrize(
    ("revision", "sentence"),
    [("9999", "is of revision 9999, and scep-ra .* knows none beyond"), ("0001", "run `scep-ra db upgrade`")],
)
def test_a_journal_of_another_revision_is_not_opened(journal_url: str, revision: str, sentence: str) -> None:
    with place_of(journal_url, directory=NOWHERE).alone() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})

    with pytest.raises(Misconfigured, match=sentence):
        run(opened(journal_url).__aenter__())  # type: ignore[arg-type]  # it raises before there is a journal


def test_a_journal_that_is_newer_than_the_program_is_not_upgraded(journal_url: str) -> None:
    with place_of(journal_url, directory=NOWHERE).alone() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(Misconfigured, match="run the newer scep-ra that upgraded it"):
        create(journal_url)
