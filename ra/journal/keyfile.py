"""That a journal is used with the key it was made with, and where that key's file comes from."""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.dialects.postgresql import insert  # its ON CONFLICT compiles for SQLite too, not the other way round

from ra.errors import Misconfigured
from ra.journal.database import Journal
from ra.journal.sealing import KEY_LENGTH, JournalKey, write_key
from ra.journal.tables import facts

_NAME = "key"
_READ = select(facts.c.value).where(facts.c.name == bindparam("of"))
_WRITE = insert(facts).on_conflict_do_nothing()


async def insist_on_key(journal: Journal, key: JournalKey) -> None:
    """Has a new journal remember its key, by a check value that tells nothing of it; any other is refused from then on.

    Raises:
        Misconfigured: the journal was made with another key.
    """
    known = await journal.read(check_value)
    if known is None:
        known = await journal.write(lambda connection: _remember(connection, key.check_value))
    insist_on_match(known, key)


def insist_on_match(known: bytes, key: JournalKey) -> None:
    """Demands the key whose check value is known.

    Raises:
        Misconfigured: it is another one.
    """
    if not hmac.compare_digest(known, key.check_value):
        raise Misconfigured(
            "[database] key: the journal was made with another key, and what that key sealed cannot be read with this "
            "one; put the first key back, from the backup it was kept in"
        )


async def make_key_file(journal: Journal, path: Path, entropy: Callable[[int], bytes]) -> None:
    """Writes a key, readable by its owner alone, for a journal that has none yet; a file that is there stays.

    Raises:
        Misconfigured: the journal was made with a key, and its file is gone; or it cannot be written.
    """
    if await journal.read(check_value) is None:
        write_key_file(path, entropy)
    else:
        _insist_on_file(path)


def write_key_file(path: Path, entropy: Callable[[int], bytes]) -> None:
    """Writes a new key, readable by its owner alone; never over one that is there.

    Raises:
        Misconfigured: it cannot be written.
    """
    try:
        # Complete or not there at all: half a key would be taken for the key.
        part = path.with_name(f"{path.name}.{entropy(4).hex()}")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(write_key(entropy(KEY_LENGTH)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(part)
        finally:
            part.unlink()
    except FileExistsError:
        return
    except OSError as error:
        raise Misconfigured(f"[database] key: {path} cannot be written: {error.strerror}") from None


def _insist_on_file(path: Path) -> None:
    if not path.exists():
        raise Misconfigured(
            f"[database] key: {path} is gone, and the journal was made with it; put it back, from the backup it was "
            "kept in: without it, stored requests and one-time secrets are lost"
        )


def check_value(connection: Connection) -> bytes | None:
    """Of the key that the journal was made with; None: it has none yet. Reads only."""
    return connection.execute(_READ, {"of": _NAME}).scalar()


def _remember(connection: Connection, check_value: bytes) -> bytes:
    """The check value that stands in the end: another process may have been faster."""
    connection.execute(_WRITE, {"name": _NAME, "value": check_value})
    value: bytes = connection.execute(_READ, {"of": _NAME}).scalar_one()
    return value
