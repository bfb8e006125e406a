from __future__ import annotations

import pytest
from sqlalchemy import Connection, event
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.elements import ClauseElement

from ra.journal import audit, refusals, statements, statistics, transactions
from ra.journal.states import State
from tests.fakes.enrolments import MINUTE, NOW, a_certificate, a_secret, a_transaction, an_identity

POSTGRESQL = PGDialect()  # type: ignore[no-untyped-call]  # SQLAlchemy does not annotate it
STATEMENTS = {
    f"{module.__name__}.{name}": value
    for module in (audit, refusals, statements, statistics)
    for name, value in vars(module).items()
    if isinstance(value, Executable) and isinstance(value, ClauseElement)
} | {"move": statements.move(frozenset({State.SUBMITTING, State.PENDING}))}


class Counter:
    """Counts the statements a connection executes, and remembers them."""

    def __init__(self, connection: Connection) -> None:
        self.seen: list[tuple[str, object]] = []
        event.listen(connection, "before_cursor_execute", self._note)

    def _note(self, *details: object) -> None:
        self.seen.append((str(details[2]), details[3]))


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_every_statement_is_one_that_postgresql_understands(name: str) -> None:
    compiled = str(STATEMENTS[name].compile(dialect=POSTGRESQL))

    assert compiled.split(maxsplit=1)[0] in {"SELECT", "INSERT", "UPDATE", "DELETE"}
    assert ("ON CONFLICT" in compiled) == (name.rsplit(".", 1)[-1] in {"AUTHORISE", "SPEND", "REMEMBER"})


def test_a_new_request_costs_one_statement_to_recall_three_to_authorise_and_two_to_release(
    connection: Connection,
) -> None:
    counter = Counter(connection)
    new = a_transaction(spend=a_secret())

    transactions.recall(connection, new.identity, NOW)
    after_recall = len(counter.seen)
    transaction = transactions.authorise(connection, new, NOW)
    after_authorise = len(counter.seen)
    transactions.release(connection, transaction, a_certificate(), NOW + MINUTE, delivered=True)
    after_release = len(counter.seen)

    assert [1, 1 + 3, 1 + 3 + 2] == [after_recall, after_authorise, after_release]


def test_polling_and_every_other_outcome_cost_at_most_three_statements(connection: Connection) -> None:
    new = a_transaction(spend=a_secret())
    transaction = transactions.authorise(connection, new, NOW)
    counter = Counter(connection)

    transactions.find(connection, "default", new.identity.signer_key, new.identity.transaction_id)
    pending = transactions.settle_pending(connection, transaction, "order 1", NOW + MINUTE, NOW)
    transactions.settle_rejected(connection, pending, "policy", "not you", NOW)

    assert 1 + 2 + 3 == len(counter.seen)


def test_no_lookup_scans_a_table_and_no_count_reads_one(connection: Connection) -> None:
    counter = Counter(connection)
    identity = an_identity()
    transactions.recall(connection, identity, NOW)
    transactions.find(connection, "default", identity.signer_key, identity.transaction_id)
    statistics.count(connection)
    looked_up = list(counter.seen)

    plans = [
        str(step.detail)
        for statement, parameters in looked_up
        for step in connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, parameters)  # type: ignore[arg-type]  # as the driver had them
    ]

    assert 3 == len(looked_up)
    assert [] == [step for step in plans if step.startswith("SCAN") and step != "SCAN CONSTANT ROW"]
    assert 2 == sum("COVERING INDEX transactions_certificates" in step for step in plans)
