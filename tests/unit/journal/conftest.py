"""A journal in memory, for the operations alone, and one in a file, with its writer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.pool import NullPool

from ra.journal.database import Journal
from ra.journal.tables import metadata
from tests.fakes.enrolments import Collected
from tests.fakes.postgres import DATABASES, Cluster

URL = "sqlite:///ra.db"


@pytest.fixture(params=DATABASES)
def connection(request: pytest.FixtureRequest) -> Iterator[Connection]:
    """A journal of the test's own, in memory or in a transaction that is never committed."""
    engine: Engine = request.getfixturevalue(f"_{request.param}")
    with engine.connect() as connection:
        connection.info["companion"] = Collected()
        yield connection


@pytest.fixture
def _sqlite() -> Iterator[Engine]:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys = ON")
        metadata.create_all(connection)
        connection.commit()
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def _postgresql(postgres: Cluster) -> Iterator[Engine]:
    engine = create_engine(postgres.journal().replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)
    yield engine
    engine.dispose()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where a journal has been created."""
    Journal.create(URL, directory=tmp_path)
    return tmp_path
