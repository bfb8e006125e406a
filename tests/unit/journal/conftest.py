"""A journal in memory, for the operations alone, and one in a file, with its writer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine

from ra.journal.database import Journal
from ra.journal.tables import metadata

URL = "sqlite:///ra.db"


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys = ON")
        metadata.create_all(connection)
        yield connection
    engine.dispose()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where a journal has been created."""
    Journal.create(URL, directory=tmp_path)
    return tmp_path
