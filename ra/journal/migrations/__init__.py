"""How the tables came to be what they are, revision by revision, forward only; and which revision this program needs.

A revision is one file in versions/. It says by itself what it needs of the tables of its time, and never changes.
"""

from __future__ import annotations

from sqlalchemy import Connection, inspect, text

from ra import __version__
from ra.errors import Misconfigured

HEAD = "0006"
"""The newest revision, so that whoever only opens a journal need not look for it."""

_READ = text("SELECT version_num FROM alembic_version")


def revision_of(connection: Connection) -> str | None:
    """The revision of the tables; None where there are none, or none that has a number."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(_READ).scalar()
    return found


def insist_on_head(connection: Connection) -> None:
    """Demands the revision that this program works with.

    Raises:
        Misconfigured: it is another one.
    """
    found = revision_of(connection)
    if found is None or found < HEAD:
        raise Misconfigured(
            f"[database] url: the journal there is of revision {found or 'none'}, this program needs {HEAD}: "
            "run `scep-ra db upgrade`"
        )
    if found > HEAD:
        raise newer(found)


def newer(found: str) -> Misconfigured:
    """What is wrong with a journal that a newer program has upgraded."""
    return Misconfigured(
        f"[database] url: the journal there is of revision {found}, and scep-ra {__version__} knows none beyond {HEAD}: "
        "run the newer scep-ra that upgraded it"
    )
