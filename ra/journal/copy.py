"""Copies a whole journal from one database into another: to move it, to keep a copy of it, and to bring that back.

What is copied is the state of one moment, while others go on writing; the copy is there as a whole or not at all.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Connection, Table, func, insert, select, text

from ra.errors import Misconfigured, RaError
from ra.journal.database import Place
from ra.journal.migrations import insist_on_head
from ra.journal.sqlite import SqlitePlace
from ra.journal.tables import metadata
from ra.journal.upgrade import upgrade

BATCH = 1000

_OTHERS = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
    "AND application_name = 'scep-ra'"
)
_MAGIC = b"SQLite format 3\0"

Progress = Callable[[str, int, int], None]
"""Is told of which table how many rows are copied, and how many there are."""


class Incomplete(RaError):
    """The copy is not what was to be copied, and is thrown away."""


def copy(source: Place, target: Place, progress: Progress) -> Mapping[str, int]:
    """Makes the tables in the target and copies all rows; returns how many, by table.

    Raises:
        Misconfigured: the source is not of this program's revision, the target holds something, or one of them cannot
            be used.
        Incomplete: the target did not take every row.
    """
    with source.snapshot() as reading:
        insist_on_head(reading)
        with target.alone() as writing:
            upgrade(writing)
            _insist_on_empty(writing, target)
            return {table.name: _copy_table(table, reading, writing, progress) for table in metadata.sorted_tables}


@contextmanager
def at_rest(place: Place) -> Iterator[None]:
    """While no service uses the database; what one wrote meanwhile would not be in the copy.

    Raises:
        Misconfigured: one does.
    """
    if isinstance(place, SqlitePlace):
        with place.at_rest():
            yield
        return
    with place.snapshot() as connection:
        others = connection.execute(_OTHERS).scalar_one()
    if others:
        raise Misconfigured(f"{place} is in use by {others} connections of scep-ra: stop `scep-ra serve` first")
    yield


def back_up(source: Place, file: Path, progress: Progress) -> Mapping[str, int]:
    """Copies the journal into a new file of SQLite, for its owner alone.

    Raises:
        Misconfigured: as `copy`, or the file is there already, or its directory is not.
    """
    if file.exists():
        raise Misconfigured(f"{file} is there already, and a backup overwrites nothing: name another file")
    if not file.absolute().parent.is_dir():
        raise Misconfigured(f"{file} cannot be written: there is no directory {file.absolute().parent}")
    with TemporaryDirectory(prefix=f".{file.name}.", dir=file.absolute().parent) as directory:
        part = Path(directory) / "journal.db"
        copied = copy(source, SqlitePlace(part), progress)
        file.hardlink_to(part)  # other than a renaming, it takes no other file's place
    return copied


def restore(file: Path, target: Place, progress: Progress) -> Mapping[str, int]:
    """Copies what `back_up` wrote, with this program or an older one, into an empty database; the file stays as it is.

    Raises:
        Misconfigured: as `copy`, or the file is no backup.
    """
    with TemporaryDirectory(prefix="scep-ra-restore-") as directory:
        part = Path(directory) / "journal.db"
        shutil.copyfile(file, part)
        with part.open("rb") as start:
            if start.read(len(_MAGIC)) != _MAGIC:
                raise Misconfigured(f"{file} is no backup: it is not a file of SQLite")
        backup = SqlitePlace(part)
        with backup.alone() as connection:
            before, _ = upgrade(connection)
        if before is None:
            raise Misconfigured(f"{file} is no backup: there is no journal in it")
        return copy(backup, target, progress)


def _insist_on_empty(connection: Connection, target: Place) -> None:
    filled = [table.name for table in metadata.sorted_tables if _count(connection, table)]
    if filled:
        raise Misconfigured(
            f"{target} is not empty (there are rows in {', '.join(filled)}), and a copy overwrites nothing: stop what "
            "uses it, put it out of the way or name another database, and copy into that"
        )


def _copy_table(table: Table, reading: Connection, writing: Connection, progress: Progress) -> int:
    total, done = _count(reading, table), 0
    progress(table.name, done, total)
    rows = reading.execute(select(table), execution_options={"yield_per": BATCH}).mappings()
    for part in rows.partitions():
        writing.execute(insert(table), [dict(row) for row in part])
        done += len(part)
        progress(table.name, done, total)
    if (copied := _count(writing, table)) != total:
        raise Incomplete(f"of the {total} rows of {table.name}, {copied} have arrived; nothing was kept of them")
    _count_on(table, writing)
    return copied


def _count(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def _count_on(table: Table, connection: Connection) -> None:
    """Has PostgreSQL number new rows after the copied ones; SQLite looks by itself."""
    numbered = table.autoincrement_column
    if numbered is not None and connection.dialect.name == "postgresql":
        sequence = text("SELECT setval(pg_get_serial_sequence(:table, :column), :last)")
        last = connection.execute(select(func.max(numbered))).scalar()
        connection.execute(sequence, {"table": table.name, "column": numbered.name, "last": last})
