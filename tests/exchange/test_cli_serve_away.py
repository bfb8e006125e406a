"""`scep-ra serve` whose database is away: at its start, and when a worker has to begin anew."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ra.cli.app import run
from tests.fakes.postgres import Cluster, installed, running_postgres
from tests.fakes.serving import command, put_into, serving, workers_of
from tests.interop.running import clean_environment
from tests.peers import missing


@pytest.fixture(scope="module")
def postgres() -> Iterator[Cluster]:
    programs = installed()
    if programs is None:
        missing("PostgreSQL's server is missing: it comes from the system's package postgresql (listed in .ci/run)")
    with running_postgres(programs) as cluster:
        yield cluster


@pytest.mark.parametrize("line", [["serve"], ["check-config"], ["db", "upgrade"], ["transactions", "list"]])
def test_a_server_that_cannot_be_reached_is_no_fault_of_the_configuration(
    directory: Path, capsys: pytest.CaptureFixture[str], line: list[str]
) -> None:
    put_into(directory, "postgresql://ra@127.0.0.1:1/ra")

    exit_code = run([*line, "--config", str(directory / "ra.toml")])

    said = capsys.readouterr().err
    assert exit_code == 3
    assert "[database] url: postgresql://ra@127.0.0.1:1/ra: " in said
    assert "refused" in said


def test_a_worker_that_dies_while_the_database_is_away_is_started_anew_and_waits_for_it(
    directory: Path, ports: tuple[int, int], postgres: Cluster
) -> None:
    put_into(directory, postgres.empty())
    with serving(directory, ports) as served:
        [first] = workers_of(served.process.pid)
        postgres.stop()
        os.kill(first, signal.SIGKILL)
        served.wait_for("the start waits")
        postgres.start()
        served.wait_for("Application startup complete.", times=2)
        capabilities = httpx.get(f"{served.url}?operation=GetCACaps")

    assert capabilities.status_code == 200
    assert served.process.returncode == 0


def test_a_worker_that_waits_for_its_database_ends_when_it_is_told(
    directory: Path, ports: tuple[int, int], postgres: Cluster
) -> None:
    put_into(directory, postgres.empty())
    try:
        with serving(directory, ports) as served:
            [first] = workers_of(served.process.pid)
            postgres.stop()
            os.kill(first, signal.SIGKILL)
            served.wait_for("the start waits")
            served.process.send_signal(signal.SIGTERM)
            exit_code = served.process.wait(20)
    finally:
        postgres.start()

    assert exit_code == 0


def test_operators_are_answered_while_the_database_is_away(
    directory: Path, ports: tuple[int, int], postgres: Cluster
) -> None:
    put_into(directory, postgres.empty())
    with serving(directory, ports) as served:

        def status(path: str) -> int:
            return httpx.get(f"{served.admin_url}{path}", timeout=20).status_code

        served.until(lambda: status("/readyz") == 200)
        postgres.stop()
        try:
            served.until(lambda: status("/readyz") == 503)
            meanwhile = [status(path) for path in ("/livez", "/metrics")]
            answer = httpx.get(f"{served.url}?operation=GetCACert").status_code
        finally:
            postgres.start()
        served.until(lambda: status("/readyz") == 200)

    assert [200, 200] == meanwhile
    assert 200 == answer
    assert 0 == served.process.returncode


def test_serve_says_so_in_one_line(directory: Path) -> None:
    put_into(directory, "postgresql://ra@127.0.0.1:1/ra")

    done = subprocess.run(command(directory), capture_output=True, text=True, check=False, env=clean_environment())

    assert done.returncode == 3
    assert done.stderr.startswith("scep-ra: [database] url: postgresql://ra@127.0.0.1:1/ra: ")
