from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from connectors.api import Secret
from ra.errors import Misconfigured
from ra.journal.database import Journal
from ra.journal.keyfile import insist_on_key, make_key_file, write_key_file
from ra.journal.sealing import JournalKey
from tests.unit.journal.conftest import URL

FIRST, SECOND = JournalKey(b"1" * 32), JournalKey(b"2" * 32)


def with_journal(directory: Path, work: Callable[[Journal], Awaitable[None]]) -> None:
    async def go() -> None:
        journal = await Journal.open(URL, directory=directory)
        try:
            await work(journal)
        finally:
            await journal.aclose()

    asyncio.run(go())


def read(path: Path) -> JournalKey:
    return JournalKey.read(Secret(path.read_text("ascii")))


def test_a_journal_is_used_with_its_first_key_and_no_other(directory: Path) -> None:
    with_journal(directory, lambda journal: insist_on_key(journal, FIRST))
    with_journal(directory, lambda journal: insist_on_key(journal, FIRST))

    with pytest.raises(Misconfigured, match="made with another key"):
        with_journal(directory, lambda journal: insist_on_key(journal, SECOND))


def test_of_two_processes_that_begin_with_different_keys_one_is_refused(directory: Path) -> None:
    outcomes: list[BaseException | None] = []

    async def both(journal: Journal) -> None:
        outcomes.extend(
            await asyncio.gather(insist_on_key(journal, FIRST), insist_on_key(journal, SECOND), return_exceptions=True)
        )

    with_journal(directory, both)

    assert [None] == [each for each in outcomes if not isinstance(each, Misconfigured)]
    assert 2 == len(outcomes)


def test_a_new_journal_gets_a_key_for_its_owner_alone(directory: Path) -> None:
    path = directory / "journal.key"

    with_journal(directory, lambda journal: make_key_file(journal, path, os.urandom))

    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert len(read(path).check_value) == 32
    assert ["journal.key"] == [each.name for each in directory.iterdir() if "key" in each.name]


def test_a_key_that_is_there_stays(directory: Path) -> None:
    path = directory / "journal.key"
    write_key_file(path, os.urandom)
    before = path.read_text("ascii")

    with_journal(directory, lambda journal: make_key_file(journal, path, os.urandom))

    assert before == path.read_text("ascii")


def test_a_key_that_is_gone_is_not_replaced(directory: Path) -> None:
    path = directory / "journal.key"
    with_journal(directory, lambda journal: insist_on_key(journal, FIRST))

    with pytest.raises(Misconfigured, match=r"journal\.key is gone"):
        with_journal(directory, lambda journal: make_key_file(journal, path, os.urandom))

    assert not path.exists()


def test_a_key_that_is_not_gone_is_not_missed(directory: Path) -> None:
    path = directory / "journal.key"
    write_key_file(path, os.urandom)
    with_journal(directory, lambda journal: insist_on_key(journal, read(path)))

    with_journal(directory, lambda journal: make_key_file(journal, path, os.urandom))


def test_where_no_key_can_be_written_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"nowhere/journal\.key cannot be written: No such file"):
        write_key_file(tmp_path / "nowhere" / "journal.key", os.urandom)
