"""The journal and its key, as the configuration has them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ra.bootstrap.clock import SystemClock
from ra.journal.chain import Chain
from ra.journal.database import Journal, Place, Upgrade, place_of
from ra.journal.keyfile import check_value, insist_on_key, insist_on_match, make_key_file
from ra.journal.migrations import HEAD, newer, revision_of
from ra.journal.sealing import JournalKey
from ra.journal.sqlite import SqlitePlace
from ra.journal.writer import nothing
from ra.service.ports import Clock
from ra.settings.load import Configuration
from ra.settings.sources import read_secret

_CLOCK = SystemClock()


def check_database(configuration: Configuration) -> None:
    """Whether there is a journal, or could be one.

    Raises:
        Misconfigured: there cannot be.
    """
    journal_place(configuration).check()


def look_at_journal(configuration: Configuration) -> tuple[str, ...]:
    """What a start will find, without a change to anything; the warnings. Where there is no journal yet, nothing.

    Raises:
        Misconfigured: a newer program made it, or its key is gone or another one.
        Unavailable: its server cannot be reached.
    """
    place = journal_place(configuration)
    if isinstance(place, SqlitePlace) and not place.path.exists():
        return ()
    with place.snapshot() as connection:
        found = revision_of(connection)
        if found is not None and found > HEAD:
            raise newer(found)
        if found == HEAD and (known := check_value(connection)) is not None:
            reference, here = configuration.settings.database.key, configuration.directory
            insist_on_match(known, JournalKey.read(read_secret(reference, here)))
    if found is not None and found < HEAD:
        return (f"[database] url: the journal is of revision {found}, and the next start brings it to {HEAD}",)
    return ()


def has_journal(configuration: Configuration) -> bool:
    """Whether there is one that can be opened as it is.

    Raises:
        Unavailable: its server cannot be reached.
    """
    place = journal_place(configuration)
    if isinstance(place, SqlitePlace) and not place.path.exists():
        return False
    with place.snapshot() as connection:
        return revision_of(connection) == HEAD


def journal_place(configuration: Configuration) -> Place:
    """Where the journal is, or will be.

    Raises:
        Misconfigured: the password cannot be read.
    """
    return place_of(**_named(configuration))


def disk_of(configuration: Configuration) -> Path | None:
    """The directory of a database in a file; None where a server keeps it."""
    place = place_of(**_named(configuration))
    return place.path.parent if isinstance(place, SqlitePlace) else None


def make_journal(configuration: Configuration) -> Upgrade:
    """Makes the journal, or brings it to what this program knows; a new one gets a key where its file is missing.

    Raises:
        Misconfigured: it cannot be written, a newer program made it, or its key is gone or another one.
    """
    done = Journal.create(**_named(configuration))
    asyncio.run(_provide_key(configuration))
    return done


@asynccontextmanager
async def opened(
    configuration: Configuration, reached: Callable[[str], None] = nothing, clock: Clock = _CLOCK
) -> AsyncIterator[tuple[Journal, JournalKey]]:
    """The journal and its key. What is audited forms a chain, which is closed with the journal.

    Raises:
        Misconfigured: there is no journal, its key cannot be read, or it was made with another one.
    """
    key = JournalKey.read(read_secret(configuration.settings.database.key, configuration.directory))
    chain = Chain()
    journal = await Journal.open(**_named(configuration), companion=chain, reached=reached)
    try:
        await insist_on_key(journal, key)
        yield journal, key
        if chain.has_begun:
            now = clock.now()
            await journal.write(lambda _: chain.close(now))
    finally:
        await journal.aclose()


async def _provide_key(configuration: Configuration) -> None:
    reference, here = configuration.settings.database.key, configuration.directory
    journal = await Journal.open(**_named(configuration))
    try:
        kind, _, place = reference.partition(":")
        if kind == "file":
            await make_key_file(journal, here / place, os.urandom)
        await insist_on_key(journal, JournalKey.read(read_secret(reference, here)))
    finally:
        await journal.aclose()


def _named(configuration: Configuration) -> dict[str, Any]:
    """Which database it is, as the arguments of Journal.create and Journal.open."""
    database, here = configuration.settings.database, configuration.directory
    password = read_secret(database.password, here) if database.password else None
    return {"url": database.url, "directory": here, "password": password}
