"""What the info endpoint counts. Counted on an index; a caller that is asked often keeps the answer for some seconds."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from ra.journal.records import Statistics
from ra.journal.tables import transactions

_ISSUED = select(func.count()).where(transactions.c.serial.is_not(None))
_COUNT = select(
    _ISSUED.scalar_subquery().label("issued"),
    _ISSUED.where(transactions.c.renewal_signer.is_not(None)).scalar_subquery().label("renewals"),
)


def count(connection: Connection) -> Statistics:
    """Certificates issued, renewals among them, since the journal began."""
    row = connection.execute(_COUNT).one()
    return Statistics(issued=row.issued, renewals=row.renewals)
