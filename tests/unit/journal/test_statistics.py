from __future__ import annotations

from sqlalchemy import Connection

from ra.journal.records import Statistics
from ra.journal.settle import settle_rejected
from ra.journal.statistics import count
from tests.fakes.enrolments import NOW, a_transaction, an_identity, digest, released, submitting


def test_what_was_issued_is_counted_and_renewals_among_it(connection: Connection) -> None:
    released(connection)
    released(connection, a_transaction(an_identity(renewal_signer=digest("signer"))))
    submitting(connection)
    settle_rejected(connection, submitting(connection), "policy", "no", NOW)

    assert Statistics(issued=2, renewals=1) == count(connection)
