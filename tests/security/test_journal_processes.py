"""Two processes on one journal, and one that is killed."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select

from ra.journal.database import Journal, place_of
from ra.journal.tables import transactions
from tests.fakes.notes import NOWHERE

ROOT = Path(__file__).parents[2]


def start(url: str, what: str, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.security.journal_process", url, what, name]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def committed(url: str) -> set[str]:
    with place_of(url, directory=NOWHERE).snapshot() as connection:
        return {str(each) for each in connection.execute(select(transactions.c.id)).scalars()}


def test_a_one_time_secret_has_exactly_one_winner_among_two_processes(journal_url: str) -> None:
    processes = [start(journal_url, "race", name) for name in ("one", "two")]
    won = [process.communicate(timeout=60)[0].split() for process in processes]

    assert [0, 0] == [process.returncode for process in processes]
    assert sorted(str(secret) for secret in range(50)) == sorted(won[0] + won[1])
    assert 50 == len(committed(journal_url))


@pytest.mark.parametrize("enrolments_before_the_kill", [1, 40, 333])
def test_what_was_told_to_be_committed_survives_a_kill(journal_url: str, enrolments_before_the_kill: int) -> None:
    with start(journal_url, "write", "one") as process:
        assert process.stdout is not None
        told = [process.stdout.readline().strip() for _ in range(enrolments_before_the_kill)]
        process.kill()
        told += [line.strip() for line in process.stdout.read().splitlines()]

    assert {each for each in told if len(each) == 36} <= committed(journal_url)
    assert enrolments_before_the_kill <= len(told)


def test_a_file_whose_writer_was_killed_is_sound(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ra.db"
    Journal.create(url, directory=tmp_path)
    with start(url, "write", "one") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()

    with closing(sqlite3.connect(tmp_path / "ra.db")) as connection:
        assert [("ok",)] == connection.execute("PRAGMA integrity_check").fetchall()
