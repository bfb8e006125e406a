"""Brings the tables to the revision that this program needs."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, inspect

from ra.journal.migrations import HEAD, newer, revision_of

FIRST = "0001"
"""What journals are of that were made before revisions had numbers."""


def upgrade(connection: Connection) -> tuple[str | None, str]:
    """Runs what is missing, within the connection's transaction; returns the revisions before and after.

    Raises:
        Misconfigured: a newer program has been here.
    """
    before = revision_of(connection)
    if before is not None and before > HEAD:
        raise newer(before)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    if before is None and inspect(connection).has_table("transactions"):
        command.stamp(config, FIRST)
        before = FIRST
    if before != HEAD:
        command.upgrade(config, HEAD)
    return before, HEAD
