from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from ra.journal.database import Journal
from tests.security.journal_process import URL

ROOT = Path(__file__).parents[2]


def start(directory: Path, what: str, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.security.journal_process", str(directory), what, name]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def committed(directory: Path) -> set[str]:
    with closing(sqlite3.connect(directory / "ra.db")) as connection:
        assert [("ok",)] == connection.execute("PRAGMA integrity_check").fetchall()
        return {row[0] for row in connection.execute("SELECT id FROM transactions")}


def test_a_one_time_secret_has_exactly_one_winner_among_two_processes(tmp_path: Path) -> None:
    Journal.create(URL, directory=tmp_path)

    processes = [start(tmp_path, "race", name) for name in ("one", "two")]
    won = [process.communicate(timeout=60)[0].split() for process in processes]

    assert [0, 0] == [process.returncode for process in processes]
    assert sorted(str(secret) for secret in range(50)) == sorted(won[0] + won[1])
    assert 50 == len(committed(tmp_path))


@pytest.mark.parametrize("enrolments_before_the_kill", [1, 40, 333])
def test_what_was_told_to_be_committed_survives_a_kill(tmp_path: Path, enrolments_before_the_kill: int) -> None:
    Journal.create(URL, directory=tmp_path)
    with start(tmp_path, "write", "one") as process:
        assert process.stdout is not None
        told = [process.stdout.readline().strip() for _ in range(enrolments_before_the_kill)]
        process.kill()
        told += [line.strip() for line in process.stdout.read().splitlines()]

    assert {each.replace("-", "") for each in told if len(each) == 36} <= committed(tmp_path)
    assert enrolments_before_the_kill <= len(told)
