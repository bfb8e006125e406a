"""Statements of every enrolment, and transaction control: on SQLite they are run by its driver, past SQLAlchemy.

SQLAlchemy compiles them, and says how each type is written and read; what it spends on a statement besides is about what
SQLite takes for it. PostgreSQL is spoken to by SQLAlchemy alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from sqlalchemy import Connection, Dialect, Insert, Select, Update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler

Statement = Select[Any] | Insert | Update
_Processor = Callable[[Any], Any]
T = TypeVar("T")


def rows(connection: Connection, statement: Statement, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a statement selects or returns.

    Raises:
        DBAPIError: as any other statement would.
    """
    driver = _driver_of(connection)
    if driver is None:
        return [dict(each) for each in connection.execute(statement, values).mappings()]
    prepared = _prepared(statement, connection.dialect, tuple(values))
    # Rows are read, and may turn out to be unreadable, after the first one has been found.
    found = _told(lambda text, bound: driver.execute(text, bound).fetchall(), prepared.text, prepared.bound(values))
    return [prepared.read(each) for each in found]


def changed(connection: Connection, statement: Update, values: Mapping[str, Any]) -> int:
    """How many rows a statement changes.

    Raises:
        DBAPIError: as any other statement would.
    """
    driver = _driver_of(connection)
    if driver is None:
        return connection.execute(statement, values).rowcount
    prepared = _prepared(statement, connection.dialect, tuple(values))
    return _told(driver.execute, prepared.text, prepared.bound(values)).rowcount


def insert(connection: Connection, statement: Insert, values: Sequence[Mapping[str, Any]]) -> None:
    """Inserts rows, all with the same columns; there is at least one.

    Raises:
        DBAPIError: as any other statement would.
    """
    driver = _driver_of(connection)
    if driver is None:
        connection.execute(statement, values)
        return
    prepared = _prepared(statement, connection.dialect, tuple(values[0]))
    _told(driver.executemany, prepared.text, map(prepared.bound, values))


def control(connection: Connection, statement: str) -> None:
    """Runs a statement of transaction control, on SQLite.

    Raises:
        DBAPIError: as any other statement would.
    """
    driver = _driver_of(connection)
    assert driver is not None  # noqa: S101 - the engine is SQLite's
    _told(driver.execute, statement, ())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """A statement as text.

    Attributes:
        parameters: in the order of their places, with what writes each.
        constants: those among them that the statement brings along.
        columns: of the rows it returns, with what reads each.
    """

    text: str
    parameters: tuple[tuple[str, _Processor | None], ...]
    constants: Mapping[str, Any]
    columns: tuple[tuple[str, _Processor | None], ...]

    def bound(self, values: Mapping[str, Any]) -> list[Any]:
        given = {**self.constants, **values} if self.constants else values
        return [given[name] if write is None else write(given[name]) for name, write in self.parameters]

    def read(self, row: Sequence[Any]) -> dict[str, Any]:
        return {
            name: value if read is None else read(value) for (name, read), value in zip(self.columns, row, strict=True)
        }


@lru_cache(maxsize=256)
def _prepared(statement: Statement, dialect: Dialect, keys: tuple[str, ...]) -> _Prepared:
    """`keys` are the names of the values that it is run with: an UPDATE sets the columns among them."""
    compiled = statement.compile(dialect=dialect, column_keys=list(keys))
    assert isinstance(compiled, SQLCompiler)  # noqa: S101 - no DDL
    binds = compiled.binds
    return _Prepared(
        text=compiled.string,
        parameters=tuple(
            (name, binds[name].type.dialect_impl(dialect).bind_processor(dialect))
            for name in compiled.positiontup or ()
        ),
        constants={
            name: each.effective_value for name, each in binds.items() if name not in keys and not each.required
        },
        columns=tuple(
            (str(each.key), each.type.dialect_impl(dialect).result_processor(dialect, None))
            for each in statement.exported_columns
        ),
    )


def _driver_of(connection: Connection) -> sqlite3.Connection | None:
    """The driver's own connection; None: it is not SQLite's."""
    driver = connection.connection.driver_connection
    return driver if isinstance(driver, sqlite3.Connection) else None


def _told(run: Callable[[str, Any], T], text: str, values: Any) -> T:
    """What comes of running it; the driver's errors are told as SQLAlchemy tells them."""
    try:
        return run(text, values)
    except sqlite3.Error as error:
        raise DBAPIError.instance(text, None, error, sqlite3.Error, hide_parameters=True) from error
