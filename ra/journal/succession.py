"""Certificates that follow each other: which keys a device has had before, and that the one before is to be revoked."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection

from ra.journal import statements
from ra.journal.records import Transaction

MAX_LINEAGE = 64
"""Renewals that are followed back."""


def lineage(connection: Connection, which: UUID) -> frozenset[bytes]:
    """Digests of the keys that were certified by a transaction and by those that it renews, as far as they are known.

    Reads only.
    """
    keys: set[bytes] = set()
    next_one: UUID | None = which
    for _ in range(MAX_LINEAGE):
        row = connection.execute(statements.ANCESTRY, {"of": next_one}).first()
        if row is None:
            break
        # What it was signed with is the key before, and is known when that transaction is forgotten.
        keys |= {row.csr_key, row.signer_key}
        next_one = row.renews
    return frozenset(keys)


def supersede(connection: Connection, successor: Transaction, at: datetime) -> None:
    """Has the certificate that `successor` renews revoked as superseded at that time, while it is RELEASED; once."""
    if successor.renews is not None:
        connection.execute(statements.SUPERSEDE, {"of": successor.renews, "of_at": at})
