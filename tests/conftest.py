"""Fixtures that several kinds of tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import tests.peers  # before all else: it takes its own variable out of the environment
from ra.journal.database import Journal
from tests.fakes import postgres as server
from tests.fakes import softhsm
from tests.interop.running import RunningRa, running_ra

_READABLE_BYTES = 16


def pytest_make_parametrize_id(val: object) -> str | None:
    """An id that can be read: of bytes that are no text the hex, or the length."""
    if isinstance(val, bytes) and not (val.isascii() and val.decode("ascii").isprintable()):
        return val.hex() if len(val) <= _READABLE_BYTES else f"{len(val)} bytes"
    return None


@pytest.fixture(scope="session")
def postgres() -> Iterator[server.Cluster]:
    """A PostgreSQL server for the session, on a Unix socket."""
    programs = server.installed()
    if programs is None:
        tests.peers.missing(
            "PostgreSQL's server is missing: it comes from the system's package postgresql (listed in .ci/run)"
        )
    with server.running_postgres(programs) as cluster:
        yield cluster


@pytest.fixture(params=server.DATABASES)
def journal_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a fresh journal of the test's own; the test runs once for each database. Any `directory` goes with it."""
    if request.param == "postgresql":
        cluster: server.Cluster = request.getfixturevalue("postgres")
        return cluster.journal()
    url = f"sqlite:///{tmp_path}/ra.db"
    Journal.create(url, directory=tmp_path)
    return url


@pytest.fixture(params=server.DATABASES)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database of the test's own with nothing in it yet, or of a file that is not there."""
    if request.param == "postgresql":
        cluster: server.Cluster = request.getfixturevalue("postgres")
        return cluster.empty()
    return f"sqlite:///{tmp_path}/empty.db"


@pytest.fixture(scope="session")
def ra_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRa]:
    """The real thing, started once for the session: `scep-ra init` and `scep-ra serve`."""
    with running_ra(tmp_path_factory.mktemp("ra") / "var") as ra:
        yield ra


@pytest.fixture(scope="session")
def token_files(tmp_path_factory: pytest.TempPathFactory) -> softhsm.SoftHsm:
    """A token of SoftHSM, for the session: a process loads a module once."""
    program, module = tests.peers.require("softhsm2-util"), softhsm.installed()
    if module is None:
        tests.peers.missing("SoftHSM's module is missing: it comes from the system's package softhsm2 (see .ci/run)")
    made = softhsm.make(module, program, tmp_path_factory.mktemp("softhsm"))
    made.use_here()
    return made
